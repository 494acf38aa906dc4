//! What a table of blobs may say.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn blob(slot: Option<u32>, tensor: &str, part: &str, shape: &[u64], record: u64) -> Value {
    let (dtype, bytes) = if part == "int8" { ("int8", 1) } else { ("float16", 2) };
    json!({
        "name": format!("{slot:?} {tensor} {part}"), "slot": slot, "tensor": tensor, "part": part, "dtype": dtype,
        "shape": shape, "record": record, "data": record + 64, "size": shape.iter().product::<u64>() * bytes,
    })
}

/// A norm of 3 channels, and a matrix of 2 rows and 5 columns with its scales.
fn sound() -> Value {
    json!({ "schema": 1, "file_bytes": 64 + 64 + 64 + 64 + 64 + 64 + 4, "blobs": [
        blob(Some(0), "attn_norm", "weight", &[3], 64),
        blob(Some(0), "down", "int8", &[2, 5], 64 + 128),
        blob(Some(0), "down", "scale", &[2], 64 + 256),
    ]})
}

fn read(table: &Value) -> Result<BlobTable, BlobTableError> {
    BlobTable::from_json(table.to_string().as_bytes())
}

#[test]
fn a_sound_table_is_read_and_written_back_the_same() {
    let table = read(&sound()).unwrap();
    assert_eq!(table.file_bytes(), 388);
    assert_eq!(table.find(Some(0), TensorKind::Down, Part::Scale).unwrap().data, 384);
    assert_eq!(table.find(None, TensorKind::Down, Part::Scale), None);
    assert_eq!(serde_json::to_value(&table).unwrap(), sound());
}

#[test]
fn a_table_that_does_not_hold_together_is_refused_with_the_blob_and_the_reason() {
    let set = |path: &str, value: Value| {
        let mut table = sound();
        *table.pointer_mut(path).unwrap() = value;
        table
    };
    let with =
        |blobs: Vec<Value>, file_bytes: u64| json!({ "schema": 1, "file_bytes": file_bytes, "blobs": blobs });
    let norm = || blob(Some(0), "attn_norm", "weight", &[3], 64);
    let huge = blob(Some(0), "down", "int8", &[1 << 62, 1], 192);
    for (name, table, reason) in [
        ("schema", set("/schema", 2.into()), "schema 2 is unknown"),
        ("file size", set("/file_bytes", 448.into()), "said to have 448 bytes, but its blobs end at 388"),
        ("gap", set("/blobs/1/record", 256.into()), "its record is at byte 256, it must be at 192"),
        ("overlap", set("/blobs/1/record", 128.into()), "its record is at byte 128, it must be at 192"),
        ("unaligned", set("/blobs/0/record", 65.into()), "its record is at byte 65, it must be at 64"),
        ("data", set("/blobs/2/data", 448.into()), "its data is at byte 448"),
        ("size", set("/blobs/0/size", 8.into()), "it has 8 bytes, which is not the size of Float16 [3]"),
        ("dtype", set("/blobs/0/dtype", "int8".into()), "a Weight is stored as Float16, not Int8"),
        ("shape", set("/blobs/1/shape", json!([2, 6])), "not the size of Int8 [2, 6]"),
        ("scalar", set("/blobs/1/shape", json!([])), "not the size of Int8 []"),
        ("empty", with(vec![blob(Some(0), "down", "int8", &[0, 5], 64)], 128), "it has 0 bytes"),
        ("product", set("/blobs/1/shape", json!([1_u64 << 40, 1_u64 << 40])), "not the size of Int8"),
        ("no slot", set("/blobs/0/slot", Value::Null), "AttnNorm belongs to a slot"),
        (
            "slot",
            with(vec![blob(Some(0), "lm_head", "int8", &[2, 5], 64)], 138),
            "LmHead does not belong to a slot",
        ),
        (
            "twice",
            with(vec![norm(), blob(Some(0), "attn_norm", "weight", &[3], 192)], 262),
            "stands in the table twice",
        ),
        ("tensor", set("/blobs/0/tensor", "norm".into()), "unknown variant `norm`"),
        ("field", set("/blobs/0", json!({ "name": "x" })), "missing field"),
        ("huge", with(vec![norm(), huge], 1 << 62), "but its blobs end at"),
    ] {
        let error = read(&table).expect_err(name).to_string();
        assert!(error.contains(reason), "{name}: {reason:?} is not in: {error}");
    }
    let mut more = sound();
    more["colour"] = 1.into();
    assert!(read(&more).unwrap_err().to_string().contains("colour"));
}

#[test]
fn a_table_too_large_to_be_one_is_not_read_into_memory() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("blobs.json");
    fs_err::File::create(&path).unwrap().set_len(1 << 40).unwrap();
    let error = BlobTable::read(&path).unwrap_err();
    assert!(matches!(error, GraphError::Blobs { error: BlobTableError::TooLarge, .. }), "{error}");
}

proptest! {
    #[test]
    fn changing_any_number_of_a_sound_table_breaks_it(
        which in 0_usize..3, field in prop::sample::select(vec!["record", "data", "size"]), value in any::<u64>()
    ) {
        let mut table = sound();
        let old = table["blobs"][which][field].as_u64();
        table["blobs"][which][field] = value.into();
        prop_assume!(old != Some(value));
        prop_assert!(read(&table).is_err());
    }
}
