//! Fast forms of the device's arithmetic.
//!
//! Every kernel gives the bits of its definition in [`super::arith`]; tests beside each hold the two together on every
//! instruction set the machine has.

pub mod argmax;
pub mod attention;
pub mod convert;
pub mod copy;
pub mod dots;
pub mod elementwise;
pub mod half_matrix;
pub mod int8;
pub mod isa;
pub mod matmul;
pub mod norm;
pub mod reduce;
pub mod scatter;
mod sums;

pub use isa::Isa;
