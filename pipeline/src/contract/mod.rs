//! The model contract: every number a build needs, each with the GGUF key it came from.
