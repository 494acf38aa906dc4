//! What values are held to, and who says so.

use serde::{Deserialize, Serialize};

/// The largest fp16 number.
pub(super) const FP16: f64 = 65504.0;

/// Beyond this, inputs of int8 products are said to saturate.
pub(super) const INT8_INPUT: f64 = 4094.0;

/// Where the norm's error was measured.
pub(super) const NORM_RMS: [f64; 2] = [0.001, 50.0];

/// The largest scaled magnitude in a norm, and the magnitude below which it does not scale up further (`norm.py` of the graph stage).
pub(super) const NORM_PEAK: f64 = 4.0;
pub(super) const NORM_FLOOR: f64 = 1.0 / 128.0;

/// All limits of a report.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Limits {
    /// Largest magnitude of any value.
    pub fp16: f64,
    /// Largest magnitude of what int8 convolutions are applied to; others are warned of.
    pub int8_input: f64,
    /// Who says so.
    pub int8_source: String,
    /// What a norm takes.
    pub norm: NormLimits,
}

/// What a norm takes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NormLimits {
    /// Largest sum of the squares of its scaled input: what fp16 partial sums hold.
    pub squares: f64,
    /// Smallest and largest rms of its input; others are warned of.
    pub rms: [f64; 2],
    /// Who says so.
    pub source: String,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            fp16: FP16,
            int8_input: INT8_INPUT,
            int8_source: "published limits, as collected for this project: activations beyond 4094 saturate int8 products; \
                          contested: ane-guide, chapter 3, has int8 weights widened to fp16 first, and gives 4094 (65504 / 16) as \
                          the limit of slices at an offset on the last axis, on M1 and A14"
                .to_owned(),
            norm: NormLimits {
                squares: FP16,
                rms: NORM_RMS,
                source: "the norm's own arithmetic: it scales its input to at most 4, so squares of up to 4094 channels sum up to \
                         65504 at most; relative error below 0.001 in emulated fp16 at rms 0.001 to 50, with outliers 300 times as loud"
                    .to_owned(),
            },
        }
    }
}
