//! Operators on elements.

use crate::portable::arith::operator::{Binary, Unary};
use crate::portable::graph::parameters::Call;
use crate::portable::graph::{Op, ProgramError, Storage, shape};

pub(super) fn binary(mut call: Call<'_, '_>) -> Result<(), ProgramError> {
    let operator = match call.kind() {
        "add" => Binary::Add,
        "sub" => Binary::Sub,
        "mul" => Binary::Mul,
        "real_div" => Binary::Div,
        "maximum" => Binary::Maximum,
        _ => Binary::Minimum,
    };
    let (x, y) = (call.tensor("x")?, call.tensor("y")?);
    let storage = call.common_storage(&[x, y])?;
    let (a, b) = (call.shape(x), call.shape(y));
    let shape = shape::broadcast(a, b)
        .filter(|shape| shape::count(shape).is_some())
        .ok_or_else(|| call.fail(format!("shapes {a:?} and {b:?} do not broadcast")))?;
    call.emit(Op::Binary(operator, x, y), storage, shape)
}

pub(super) fn unary(mut call: Call<'_, '_>) -> Result<(), ProgramError> {
    let operator = match call.kind() {
        "abs" => Unary::Abs,
        "sqrt" => Unary::Sqrt,
        "rsqrt" => Unary::Rsqrt { epsilon: call.number("epsilon", 1e-12)? },
        "inverse" => Unary::Inverse { epsilon: call.number("epsilon", 1e-4)? },
        "square" => Unary::Square,
        "exp" => Unary::Exp,
        "tanh" => Unary::Tanh,
        "sigmoid" => Unary::Sigmoid,
        "silu" => Unary::Silu,
        "relu" => Unary::Relu,
        "clip" => Unary::Clip { low: call.number("alpha", f32::MIN)?, high: call.number("beta", f32::MAX)? },
        _ => match call.text("mode")?.unwrap_or("EXACT") {
            "TANH_APPROXIMATION" => Unary::GeluTanh,
            "SIGMOID_APPROXIMATION" => Unary::GeluSigmoid,
            mode => {
                return Err(call.fail(format!(
                    "mode {mode} is not supported; TANH_APPROXIMATION and SIGMOID_APPROXIMATION are"
                )));
            }
        },
    };
    let x = call.tensor("x")?;
    let (storage, shape) = (call.storage(x), call.shape(x).to_vec());
    call.emit(Op::Unary(operator, x), storage, shape)
}

pub(super) fn cast(mut call: Call<'_, '_>) -> Result<(), ProgramError> {
    let storage = match call.text("dtype")? {
        Some("fp16") => Storage::Half,
        Some("fp32") => Storage::Single,
        other => {
            let other = other.unwrap_or("nothing");
            return Err(call.fail(format!("a cast to {other} is not supported; fp16 and fp32 are")));
        }
    };
    let x = call.tensor("x")?;
    let shape = call.shape(x).to_vec();
    // To the type it has already, a cast does nothing.
    let op = if call.storage(x) == storage { Op::Reshape(x) } else { Op::Cast(x) };
    call.emit(op, storage, shape)
}
