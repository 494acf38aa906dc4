//! What the gate demands.

use serde::{Deserialize, Serialize};

use super::report::Weights;
use crate::stages::quantize::Quantization;

/// Limits as a project states them (`[gates.golden.int8]` and so on in `anepipe.toml`). What is not stated has its default.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct GoldenThresholds {
    /// Against the same rounded weights, whatever the quantization.
    pub stored: GoldenOverrides,
    /// Against the file's weights, for fp16 weights.
    pub f16: GoldenOverrides,
    /// Against the file's weights, for int8 weights with a scale per output channel.
    pub int8: GoldenOverrides,
    /// Against the file's weights, for int8 weights with one scale.
    pub int8_per_tensor: GoldenOverrides,
}

/// Limits that replace defaults.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GoldenOverrides {
    /// See [`GoldenLimits::cosine_mean`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cosine_mean: Option<f64>,
    /// See [`GoldenLimits::cosine_worst`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cosine_worst: Option<f64>,
    /// See [`GoldenLimits::kl_mean`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kl_mean: Option<f64>,
    /// See [`GoldenLimits::kl_worst`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kl_worst: Option<f64>,
    /// See [`GoldenLimits::top1_agreement`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top1_agreement: Option<f64>,
}

/// Limits as a report records them. A NaN limit is never met.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct GoldenLimits {
    /// Least mean cosine of centred logits.
    pub cosine_mean: f64,
    /// Least cosine of any token's centred logits.
    pub cosine_worst: f64,
    /// Most mean KL divergence, nats.
    pub kl_mean: f64,
    /// Most KL divergence of any token, nats.
    pub kl_worst: f64,
    /// Least share of positions with the same likeliest token. Coarse for a short text: one position of ten is a tenth.
    pub top1_agreement: f64,
}

impl GoldenLimits {
    /// What fp16 activations and fp16 weights may cost on a device that sums in fp32. Over the built-in text the portable device
    /// costs the demo model 7e-6 nats and stories260K 2.8e-5; forgetting the rotary factors, the cheapest mistake, costs 2.4e-3.
    const EXACT: Self = Self {
        cosine_mean: 0.999_95,
        cosine_worst: 0.9995,
        kl_mean: 2e-4,
        kl_worst: 3e-3,
        top1_agreement: 0.95,
    };

    /// What the same weights may cost on a device that may sum in fp16. Nobody has measured it over a whole model; still less than
    /// the cheapest mistake.
    const DEVICE: Self =
        Self { cosine_mean: 0.9995, cosine_worst: 0.99, kl_mean: 1e-3, kl_worst: 0.02, top1_agreement: 0.9 };

    /// What int8 weights with a scale per channel may cost: 4e-4 nats on the demo, 1.5e-3 on stories260K, whose rows are 64 long and
    /// whose vocabulary spells most of the built-in text byte by byte (0.035 at the worst token). The cheapest mistake comes to
    /// 2.9e-3 on the demo.
    const INT8: Self =
        Self { cosine_mean: 0.9995, cosine_worst: 0.99, kl_mean: 2.5e-3, kl_worst: 0.1, top1_agreement: 0.9 };

    /// What int8 weights with one scale may cost: 2.2e-3 nats on the demo, 0.028 on stories260K (0.41 at the worst token). That is
    /// ten times the cheapest mistake, which shows against the same rounded weights only.
    const INT8_PER_TENSOR: Self =
        Self { cosine_mean: 0.998, cosine_worst: 0.9, kl_mean: 0.08, kl_worst: 1.2, top1_agreement: 0.75 };

    /// The defaults against the file's weights.
    fn against_file(quantization: Quantization) -> Self {
        match quantization {
            Quantization::F16 => Self::EXACT,
            Quantization::Int8 => Self::INT8,
            Quantization::Int8PerTensor => Self::INT8_PER_TENSOR,
        }
    }
}

impl GoldenThresholds {
    /// What is demanded on `device` of shards stored as `quantization`, against `weights`.
    ///
    /// Devices other than `portable` may sum in fp16; against the same weights they have limits of their own.
    pub fn limits(&self, weights: Weights, quantization: Quantization, device: &str) -> GoldenLimits {
        let stated = match (weights, quantization) {
            (Weights::Stored, _) => self.stored,
            (Weights::File, Quantization::F16) => self.f16,
            (Weights::File, Quantization::Int8) => self.int8,
            (Weights::File, Quantization::Int8PerTensor) => self.int8_per_tensor,
        };
        let default = match weights {
            Weights::Stored if device == "portable" => GoldenLimits::EXACT,
            Weights::Stored => GoldenLimits::DEVICE,
            Weights::File => GoldenLimits::against_file(quantization),
        };
        GoldenLimits {
            cosine_mean: stated.cosine_mean.unwrap_or(default.cosine_mean),
            cosine_worst: stated.cosine_worst.unwrap_or(default.cosine_worst),
            kl_mean: stated.kl_mean.unwrap_or(default.kl_mean),
            kl_worst: stated.kl_worst.unwrap_or(default.kl_worst),
            top1_agreement: stated.top1_agreement.unwrap_or(default.top1_agreement),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stated_replaces_the_default_of_its_own_comparison_only() {
        use Weights::{File, Stored};
        let text = "[int8-per-tensor]\nkl_mean = 0.5\n[stored]\ncosine_worst = 0.1\n";
        let stated: GoldenThresholds = toml::from_str(text).unwrap();
        let default = GoldenThresholds::default();
        for quantization in Quantization::ALL {
            for weights in [File, Stored] {
                let mut expected = default.limits(weights, quantization, "portable");
                match (weights, quantization) {
                    (Stored, _) => expected.cosine_worst = 0.1,
                    (File, Quantization::Int8PerTensor) => expected.kl_mean = 0.5,
                    (File, _) => {}
                }
                assert_eq!(stated.limits(weights, quantization, "portable"), expected);
            }
        }
    }

    #[test]
    fn where_sums_may_be_in_fp16_the_same_weights_are_no_promise() {
        let default = GoldenThresholds::default();
        let limits = |device| default.limits(Weights::Stored, Quantization::Int8, device);
        assert_eq!(limits("portable"), GoldenLimits::EXACT);
        assert_eq!(limits("coreml"), GoldenLimits::DEVICE);
    }

    #[test]
    fn misspelt_limits_are_errors() {
        for text in ["[int4]\nkl_mean = 1.0\n", "[int8]\nkl = 1.0\n"] {
            assert!(toml::from_str::<GoldenThresholds>(text).is_err(), "{text}");
        }
    }
}
