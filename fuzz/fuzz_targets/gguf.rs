//! Any bytes are a GGUF file that is read whole, or an error: never a panic, an endless loop or a great allocation.
#![no_main]

use anepipe_gguf::{Array, Gguf, Value};
use half::f16;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(model) = Gguf::from_bytes("fuzz.gguf", bytes.to_vec()) else { return };
    for (key, value) in model.metadata().iter() {
        let _ = model.metadata().u64(key).map_err(|error| error.to_string());
        if let Value::Array(Array::String(strings)) = value {
            assert_eq!(strings.iter().count(), strings.len());
        }
    }
    for tensor in model.tensors() {
        let rows = tensor.rows();
        if !tensor.dtype().can_dequantize() {
            continue;
        }
        // A tensor that parsed lies in `bytes`, of which each holds 3.1 weights at most (Q2_K).
        let len = tensor.len() as usize;
        let (mut wide, mut narrow) = (vec![0.0; len], vec![f16::ZERO; len]);
        tensor.dequantize_rows_f32(0..rows, &mut wide).unwrap();
        tensor.dequantize_rows_f16(0..rows, &mut narrow).unwrap();
        for (wide, narrow) in wide.into_iter().zip(narrow) {
            let rounded = f16::from_f32(wide);
            assert!(rounded.to_bits() == narrow.to_bits() || rounded.is_nan() && narrow.is_nan());
        }
    }
});
