//! Every type gives the bits that gguf-py's `dequantize` gives.

use anepipe_gguf::TensorType;
use anepipe_testkit::{Encoding, GgufWriter, SplitMix64};
use sha2::{Digest, Sha256};

use crate::fixture;

const TYPES: [TensorType; 15] = [
    TensorType::F32,
    TensorType::F16,
    TensorType::BF16,
    TensorType::Q4_0,
    TensorType::Q4_1,
    TensorType::Q5_0,
    TensorType::Q5_1,
    TensorType::Q8_0,
    TensorType::Q2_K,
    TensorType::Q3_K,
    TensorType::Q4_K,
    TensorType::Q5_K,
    TensorType::Q6_K,
    TensorType::IQ4_NL,
    TensorType::IQ4_XS,
];

#[test]
fn these_types_and_no_others_can_be_dequantized() {
    let can: Vec<_> = TensorType::known().filter(|dtype| dtype.can_dequantize()).collect();
    for dtype in TYPES {
        assert!(can.contains(&dtype), "{dtype}");
    }
    assert_eq!(can.len(), TYPES.len());
}

#[test]
fn blocks_with_every_special_scale_equal_gguf_py() {
    let model = fixture::open("types.gguf");
    for dtype in TYPES {
        let tensor = model.tensor(&dtype.to_string()).unwrap();
        let expected = model.tensor(&format!("{dtype}.expected")).unwrap();
        assert_eq!((tensor.dtype(), tensor.dims()), (dtype, [512, 2].as_slice()));
        // F32 is read here without the reader's help.
        let expected: Vec<u32> =
            expected.bytes().as_chunks().0.iter().map(|b| u32::from_le_bytes(*b)).collect();
        assert_eq!(fixture::bits_f32(&fixture::all_f32(&tensor)), expected, "{dtype}");
    }
}

#[test]
fn thousands_of_random_blocks_equal_gguf_py() {
    let model = fixture::open("types.gguf");
    let blocks = model.metadata().u64("fixture.wide_blocks").unwrap();
    for dtype in TYPES {
        let (len, bytes) = (dtype.block_len().unwrap(), dtype.block_bytes().unwrap());
        let (dims, content) = if bytes == 2 {
            ([256, 256], (0..=u16::MAX).flat_map(u16::to_le_bytes).collect()) // every 16-bit number
        } else {
            let content = SplitMix64::new(u64::from(dtype.id())).bytes((blocks * bytes) as usize);
            ([len * 16, blocks / 16], content)
        };
        let file = GgufWriter::new().tensor("wide", &dims, dtype.id(), content).to_bytes();
        let file = fixture::read(file).unwrap();
        let tensor = file.tensor("wide").unwrap();

        let wide = fixture::bits_f32(&fixture::all_f32(&tensor));
        let narrow = fixture::bits_f16(&fixture::all_f16(&tensor));
        let expected =
            |width| model.metadata().string(&format!("sha256.{width}.{dtype}")).unwrap().to_owned();
        assert_eq!(sha256(wide.iter().flat_map(|w| w.to_le_bytes())), expected("f32"), "{dtype} to f32");
        assert_eq!(sha256(narrow.iter().flat_map(|w| w.to_le_bytes())), expected("f16"), "{dtype} to f16");
    }
}

#[test]
fn sizes_and_names_are_ggmls() {
    // `GGML_QUANT_SIZES` of gguf-py 0.19: (type, id, weights in a block, bytes in a block).
    let sizes = [
        ("Q8_1", 9, 32, 40),
        ("Q8_K", 15, 256, 292),
        ("IQ2_XXS", 16, 256, 66),
        ("IQ2_XS", 17, 256, 74),
        ("IQ3_XXS", 18, 256, 98),
        ("IQ1_S", 19, 256, 50),
        ("IQ3_S", 21, 256, 110),
        ("IQ2_S", 22, 256, 82),
        ("I8", 24, 1, 1),
        ("I16", 25, 1, 2),
        ("I32", 26, 1, 4),
        ("I64", 27, 1, 8),
        ("F64", 28, 1, 8),
        ("IQ1_M", 29, 256, 56),
        ("TQ1_0", 34, 256, 54),
        ("TQ2_0", 35, 256, 66),
        ("MXFP4", 39, 32, 17),
        ("NVFP4", 40, 64, 36),
        ("Q1_0", 41, 128, 18),
    ];
    for (name, id, len, bytes) in sizes {
        let dtype = TensorType::from_id(id);
        assert_eq!((dtype.to_string().as_str(), dtype.id()), (name, id));
        assert_eq!((dtype.block_len(), dtype.block_bytes()), (Some(len), Some(bytes)), "{name}");
    }
    for id in [4, 5, 31, 36, 42, u32::MAX] {
        let dtype = TensorType::from_id(id);
        assert_eq!((dtype, dtype.id(), dtype.block_len()), (TensorType::Unknown(id), id, None));
    }
}

#[test]
fn the_test_kit_quantizes_as_gguf_py_does() {
    let model = fixture::open("types.gguf");
    let weights = fixture::all_f32(&model.tensor("quantize.input").unwrap());
    for (encoding, name) in [(Encoding::Q8_0, "quantize.Q8_0"), (Encoding::Q4_0, "quantize.Q4_0")] {
        let mut blocks = Vec::new();
        encoding.encode(&weights, &mut blocks);
        assert_eq!(blocks, model.tensor(name).unwrap().bytes(), "{name}");
    }
}

fn sha256(bytes: impl Iterator<Item = u8>) -> String {
    let digest = Sha256::digest(bytes.collect::<Vec<u8>>());
    digest
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .filter_map(|nibble| char::from_digit(nibble.into(), 16))
        .collect()
}
