//! Tokens.

/// A token's position in the vocabulary.
pub type TokenId = u32;
