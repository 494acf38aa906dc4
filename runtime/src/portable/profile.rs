//! Where the time of passes goes, kernel by kernel, while they run.
//!
//! A [`Profiler`] is told of every kernel that a plan has run: which one, for which of the program's operations, when, for how long,
//! and how many bytes of weights it read. A device without one reads no clock. The interpreter has no kernels and tells of nothing.

use std::fmt::{self, Debug};
use std::path::Path;
use std::time::{Duration, Instant};

use super::plan::Plan;

/// Is told of the kernels of passes.
///
/// Called on the thread that runs the pass, behind each kernel, in order. Whatever it does lies between two kernels.
pub trait Profiler: Debug + Send + Sync {
    /// One kernel has run.
    fn ran(&self, run: &KernelRun<'_>);
}

/// One run of one kernel.
#[derive(Debug, Clone, Copy)]
pub struct KernelRun<'a> {
    /// The `.mlmodelc` folder of the shard.
    pub shard: &'a Path,
    /// The function's name.
    pub function: &'a str,
    /// Its place among the function's kernels, from 0.
    pub step: usize,
    /// The operation whose result it computes, by the name that the program gives that result. Where several operations became one
    /// kernel, the last of them.
    pub operation: &'a str,
    /// What it does.
    pub kernel: KernelKind,
    /// When it began.
    pub began: Instant,
    /// How long it took.
    pub took: Duration,
    /// Bytes of weights that it read.
    pub weight_bytes: usize,
}

/// What a kernel does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum KernelKind {
    /// Multiplies an int8 matrix.
    Int8Matrix,
    /// Multiplies an fp16 matrix.
    HalfMatrix,
    /// Scores, softmax and weighted sums over a KV cache.
    Attention,
    /// Puts keys or values into a KV cache.
    CacheUpdate,
    /// Looks through a pass's masks, once for all layers of a shard.
    Masks,
    /// Computes each element from elements at the same place.
    Elementwise,
    /// Divides by a root mean square or a standard deviation, behind an addition or not.
    Norm,
    /// Combines elements along axes: sums, softmax.
    Reduction,
    /// Multiplies two tensors outside attention.
    Product,
    /// Moves elements and computes nothing.
    Movement,
}

impl KernelKind {
    /// A short name, such as `int8 matrix`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Int8Matrix => "int8 matrix",
            Self::HalfMatrix => "fp16 matrix",
            Self::Attention => "attention",
            Self::CacheUpdate => "cache update",
            Self::Masks => "masks",
            Self::Elementwise => "elementwise",
            Self::Norm => "norm",
            Self::Reduction => "reduction",
            Self::Product => "product",
            Self::Movement => "movement",
        }
    }
}

impl fmt::Display for KernelKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A profiler of one function's passes.
#[derive(Clone, Copy)]
pub(super) struct Stopwatch<'a> {
    pub(super) profiler: &'a dyn Profiler,
    pub(super) shard: &'a Path,
    pub(super) function: &'a str,
}

impl Stopwatch<'_> {
    /// Tells that step number `step` of `plan`, begun at `began`, is done.
    pub(super) fn lap(&self, plan: &Plan, step: usize, began: Instant) {
        let took = began.elapsed();
        let (operation, kernel, weight_bytes) = plan.describe(step);
        let Self { profiler, shard, function } = *self;
        profiler.ran(&KernelRun { shard, function, step, operation, kernel, began, took, weight_bytes });
    }
}
