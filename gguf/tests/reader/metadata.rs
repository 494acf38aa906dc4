//! Metadata of every type, as gguf-py wrote it.

use anepipe_gguf::{Array, GgufError, Value};

use crate::fixture;

#[test]
fn every_type_of_value_is_read() {
    let model = fixture::open("values.gguf");
    let expected = [
        ("uint8", Value::U8(255)),
        ("int8", Value::I8(-128)),
        ("uint16", Value::U16(65535)),
        ("int16", Value::I16(-32768)),
        ("uint32", Value::U32(u32::MAX)),
        ("int32", Value::I32(i32::MIN)),
        ("float32", Value::F32(1.190_238)),
        ("uint64", Value::U64(u64::MAX)),
        ("int64", Value::I64(i64::MIN)),
        ("float64", Value::F64(std::f64::consts::PI)),
        ("bool.true", Value::Bool(true)),
        ("bool.false", Value::Bool(false)),
        ("string", Value::String("naïve Ġ 🦀".into())),
        ("array.uint8", Value::Array(Array::U8(vec![0, 255]))),
        ("array.int8", Value::Array(Array::I8(vec![-128, 127]))),
        ("array.uint16", Value::Array(Array::U16(vec![0, 65535]))),
        ("array.int16", Value::Array(Array::I16(vec![-32768, 32767]))),
        ("array.uint32", Value::Array(Array::U32(vec![0, u32::MAX]))),
        ("array.int32", Value::Array(Array::I32(vec![i32::MIN, i32::MAX]))),
        ("array.float32", Value::Array(Array::F32(vec![0.5, -1.5]))),
        ("array.uint64", Value::Array(Array::U64(vec![0, u64::MAX]))),
        ("array.int64", Value::Array(Array::I64(vec![i64::MIN, i64::MAX]))),
        ("array.float64", Value::Array(Array::F64(vec![0.1, -0.2]))),
        ("array.bool", Value::Array(Array::Bool(vec![true, false, true]))),
        ("array.string", Value::Array(Array::String(["", "Ġthe", "<|end|>", "🦀"].into_iter().collect()))),
        ("array.array", Value::Array(Array::Array(vec![Array::I32(vec![1, 2, 3]), Array::I32(vec![4])]))),
    ];
    for (key, value) in &expected {
        assert_eq!(model.metadata().get(key), Some(value), "{key}");
    }
    assert_eq!(model.metadata().get("no.such.key"), None);
}

#[test]
fn keys_come_in_file_order() {
    let model = fixture::open("values.gguf");
    let keys: Vec<&str> = model.metadata().iter().map(|(key, _)| key).collect();
    assert_eq!(
        keys[..6],
        [
            "general.architecture",
            "fixture.script",
            "fixture.gguf",
            "fixture.numpy",
            "general.alignment",
            "uint8"
        ]
    );
    assert_eq!(keys.len(), 31);
}

#[test]
fn integers_of_any_width_are_read_where_they_fit() {
    let model = fixture::open("values.gguf");
    let metadata = model.metadata();
    assert_eq!(metadata.u32("uint8").unwrap(), 255);
    assert_eq!(metadata.u32("uint32").unwrap(), u32::MAX);
    assert_eq!(metadata.u64("uint64").unwrap(), u64::MAX);
    assert_eq!(metadata.read::<i64>("int64").unwrap(), i64::MIN);
    for (key, found) in [
        ("int8", "int8 -128"),
        ("uint64", "uint64 18446744073709551615"),
        ("float32", "float32 1.190238"),
        ("string", "string \"naïve Ġ 🦀\""),
        ("array.int32", "an array of 2 int32"),
    ] {
        let error = metadata.u32(key).unwrap_err();
        let GgufError::WrongType { key: named, expected, found: named_found, .. } = error else {
            panic!("{error}")
        };
        assert_eq!(
            (named.as_str(), expected, named_found.as_str()),
            (key, "an integer of 0 to 2^32-1", found)
        );
    }
}

#[test]
fn typed_getters_give_the_type_or_say_what_is_there() {
    let model = fixture::open("values.gguf");
    let metadata = model.metadata();
    assert!((metadata.f32("float32").unwrap() - 1.190_238).abs() < 1e-7);
    assert!(metadata.bool("bool.true").unwrap());
    assert_eq!(metadata.string("string").unwrap(), "naïve Ġ 🦀");
    assert_eq!(metadata.array("array.bool").unwrap().len(), 3);
    assert_eq!(metadata.read::<&[i32]>("array.int32").unwrap(), [i32::MIN, i32::MAX]);
    assert_eq!(
        metadata.f32("uint8").unwrap_err().to_string(),
        format!(
            "metadata key \"uint8\" of {} should hold a float32, but holds uint8 255",
            fixture::path("values.gguf").display()
        )
    );
}

#[test]
fn a_missing_key_is_an_error_that_names_it_unless_it_is_optional() {
    let model = fixture::open("values.gguf");
    let metadata = model.metadata();
    let error = metadata.u32("phi3.block_count").unwrap_err();
    assert!(error.is_missing());
    assert!(error.to_string().ends_with("values.gguf has no metadata key \"phi3.block_count\""), "{error}");
    assert_eq!(metadata.optional::<u32>("phi3.block_count").unwrap(), None);
    assert_eq!(metadata.optional::<u32>("uint8").unwrap(), Some(255));
    assert!(metadata.optional::<u32>("string").is_err());
}

#[test]
fn strings_can_be_iterated_and_picked() {
    let model = fixture::open("values.gguf");
    let strings = model.metadata().strings("array.string").unwrap();
    assert_eq!(strings.iter().collect::<Vec<_>>(), ["", "Ġthe", "<|end|>", "🦀"]);
    let picked: Vec<_> = (0..5).map(|index| strings.get(index)).collect();
    assert_eq!(picked, [Some(""), Some("Ġthe"), Some("<|end|>"), Some("🦀"), None]);
    assert_eq!((strings.len(), strings.iter().len(), strings.is_empty()), (4, 4, false));
}

#[test]
fn general_alignment_moves_the_data() {
    let model = fixture::open("values.gguf");
    assert_eq!((model.version(), model.alignment()), (3, 64));
    // Offsets as gguf-py's own reader reports them.
    let placed: Vec<_> = model.tensors().map(|t| (t.name(), t.offset(), t.bytes().len())).collect();
    assert_eq!(placed, [("three", 1344, 96), ("one", 1472, 6), ("integers", 1536, 8)]);
}

#[test]
fn version_2_is_read_alike() {
    let mut bytes = std::fs::read(fixture::path("values.gguf")).unwrap();
    bytes[4] = 2;
    let model = fixture::read(bytes).unwrap();
    assert_eq!(model.version(), 2);
    assert_eq!(model.metadata().len(), 31);
    assert_eq!(fixture::all_f32(&model.tensor("three").unwrap())[23].to_bits(), 23.0_f32.to_bits());
}
