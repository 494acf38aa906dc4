//! MIL text: what `model.mil` in a compiled model holds.
//!
//! ```text
//! program(1.3)
//! [buildInfo = dict<string, string>({{"coremlc-version", "3520.5.1"}})]
//! {
//!     func main<ios18>(tensor<fp16, [1, 4]> x) {
//!             fp16 two = const()[name = string("two"), val = fp16(0x1p+1)];
//!             tensor<fp16, [1, 4]> y = mul(x = x, y = two)[name = string("y")];
//!         } -> (y);
//! }
//! ```

mod error;
mod lex;
mod notation;
mod parse;
mod print;

pub use error::{ParseError, ParseErrorKind};
pub use parse::parse;
pub use print::{PrintError, PrintErrorKind, print};

/// The most nested type, value or block that is read or printed; Apple's programs need fewer than ten.
pub(crate) const MAX_DEPTH: usize = 64;

/// The highest rank of a tensor that is read or printed; Core ML's own limit is 5.
pub const MAX_RANK: usize = 32;

/// How a program's text spells scalars.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// `program(1.0)`: specification versions up to 8. Scalars are tensors of rank 0: `tensor<int32, []>(2)`.
    V1_0,
    /// `program(1.3)`: specification version 9 and later. Scalars stand bare: `int32(2)`.
    V1_3,
}

impl Dialect {
    /// The dialect Apple's compiler writes for a model of this specification version.
    pub fn of_specification(version: i32) -> Self {
        if version >= 9 { Self::V1_3 } else { Self::V1_0 }
    }

    /// The version in the program's header.
    pub fn version(self) -> &'static str {
        match self {
            Self::V1_0 => "1.0",
            Self::V1_3 => "1.3",
        }
    }
}
