//! Every way a file can be wrong has an error of its own that says where.

use std::path::Path;

use anepipe_gguf::{Gguf, GgufError, Malformed, TensorType};
use anepipe_testkit::GgufWriter;

use crate::fixture;

/// A file built field by field, so that any field can be wrong.
struct Raw(Vec<u8>);

impl Raw {
    /// Magic, version 3 and the two counts: 24 bytes.
    fn head(tensors: u64, keys: u64) -> Self {
        Self(b"GGUF".to_vec()).u32(3).u64(tensors).u64(keys)
    }

    fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.extend(bytes);
        self
    }

    fn u32(self, value: u32) -> Self {
        self.bytes(&value.to_le_bytes())
    }

    fn u64(self, value: u64) -> Self {
        self.bytes(&value.to_le_bytes())
    }

    fn string(self, text: &str) -> Self {
        self.u64(text.len() as u64).bytes(text.as_bytes())
    }

    /// A key's name and type; its value is to follow.
    fn key(self, name: &str, type_id: u32) -> Self {
        self.string(name).u32(type_id)
    }

    fn tensor(self, name: &str, dims: &[u64], type_id: u32, start: u64) -> Self {
        let named = self.string(name).u32(dims.len() as u32);
        dims.iter().fold(named, |raw, &dim| raw.u64(dim)).u32(type_id).u64(start)
    }

    /// Zeros up to `len`.
    fn padded_to(mut self, len: usize) -> Self {
        self.0.resize(len, 0);
        self
    }

    /// Where the file is malformed, and how.
    fn fault(self) -> (u64, Malformed) {
        fault(self.0)
    }
}

fn fault(bytes: Vec<u8>) -> (u64, Malformed) {
    match fixture::read(bytes).unwrap_err() {
        GgufError::Malformed { offset, problem, .. } => (offset, *problem),
        other => panic!("{other}"),
    }
}

fn s(text: &str) -> String {
    text.to_owned()
}

const F32: u32 = 0;
const Q8_0: u32 = 8;
const ARRAY: u32 = 9;
const STRING: u32 = 8;
const BOOL: u32 = 7;
const U8: u32 = 0;
const U32: u32 = 4;
const HUGE: u64 = 1 << 60;

#[test]
fn what_is_not_a_gguf_file() {
    assert_eq!(fault(vec![]), (0, Malformed::Empty));
    assert_eq!(fault(b"PK\x03\x04rest".to_vec()), (0, Malformed::WrongMagic { found: *b"PK\x03\x04" }));
    let empty = tempfile::NamedTempFile::new().unwrap();
    let error = Gguf::open(empty.path()).unwrap_err();
    assert!(
        matches!(&error, GgufError::Malformed { problem, .. } if **problem == Malformed::Empty),
        "{error}"
    );
}

#[test]
fn what_is_not_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let error = Gguf::open(dir.path()).unwrap_err();
    assert!(matches!(&error, GgufError::NotAFile { found: "a directory", .. }), "{error}");
    let error = Gguf::open(Path::new("/dev/null")).unwrap_err();
    assert!(matches!(&error, GgufError::NotAFile { found: "a device or pipe", .. }), "{error}");
    let absent = dir.path().join("absent.gguf");
    let error = Gguf::open(&absent).unwrap_err();
    assert!(
        matches!(&error, GgufError::Open { file, source }
        if *file == absent && source.kind() == std::io::ErrorKind::NotFound),
        "{error}"
    );
}

#[test]
fn byte_orders_and_versions_that_are_not_read() {
    let error = Gguf::open(&fixture::path("big-endian.gguf")).unwrap_err();
    assert!(
        matches!(&error, GgufError::Malformed { offset: 4, problem, .. } if **problem == Malformed::BigEndian),
        "{error}"
    );
    assert_eq!(fault(b"FUGG\0\0\0\x03".to_vec()), (0, Malformed::BigEndian));
    for version in [0, 1, 4, 65535] {
        let bytes = Raw(b"GGUF".to_vec()).u32(version).u64(0).u64(0);
        assert_eq!(bytes.fault(), (4, Malformed::UnsupportedVersion { version }));
    }
}

#[test]
fn counts_that_the_file_cannot_hold() {
    let claim = |reading: &str, claimed, at_most| Malformed::Claim { reading: s(reading), claimed, at_most };
    assert_eq!(Raw::head(HUGE, 0).fault(), (8, claim("the list of tensors", HUGE, 0)));
    assert_eq!(Raw::head(0, HUGE).fault(), (16, claim("the metadata", HUGE, 0)));
    // With room for a little more than nothing, too.
    assert_eq!(Raw::head(HUGE, 0).padded_to(100).fault(), (8, claim("the list of tensors", HUGE, 2)));
    for (element, width) in [(U8, 1), (U32, 4), (STRING, 8), (ARRAY, 12)] {
        let file = Raw::head(0, 1).key("k", ARRAY).u32(element).u64(HUGE).padded_to(49 + 24);
        assert_eq!(file.fault(), (41, claim("the value of metadata key \"k\"", HUGE, 24 / width)));
    }
}

#[test]
fn strings_that_the_file_cannot_hold() {
    let cut = |reading: &str, left| Malformed::Truncated { reading: s(reading), needed: HUGE, left };
    let file = Raw::head(0, 1).u64(HUGE).padded_to(64);
    assert_eq!(file.fault(), (32, cut("the name of metadata key 1 of 1", 32)));
    let file = Raw::head(0, 1).key("k", STRING).u64(HUGE);
    assert_eq!(file.fault(), (45, cut("the value of metadata key \"k\"", 0)));
    let file = Raw::head(0, 1).key("k", ARRAY).u32(STRING).u64(1).u64(HUGE);
    assert_eq!(file.fault(), (57, cut("the value of metadata key \"k\"", 0)));
    let file = Raw::head(1, 0).u64(HUGE).padded_to(64);
    assert_eq!(file.fault(), (32, cut("the name of tensor 1 of 1", 32)));
}

#[test]
fn a_file_cut_anywhere_says_so() {
    let files = ["types.gguf", "values.gguf"].map(|name| std::fs::read(fixture::path(name)).unwrap());
    for whole in files {
        let model = fixture::read(whole.clone()).unwrap();
        let end = model.tensors().map(|t| t.offset() + t.bytes().len() as u64).max().unwrap();
        // In the head every length; in the data of the larger file, which is all alike, every 97th.
        let data = model.tensors().map(|t| t.offset()).min().unwrap() as usize;
        for len in (1..data).chain((data..end as usize).step_by(97)).chain([end as usize - 1]) {
            let (offset, problem) = fault(whole[..len].to_vec());
            let cut = matches!(
                problem,
                Malformed::Truncated { .. } | Malformed::Claim { .. } | Malformed::OutOfRange { .. }
            );
            assert!(cut && offset <= end, "{len} bytes: at byte {offset}, {problem}");
        }
        // What follows the last tensor is padding, which nobody needs.
        fixture::read(whole[..end as usize].to_vec()).unwrap();
    }
}

#[test]
fn values_that_are_not_of_their_type() {
    let reading = || s("the value of metadata key \"k\"");
    let file = Raw::head(0, 1).key("k", 13).u64(0);
    assert_eq!(file.fault(), (33, Malformed::UnknownValueType { reading: reading(), id: 13 }));
    let file = Raw::head(0, 1).key("k", ARRAY).u32(99).u64(0);
    assert_eq!(file.fault(), (37, Malformed::UnknownValueType { reading: reading(), id: 99 }));
    let file = Raw::head(0, 1).key("k", BOOL).bytes(&[2]);
    assert_eq!(file.fault(), (37, Malformed::NotBool { reading: reading(), found: 2 }));
    let file = Raw::head(0, 1).key("k", ARRAY).u32(BOOL).u64(3).bytes(&[1, 0, 255]);
    assert_eq!(file.fault(), (51, Malformed::NotBool { reading: reading(), found: 255 }));
}

#[test]
fn text_that_is_not_utf8() {
    let not = |reading: &str| Malformed::NotUtf8 { reading: s(reading) };
    let file = Raw::head(0, 1).u64(2).bytes(b"k\xff").u32(U8).bytes(&[0]);
    assert_eq!(file.fault(), (33, not("the name of metadata key 1 of 1")));
    let file = Raw::head(0, 1).key("k", STRING).u64(1).bytes(b"\xc3");
    assert_eq!(file.fault(), (45, not("the value of metadata key \"k\"")));
    let file = Raw::head(1, 0).u64(3).bytes(b"\xf0\x9f\x00").padded_to(99);
    assert_eq!(file.fault(), (32, not("the name of tensor 1 of 1")));
}

#[test]
fn arrays_in_arrays_end_somewhere() {
    let nested = |depth: u32| {
        let outer = (1..depth).fold(Raw::head(0, 1).key("k", ARRAY), |raw, _| raw.u32(ARRAY).u64(1));
        outer.u32(U8).u64(1).bytes(&[7])
    };
    let model = fixture::read(nested(4).0).unwrap();
    assert_eq!(model.metadata().array("k").unwrap().len(), 1);
    let (offset, problem) = nested(5).fault();
    let reading = s("the value of metadata key \"k\"");
    assert_eq!((offset, problem), (37 + 4 * 12, Malformed::NestedTooDeep { reading, limit: 4 }));
    // As deep as the file is long: neither a stack nor a heap is spent on it.
    assert!(matches!(nested(10_000).fault().1, Malformed::NestedTooDeep { .. }));
}

#[test]
fn names_that_stand_twice() {
    let file = Raw::head(0, 2).key("k", U8).bytes(&[1]).key("k", U8).bytes(&[2]);
    assert_eq!(file.fault(), (38, Malformed::DuplicateKey { key: s("k") }));
    let file = Raw::head(2, 0).tensor("t", &[1], F32, 0).tensor("t", &[1], F32, 32).padded_to(200);
    assert_eq!(file.fault(), (57, Malformed::DuplicateTensor { tensor: s("t") }));
}

#[test]
fn alignments_that_are_none() {
    for (value, found) in [(0, "uint32 0"), (3, "uint32 3"), (u32::MAX, "uint32 4294967295")] {
        let file = Raw::head(0, 1).key("general.alignment", U32).u32(value);
        assert_eq!(file.fault().1, Malformed::BadAlignment { found: s(found) });
    }
    let file = Raw::head(0, 1).key("general.alignment", STRING).string("32");
    assert_eq!(file.fault().1, Malformed::BadAlignment { found: s("string \"32\"") });
    let file = Raw::head(0, 1).key("general.alignment", 10).u64(1 << 32);
    assert_eq!(file.fault().1, Malformed::BadAlignment { found: s("uint64 4294967296") });
    for alignment in [1, 2, 8, 4096] {
        let file = GgufWriter::new().alignment(alignment).f32("t", &[2], &[1.0, 2.0]);
        let model = fixture::read(file.to_bytes()).unwrap();
        assert_eq!(model.alignment(), u64::from(alignment));
        assert_eq!(
            fixture::all_f32(&model.tensor("t").unwrap()).map_bits(),
            [1.0_f32, 2.0].map(f32::to_bits)
        );
    }
}

trait MapBits {
    fn map_bits(&self) -> Vec<u32>;
}

impl MapBits for Vec<f32> {
    fn map_bits(&self) -> Vec<u32> {
        self.iter().map(|w| w.to_bits()).collect()
    }
}

#[test]
fn shapes_that_are_none() {
    let t = || s("t");
    let file = |dims: &[u64], type_id| Raw::head(1, 0).tensor("t", dims, type_id, 0).padded_to(4096).fault();
    assert_eq!(file(&[], F32), (33, Malformed::DimensionCount { tensor: t(), count: 0 }));
    assert_eq!(file(&[1; 5], F32), (33, Malformed::DimensionCount { tensor: t(), count: 5 }));
    assert_eq!(file(&[0], F32), (37, Malformed::ZeroDimension { tensor: t(), axis: 0 }));
    assert_eq!(file(&[4, 1, 0], F32), (53, Malformed::ZeroDimension { tensor: t(), axis: 2 }));
    let claimed = Raw::head(1, 0).string("t").u32(u32::MAX).padded_to(99).fault();
    assert_eq!(claimed, (33, Malformed::DimensionCount { tensor: t(), count: u32::MAX }));
    for dims in [vec![1 << 32, 1 << 32], vec![u64::MAX, 1, 2], vec![1, 1 << 62, 4], vec![1 << 62]] {
        assert_eq!(file(&dims, F32), (24, Malformed::TooLarge { tensor: t(), dims }));
    }
    let (dtype, row_len, block_len) = (TensorType::Q8_0, 48, 32);
    assert_eq!(
        file(&[48, 2], Q8_0),
        (24, Malformed::RowNotBlocks { tensor: t(), dtype, row_len, block_len })
    );
}

#[test]
fn data_that_is_not_in_the_file() {
    // The head is 57 bytes, so the data starts at byte 64.
    let file = |dims: &[u64], start| Raw::head(1, 0).tensor("t", dims, F32, start).padded_to(96).fault();
    let out = |bytes| Malformed::OutOfRange { tensor: s("t"), bytes, file_len: 96 };
    assert_eq!(file(&[9], 0), (64, out(36)));
    assert_eq!(file(&[1 << 40], 0), (64, out(1 << 42)));
    assert_eq!(file(&[1], 32), (96, out(4)));
    assert_eq!(file(&[1], 1 << 40), ((1 << 40) + 64, out(4)));
    assert_eq!(file(&[1], u64::MAX - 31), (u64::MAX, out(4)));
    let misaligned = Malformed::Misaligned { tensor: s("t"), start: 8, alignment: 32 };
    assert_eq!(file(&[1], 8), (24, misaligned));
    // The data section itself may lie past the end.
    let short = Raw::head(1, 0).tensor("t", &[1], F32, 0).fault();
    assert_eq!(short, (64, Malformed::OutOfRange { tensor: s("t"), bytes: 4, file_len: 57 }));
}

#[test]
fn data_that_two_tensors_share() {
    let file = |a: (u64, u32), b: (u64, u32)| {
        let raw = Raw::head(2, 0).tensor("a", &[16], a.1, a.0).tensor("b", &[16], b.1, b.0);
        fixture::read(raw.padded_to(96 + 128).0).map_err(|error| match error {
            GgufError::Malformed { offset, problem, .. } => (offset, *problem),
            other => panic!("{other}"),
        })
    };
    let overlap = |tensor: &str, other: &str| Malformed::Overlap { tensor: s(tensor), other: s(other) };
    assert_eq!(file((0, F32), (32, F32)).unwrap_err(), (96 + 32, overlap("b", "a")));
    assert_eq!(file((32, F32), (0, F32)).unwrap_err(), (96 + 32, overlap("a", "b")));
    assert_eq!(file((64, F32), (64, F32)).unwrap_err(), (96 + 64, overlap("b", "a")));
    assert_eq!(file((0, 1000), (0, F32)).unwrap_err(), (96, overlap("b", "a")));
    // Order in the list is not order in the file.
    assert_eq!(file((64, F32), (0, F32)).unwrap().tensors().len(), 2);
}

#[test]
fn messages_name_the_file_the_place_and_what_to_do() {
    let messages = [
        (
            Raw::head(0, HUGE).0,
            "cannot read memory.gguf as GGUF: at byte 16, the metadata claims 1152921504606846976 entries, and the bytes left \
             hold at most 0; the file is damaged or cut short",
        ),
        (
            Raw::head(0, 1).key("k", STRING).u64(9).bytes(b"abc").0,
            "cannot read memory.gguf as GGUF: at byte 45, the file ends in the value of metadata key \"k\": 9 bytes are needed \
             and 3 are left; fetch or copy the file again",
        ),
        (
            Raw::head(1, 0).tensor("t", &[9], F32, 0).padded_to(80).0,
            "cannot read memory.gguf as GGUF: at byte 64, tensor \"t\" needs 36 bytes from there on, and the file ends at byte \
             80; fetch or copy the file again",
        ),
        (
            b"\x80PK!".to_vec(),
            "cannot read memory.gguf as GGUF: at byte 0, the file starts with \"\\x80PK!\" where \"GGUF\" should stand; it is \
             not a GGUF file",
        ),
    ];
    for (bytes, message) in messages {
        assert_eq!(fixture::read(bytes).unwrap_err().to_string(), message);
    }
}
