//! Test tools: synthetic GGUF models and other fixtures that are made, never fetched.
