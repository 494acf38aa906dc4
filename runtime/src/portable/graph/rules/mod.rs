//! What each operation of MIL means: its parameters, their defaults, the shape of its result.
//!
//! Semantics: the operator reference of coremltools' MIL (`coremltools.converters.mil.mil.ops.defs`).

mod compressed;
mod elementwise;
mod linear;
mod movement;
mod reduction;
mod state;

use super::ProgramError;
use super::parameters::Call;

/// Adds one operation to the graph.
pub(super) fn apply(call: Call<'_, '_>) -> Result<(), ProgramError> {
    match call.kind() {
        "add" | "sub" | "mul" | "real_div" | "maximum" | "minimum" => elementwise::binary(call),
        "abs" | "sqrt" | "rsqrt" | "inverse" | "square" | "exp" | "tanh" | "sigmoid" | "silu" | "gelu"
        | "relu" | "clip" => elementwise::unary(call),
        "cast" => elementwise::cast(call),
        "softmax" => reduction::softmax(call),
        "reduce_sum" | "reduce_mean" | "reduce_sum_square" | "reduce_max" | "reduce_min" => {
            reduction::reduce(call)
        }
        "layer_norm" => reduction::layer_norm(call),
        "conv" => linear::convolution(call),
        "matmul" => linear::matmul(call),
        "identity" | "reshape" | "squeeze" | "expand_dims" => movement::reshape(call),
        "transpose" => movement::transpose(call),
        "slice_by_index" => movement::slice(call),
        "slice_update" => movement::slice_update(call),
        "concat" => movement::concat(call),
        "split" => movement::split(call),
        "read_state" => state::read(call),
        "write_state" => state::write(call),
        "coreml_update_state" => state::update(call),
        "constexpr_blockwise_shift_scale" => compressed::blockwise_shift_scale(call),
        "constexpr_affine_dequantize" => compressed::affine_dequantize(call),
        _ => Err(call.unknown()),
    }
}
