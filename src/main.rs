//! The `anepipe` command.

fn main() {}
