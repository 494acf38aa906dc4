//! The tokenizer against what others say: llama.cpp's test vectors, its tokens of the demo model, o200k's list of ranks, and
//! SentencePiece's rule followed word for word.

mod chat;
mod demo;
mod files;
mod leftmost;
mod llama_cpp;
mod o200k;
mod stories;
