//! Core ML's ML Program formats: packages, weight blobs, MIL text, the portable compiler.
//!
//! | module | is |
//! |---|---|
//! | [`program`] | the typed model of an ML Program that everything else reads and writes |
//! | [`proto`] | `model.mlmodel` → program |
//! | [`text`] | `model.mil` ↔ program |
//! | [`blob`] | `weight.bin`, read and written |
//! | [`package`] | `.mlpackage` directories |
//! | [`modelc`] | `.mlmodelc` directories |
//! | [`mod@compile`] | `.mlpackage` → `.mlmodelc`, on any system |
//! | [`summary`] | a program in a few numbers |
//!
//! ```
//! use anepipe_mil::text;
//!
//! let mil = r#"program(1.3) { func main<ios18>(tensor<fp16, [4]> x) {
//!     tensor<fp16, [4]> y = relu(x = x)[name = string("y")];
//! } -> (y); }"#;
//! let (dialect, program) = text::parse(mil)?;
//! let relu = &program.functions["main"].block.operations[0];
//! assert_eq!(relu.outputs[0].ty.to_string(), "tensor<fp16, [4]>");
//! assert!(text::print(&program, dialect)?.contains("    func main<ios18>(tensor<fp16, [4]> x) {\n"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod blob;
pub mod compile;
pub mod float;
pub mod modelc;
pub mod opset;
pub mod package;
pub mod program;
pub mod proto;
mod references;
pub mod summary;
pub mod text;
mod types;

pub use compile::{CompileError, CompileOptions};
pub use modelc::{ModelC, ModelCError};
pub use package::{Package, PackageError};
pub use program::Program;
