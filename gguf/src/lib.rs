//! Reads GGUF model files: metadata, tensors, row-streamed dequantization.
