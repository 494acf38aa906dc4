//! What a rule looks for: a small closed set of questions about a function or one of its operations.
//!
//! Each answers with what it found, in words, or nothing. A question about something that the program does not say (an extent
//! known only when it runs) finds nothing.

use anepipe_mil::program::{DataType, Operation};
use serde::Deserialize;

use super::view::{OpView, View, dtype, plain_kind};

/// The largest number whose nearest fp16 is zero: half of the smallest subnormal, 2⁻²⁵.
const ROUNDS_TO_ZERO: f64 = 1.0 / (1 << 25) as f64;

/// A question, as `rules.toml` writes it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(tag = "is", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Condition {
    /// The program has more bytes of weights.
    BytesOver {
        /// The most.
        bytes: u64,
    },
    /// The program has fewer bytes of weights.
    BytesUnder {
        /// The least.
        bytes: u64,
        /// Fewer still are another rule's business.
        from: Option<u64>,
    },
    /// The function has more operations that compute.
    OpsOver {
        /// The most.
        ops: usize,
        /// More still are another rule's business.
        to: Option<usize>,
    },
    /// A state's height or width (its last two extents) is no multiple.
    StateDimsNotMultipleOf {
        /// The divisor.
        multiple: u64,
    },
    /// An input's shape is not fixed.
    FlexibleShapes,
    /// The operation is of one of these kinds; a `*` at the end stands for any rest.
    KindIn {
        /// Operators.
        kinds: Vec<String>,
        /// Only in a slice of an LM head (or only outside of one); absent for both.
        head: Option<bool>,
    },
    /// An extent of a result or of an input is larger.
    ExtentOver {
        /// Which extents.
        axes: Vec<Axis>,
        /// The most.
        extent: u64,
    },
    /// A result has more axes.
    RankOver {
        /// The most.
        rank: usize,
    },
    /// It computes on another element type. Constants do not count.
    DtypeNotIn {
        /// Names as in MIL text.
        dtypes: Vec<String>,
    },
    /// A convolution's or a linear layer's weight is dequantized in this form.
    Weight {
        /// The form.
        form: WeightForm,
        /// Only in functions with states (or without); absent for both.
        states: Option<bool>,
        /// Only in functions of at least so many convolutions.
        convs_from: Option<usize>,
        /// Only in functions of at most so many convolutions.
        convs_to: Option<usize>,
    },
    /// It takes a logarithm, an inverse or an inverse root without saying its epsilon.
    EpsilonMissing,
    /// It does so with an epsilon above zero that is zero in fp16.
    EpsilonTooSmall,
    /// A constant it adds or selects is infinite.
    InfiniteMask,
    /// It looks for the largest element of more elements.
    ArgmaxAxisOver {
        /// The most.
        extent: u64,
    },
    /// It is a convolution of `[B, C, H, 1]`.
    ConvLastAxisOne,
}

/// An extent by what it is to the Neural Engine: tensors are `[batch, channels, height, width]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Axis {
    /// The last extent.
    Width,
    /// The last but one, of three or more.
    Height,
    /// The second of four or more.
    Channels,
    /// Terms of one sum of a matrix product or a convolution.
    Contraction,
}

/// How an integer weight is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WeightForm {
    /// 4 bits, several scales a row.
    Int4PerBlock,
    /// 8 bits, several scales a row.
    Int8PerBlock,
}

impl Condition {
    /// Whether it asks about the function as a whole.
    pub fn is_whole(&self) -> bool {
        matches!(
            self,
            Self::BytesOver { .. }
                | Self::BytesUnder { .. }
                | Self::OpsOver { .. }
                | Self::StateDimsNotMultipleOf { .. }
                | Self::FlexibleShapes
        )
    }

    /// What a function has of it; nothing for a question about operations.
    pub(super) fn of_function(&self, view: &View<'_>) -> Option<String> {
        match self {
            Self::BytesOver { bytes } => {
                (view.bytes > *bytes).then(|| format!("{} of weights", megabytes(view.bytes)))
            }
            Self::BytesUnder { bytes, from } => (from.unwrap_or(0)..*bytes)
                .contains(&view.bytes)
                .then(|| format!("{} of weights", megabytes(view.bytes))),
            Self::OpsOver { ops, to } => (ops.saturating_add(1)..=to.unwrap_or(usize::MAX))
                .contains(&view.ops.len())
                .then(|| format!("{} in one function", view.ops.len())),
            Self::StateDimsNotMultipleOf { multiple } => uneven_state(view, (*multiple).max(1)),
            Self::FlexibleShapes => view.flexible_inputs().first().map(|name| format!("the shape of {name}")),
            _ => None,
        }
    }

    /// What an operation has of it; nothing for a question about the function.
    pub(super) fn of_op(&self, view: &View<'_>, op: &OpView<'_>) -> Option<String> {
        match self {
            Self::KindIn { kinds, head } => (matches_kind(kinds, op.kind)
                && head.is_none_or(|wanted| wanted == view.is_head))
            .then(|| format!("{}{}", op.kind, if *head == Some(true) { " in an LM head" } else { "" })),
            Self::ExtentOver { axes, extent } => axes.iter().find_map(|&axis| {
                let found = largest(view, op, axis).filter(|found| found > extent)?;
                Some(format!("{} of {found}", axis.name()))
            }),
            Self::RankOver { rank } => op
                .op
                .outputs
                .iter()
                .filter_map(|output| output.ty.fixed_shape())
                .map(|shape| shape.len())
                .find(|found| found > rank)
                .map(|found| format!("rank {found}")),
            Self::DtypeNotIn { dtypes } => view
                .computed_types(op.op)
                .into_iter()
                .filter_map(dtype)
                .find(|found| !dtypes.iter().any(|name| name == found.name()))
                .map(|found| format!("{} of {}", op.kind, found.name())),
            Self::Weight { form, states, convs_from, convs_to } => (states
                .is_none_or(|wanted| wanted == view.states().next().is_some())
                && (convs_from.unwrap_or(0)..=convs_to.unwrap_or(usize::MAX)).contains(&view.convs)
                && weight_form(view, op.op) == Some(*form))
            .then(|| format!("the weight of {} {}", op.kind, op.name)),
            Self::EpsilonMissing => (takes_epsilon(op.kind) && !op.op.inputs.contains_key("epsilon"))
                .then(|| format!("{} without epsilon", op.kind)),
            Self::EpsilonTooSmall => epsilon(view, op)
                .filter(|&value| value > 0.0 && value <= ROUNDS_TO_ZERO)
                .map(|value| format!("{} with epsilon {value:e}", op.kind)),
            Self::InfiniteMask => (matches!(op.kind, "add" | "select" | "sub" | "maximum" | "minimum")
                && op.op.inputs.values().flatten().any(|argument| view.has_infinity(argument)))
            .then(|| format!("{} of an infinite constant", op.kind)),
            Self::ArgmaxAxisOver { extent } => argmax_axis(view, op)
                .filter(|found| found > extent)
                .map(|found| format!("{} over {found} elements", op.kind)),
            Self::ConvLastAxisOne => (op.kind == "conv"
                && view.shape(op.op, "x").is_some_and(|shape| shape.len() == 4 && shape.last() == Some(&1)))
            .then(|| "convolution of [B, C, H, 1]".to_owned()),
            Self::BytesOver { .. }
            | Self::BytesUnder { .. }
            | Self::OpsOver { .. }
            | Self::StateDimsNotMultipleOf { .. }
            | Self::FlexibleShapes => None,
        }
    }
}

impl Axis {
    fn name(self) -> &'static str {
        match self {
            Self::Width => "width",
            Self::Height => "height",
            Self::Channels => "channels",
            Self::Contraction => "contraction",
        }
    }

    /// This extent of a tensor; none of a contraction.
    fn of(self, shape: &[u64]) -> Option<u64> {
        match self {
            Self::Width => shape.last().copied(),
            Self::Height if shape.len() > 2 => shape.get(shape.len() - 2).copied(),
            Self::Channels if shape.len() > 3 => shape.get(1).copied(),
            _ => None,
        }
    }
}

fn megabytes(bytes: u64) -> String {
    format!("{:.2} MB", bytes as f64 / 1e6)
}

fn matches_kind(patterns: &[String], kind: &str) -> bool {
    patterns.iter().any(|pattern| match pattern.strip_suffix('*') {
        Some(start) => kind.starts_with(start),
        None => kind == pattern,
    })
}

fn uneven_state(view: &View<'_>, multiple: u64) -> Option<String> {
    view.states().find_map(|state| {
        let shape = state.ty.fixed_shape()?;
        let last = shape.get(shape.len().saturating_sub(2)..)?;
        let extent = last.iter().find(|&&extent| extent % multiple != 0)?;
        Some(format!("{extent} in {} {shape:?}", state.name))
    })
}

/// The largest extent of this kind among an operation's results and inputs that are no constants.
fn largest(view: &View<'_>, op: &OpView<'_>, axis: Axis) -> Option<u64> {
    if axis == Axis::Contraction {
        return contraction(view, op);
    }
    let types = view.computed_types(op.op).into_iter().filter(|ty| dtype(ty).is_some());
    types.filter_map(|ty| axis.of(&ty.fixed_shape()?)).max()
}

/// Terms of one sum of a convolution, a linear layer or a matrix product.
fn contraction(view: &View<'_>, op: &OpView<'_>) -> Option<u64> {
    match op.kind {
        // [C_out, C_in / groups, kernel…]
        "conv" => view.shape(op.op, "weight")?.get(1..)?.iter().try_fold(1_u64, |a, &b| a.checked_mul(b)),
        "linear" => view.shape(op.op, "weight")?.last().copied(),
        "matmul" => {
            let shape = view.shape(op.op, "x")?;
            let transposed = View::argument(op.op, "transpose_x")
                .and_then(|argument| view.constant(argument)?.as_bool())
                .unwrap_or(false);
            let from_end = if transposed { 2 } else { 1 };
            shape.get(shape.len().checked_sub(from_end)?).copied()
        }
        _ => None,
    }
}

/// How the weight of a convolution or linear layer is stored, if it is one of the forms that rules know.
fn weight_form(view: &View<'_>, op: &Operation) -> Option<WeightForm> {
    if !matches!(plain_kind(&op.kind), "conv" | "linear") {
        return None;
    }
    let weight = view.producer(op, "weight")?;
    if plain_kind(&weight.kind) != "constexpr_blockwise_shift_scale" {
        return None;
    }
    let per_block = view.shape(weight, "scale")?.iter().skip(1).any(|&extent| extent > 1);
    let data = view.type_of(View::argument(weight, "data")?)?.dtype()?;
    match data {
        DataType::Int4 | DataType::UInt4 if per_block => Some(WeightForm::Int4PerBlock),
        DataType::Int8 | DataType::UInt8 if per_block => Some(WeightForm::Int8PerBlock),
        _ => None,
    }
}

fn takes_epsilon(kind: &str) -> bool {
    matches!(kind, "rsqrt" | "log" | "inverse")
}

fn epsilon(view: &View<'_>, op: &OpView<'_>) -> Option<f64> {
    if !takes_epsilon(op.kind) {
        return None;
    }
    view.constant(View::argument(op.op, "epsilon")?)?.as_float()
}

/// Elements that a search for the largest goes through.
fn argmax_axis(view: &View<'_>, op: &OpView<'_>) -> Option<u64> {
    if !op.kind.starts_with("reduce_arg") {
        return None;
    }
    let shape = view.shape(op.op, "x")?;
    let axis = View::argument(op.op, "axis").and_then(|argument| view.constant(argument)?.as_int());
    let axis = axis.unwrap_or(-1);
    let axis = if axis < 0 { axis.checked_add(i64::try_from(shape.len()).ok()?)? } else { axis };
    shape.get(usize::try_from(axis).ok()?).copied()
}
