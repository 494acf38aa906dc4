//! Damaged files: whatever stands in them, reading ends with a program or with a fault that names its place, never
//! with a panic.

use std::path::{Path, PathBuf};

use anepipe_mil::blob::WeightFile;
use anepipe_mil::compile::{CompileOptions, compile};
use anepipe_mil::modelc::{ModelC, ModelCError};
use anepipe_mil::proto::ModelSpec;
use anepipe_mil::text::{self, Dialect, ParseErrorKind};
use anepipe_testkit::SplitMix64;

const MODELS: [&str; 4] = ["stateful", "control_flow", "packed", "several_functions"];

fn fixture(path: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures")).join(path)
}

/// The text that `model` compiles to.
fn compiled_text(model: &str, dir: &Path) -> String {
    let out = dir.join(format!("{model}.mlmodelc"));
    compile(fixture(model).join("model.mlmodel"), &out, &CompileOptions::default()).unwrap();
    fs_err::read_to_string(out.join("model.mil")).unwrap()
}

/// Damages `bytes` in one to four places: changed, cut out, doubled, cut off, or with a piece of `pool` put in.
fn damage(bytes: &[u8], pool: &[&[u8]], random: &mut SplitMix64) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..=random.below(4) {
        let start = random.below(bytes.len() as u64 + 1) as usize;
        let end = (start + random.below(24) as usize).min(bytes.len());
        match random.below(6) {
            0 => bytes.iter_mut().skip(start).take(1).for_each(|byte| *byte ^= 1 << random.below(7)),
            1 => drop(bytes.drain(start..end)),
            2 => bytes.extend_from_within(start..end),
            3 => bytes.iter_mut().skip(start).take(1).for_each(|byte| *byte = random.next_u64() as u8),
            4 if random.below(8) == 0 => bytes.truncate(start),
            _ => {
                let piece = pool[random.below(pool.len() as u64) as usize];
                bytes.splice(start..start, piece.iter().copied());
            }
        }
    }
    bytes
}

#[test]
fn damaged_text_is_a_program_or_a_fault_with_its_place() {
    let pool = b"( ) [ ] { } < > , ; = ? ... -> \" \\ tensor< state< dict< tuple<> list< 0x1p+0 -inf nan 1e999 99999999999999999999 \
        func program( BLOBFILE( fp16 uint64 string true \xc3\xa9 _@ ios18 ; () { -> ( \0";
    let pool: Vec<_> = pool.split(|&b| b == b' ').collect();
    let dir = tempfile::tempdir().unwrap();
    let mut random = SplitMix64::new(1);
    let (mut programs, mut faults) = (0, 0);
    for model in MODELS {
        let text = compiled_text(model, dir.path());
        for _ in 0..3000 {
            let damaged = damage(text.as_bytes(), &pool, &mut random);
            let damaged = String::from_utf8_lossy(&damaged);
            match text::parse(&damaged) {
                Ok((dialect, program)) => {
                    programs += 1;
                    // Two parameters of one name, say, parse but may print in another order.
                    if let Ok(printed) = text::print(&program, dialect) {
                        let again = text::parse(&printed).unwrap().1;
                        assert_eq!(text::print(&again, dialect).unwrap(), printed);
                    }
                }
                Err(error) => {
                    faults += 1;
                    let before = damaged.get(..error.offset).unwrap();
                    assert_eq!(before.matches('\n').count() + 1, error.line, "{error}");
                    let line = before.rsplit('\n').next().unwrap();
                    assert_eq!(line.chars().count() + 1, error.column, "{error}");
                }
            }
        }
    }
    assert!(programs > 300 && faults > 5000, "{programs} programs, {faults} faults");
}

#[test]
fn damaged_protobufs_are_a_program_or_a_fault() {
    let pool: [&[u8]; 8] = [
        b"\x00",
        b"\x0a\x00",
        b"\xff\xff\xff\xff\x0f",
        b"\x12\x7f",
        b"\x08\xff\x01",
        b"main",
        b"\x1a\x02\x08\x01",
        b"\xb2\x1f",
    ];
    let mut random = SplitMix64::new(2);
    let (mut programs, mut faults) = (0, 0);
    for model in MODELS {
        let bytes = fs_err::read(fixture(model).join("model.mlmodel")).unwrap();
        for _ in 0..3000 {
            match ModelSpec::decode(&damage(&bytes, &pool, &mut random)) {
                Ok(model) => {
                    programs += 1;
                    if let Ok(text) = text::print(&model.program, Dialect::V1_3) {
                        text::parse(&text).unwrap();
                    }
                }
                Err(error) => {
                    faults += 1;
                    assert!(error.to_string().contains(": "), "{error}");
                }
            }
        }
    }
    assert!(programs > 300 && faults > 5000, "{programs} programs, {faults} faults");
}

#[test]
fn damaged_weight_files_give_bytes_of_the_file_or_a_fault() {
    let bytes = fs_err::read(fixture("blobs.bin")).unwrap();
    let pool: [&[u8]; 4] = [&[0xff; 8], &[0; 64], b"\xef\xbe\xad\xde", &[1]];
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("weight.bin");
    let mut random = SplitMix64::new(3);
    let (mut blobs, mut faults) = (0, 0);
    for _ in 0..1000 {
        fs_err::write(&path, damage(&bytes, &pool, &mut random)).unwrap();
        let Ok(file) = WeightFile::open(&path) else {
            faults += 1;
            continue;
        };
        for blob in file.blobs() {
            match blob {
                Ok((_, blob)) => {
                    blobs += 1;
                    assert!(blob.data.len() as u64 <= file.len());
                }
                Err(_) => faults += 1,
            }
        }
        fs_err::remove_file(&path).unwrap();
    }
    assert!(blobs > 1000 && faults > 500, "{blobs} blobs, {faults} faults");
}

#[test]
fn the_place_of_a_fault_is_exact() {
    let program =
        |body: &str| format!("program(1.3)\n{{\n func main<ios18>(fp16 é_) {{\n{body}\n}} -> (y);\n}}");
    let table: [(String, usize, usize, &str); 16] = [
        (String::new(), 1, 1, "expected `program`, which begins MIL text, found the end of the text"),
        ("program(2.0) {}".into(), 1, 9, "text version 2.0 is unknown"),
        (program(""), 3, 24, "the character 'é' has no meaning in MIL text"),
        ("program(1.3) {} x".into(), 1, 17, "expected the end of the program, found `x`"),
        ("program(1.3)\n{ func f<ios99>".into(), 2, 10, "`ios99` is not a known operator set"),
        (
            "program(1.3)[a = string(\"x)] {}".into(),
            1,
            25,
            "the string that begins here has no closing quote",
        ),
        ("program(1.3)[a = string(\"x\\q\")] {}".into(), 1, 27, "`\\q` is not an escape"),
        ("program(1.3)[a = fp17(0x1p+0)] {}".into(), 1, 18, "`fp17` is not a type"),
        ("program(1.3)[a = int8(128)] {}".into(), 1, 23, "`128` is not a int8 integer"),
        ("program(1.3)[a = fp16(0x1.g)] {}".into(), 1, 23, "`0x1.g`: not a floating-point number"),
        ("program(1.3)[a = fp16(0x1p+9999)] {}".into(), 1, 23, "`0x1p+9999`: not exactly representable"),
        (
            "program(1.3)[a = tensor<bool, [2, 2]>([[true, true], [true]])] {}".into(),
            1,
            59,
            "axis 1 of this tensor holds 1",
        ),
        (
            "program(1.3)[a = tuple<bool>((true, true))] {}".into(),
            1,
            37,
            "expected `)`, for the type has no more",
        ),
        (
            "program(1.3)[a = list<bool, 2>([true])] {}".into(),
            1,
            32,
            "1 members are written here, the type says 2",
        ),
        ("program(1.3)[a = bool(true), a = bool(true)] {}".into(), 1, 30, "attribute `a` is given twice"),
        (
            "program(1.3)[a = state<bool>(true)] {}".into(),
            1,
            30,
            "a value of type state<bool> cannot be written",
        ),
    ];
    for (text, line, column, message) in table {
        let error = text::parse(&text).unwrap_err();
        assert_eq!((error.line, error.column), (line, column), "{text}: {error}");
        assert!(error.kind.to_string().starts_with(message), "{text}: {error}");
    }
}

#[test]
fn bombs_of_nesting_are_refused() {
    let many = 100_000;
    let types = format!("program(1.3)[a = {}", "tuple<".repeat(many));
    let blocks = format!("program(1.3) {{ func f<ios18>() {{ {}", "x() () { ".repeat(many));
    for text in [types, blocks] {
        assert_eq!(text::parse(&text).unwrap_err().kind, ParseErrorKind::TooDeep);
    }
    let shape = format!("program(1.3)[a = tensor<bool, [{}]>(", vec!["1"; many].join(", "));
    assert_eq!(text::parse(&shape).unwrap_err().kind, ParseErrorKind::RankTooHigh);

    // Model { mlProgram { attributes { value { type { tupleType { types { tupleType … } } } } } } }, from the inside
    // out.
    let mut message = Vec::new();
    for field in [0x0a, 0x1a].iter().cycle().take(2000).chain(&[0x12, 0x12, 0x22]) {
        let length = prost::length_delimiter_len(message.len());
        let mut outer = vec![*field];
        prost::encode_length_delimiter(message.len(), &mut outer).unwrap();
        assert_eq!(outer.len(), 1 + length);
        outer.append(&mut message);
        message = outer;
    }
    let mut model = vec![0xb2, 0x1f];
    prost::encode_length_delimiter(message.len(), &mut model).unwrap();
    model.append(&mut message);
    assert!(ModelSpec::decode(&model).unwrap_err().to_string().contains("recursion limit"));
}

/// What a header or a shape claims is not believed before the bytes are there.
#[test]
fn claims_of_size_cost_nothing() {
    let huge = "program(1.3)[a = tensor<fp16, [18446744073709551615, 18446744073709551615]>([[0x1p+0]])] {}";
    assert!(matches!(text::parse(huge).unwrap_err().kind, ParseErrorKind::Extent { axis: 1, .. }));
    let empty = "program(1.3)[a = tensor<fp16, [0, 18446744073709551615]>([])] {}";
    let (dialect, program) = text::parse(empty).unwrap();
    assert_eq!(
        text::print(&program, dialect).unwrap(),
        empty.replace(")[", ")\n[").replace("] {}", "]\n{\n}")
    );
}

/// Each row changes a sound compiled model; the message begins with the file at fault.
#[test]
fn a_damaged_compiled_model_is_named() {
    let dir = tempfile::tempdir().unwrap();
    compiled_text("stateful", dir.path());
    let model = dir.path().join("stateful.mlmodelc");
    let text = model.join("model.mil");
    let weights = model.join("weights/weight.bin");
    let message = || ModelC::open(&model).unwrap_err().to_string();
    let sound = fs_err::read(&text).unwrap();
    ModelC::open(&model).unwrap();

    fs_err::write(&text, [&sound[..100], b"\xff", &sound[100..]].concat()).unwrap();
    assert_eq!(
        message(),
        format!(
            "{}: line 2, column 88 (byte 100): not UTF-8; the file is damaged, or no MIL text",
            text.display()
        )
    );
    for (from, to, file, expected) in [
        ("weight.bin", "../weight.bin", &model, "is not one below `@model_path/`"),
        ("@model_path", "/etc", &model, "is not one below `@model_path/`"),
        ("uint64(64)", "uint64(128)", &weights, "no blob record can lie at byte 128"),
        (
            "tensor<int8, [4, 4]>(BLOB",
            "tensor<int8, [4, 5]>(BLOB",
            &weights,
            "the program says tensor<int8, [4, 5]>, 20 bytes",
        ),
        ("tensor<int8, [4, 4]>(BLOB", "tensor<uint8, [4, 4]>(BLOB", &weights, "holds 16 bytes of int8"),
    ] {
        let changed = String::from_utf8(sound.clone()).unwrap().replace(from, to);
        fs_err::write(&text, changed).unwrap();
        let message = message();
        assert!(message.starts_with(&file.display().to_string()) && message.contains(expected), "{message}");
    }
    fs_err::write(&text, &sound).unwrap();
    let bytes = fs_err::read(&weights).unwrap();
    fs_err::write(&weights, &bytes[..bytes.len() - 1]).unwrap();
    assert!(message().contains("says 16 bytes of data at byte 128; the file has 143 bytes"), "{}", message());
    fs_err::remove_file(&weights).unwrap();
    assert!(message().contains(&weights.display().to_string()), "{}", message());
    fs_err::create_dir(&weights).unwrap();
    assert!(message().contains("a weight file is expected here"), "{}", message());
    fs_err::remove_file(&text).unwrap();
    assert!(matches!(ModelC::open(&model), Err(ModelCError::NoProgram { .. })));
    assert!(matches!(ModelC::open(dir.path().join("absent")), Err(ModelCError::Io(_))));
    fs_err::write(&text, "").unwrap();
    assert!(matches!(ModelC::open(&text), Err(ModelCError::NotADirectory { .. })));
}
