//! What `kernel` in `anepipe-runtime` declares; without `copy`, `reduce` and `scatter`, which know of programs and states.

#[path = "../src/portable/kernel/attention/mod.rs"]
pub mod attention;
#[path = "../src/portable/kernel/convert.rs"]
pub mod convert;
#[path = "../src/portable/kernel/dots.rs"]
pub mod dots;
#[path = "../src/portable/kernel/elementwise.rs"]
pub mod elementwise;
#[path = "../src/portable/kernel/half_matrix.rs"]
pub mod half_matrix;
#[path = "../src/portable/kernel/int8/mod.rs"]
pub mod int8;
#[path = "../src/portable/kernel/isa.rs"]
pub mod isa;
#[path = "../src/portable/kernel/matmul.rs"]
pub mod matmul;
#[path = "../src/portable/kernel/norm/mod.rs"]
pub mod norm;
#[path = "../src/portable/kernel/sums.rs"]
mod sums;

pub use isa::Isa;
