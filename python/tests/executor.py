"""Runs a program op by op in fp64: slow, and free of fp16's rounding, so that formulas can be compared closely."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from coremltools.converters.mil.mil import Function, Operation, Var

Array = np.ndarray


class Executor:
    """One function with its states, which start at zero and live on between runs."""

    def __init__(self, function: Function) -> None:
        """Prepare to run `function`."""
        self._function = function
        self.states: dict[str, Array] = {
            name: np.zeros(var.shape) for name, var in function.inputs.items() if name.endswith(tuple("0123456789"))
        }

    def run(self, inputs: dict[str, Array]) -> Array:
        """Return the function's only output."""
        self._values: dict[Var, Array] = {}
        for name, var in self._function.inputs.items():
            if name not in self.states:
                assert inputs[name].shape == tuple(var.shape), name
                self._values[var] = inputs[name].astype(np.float64)
        for op in self._function.operations:
            if op.op_type != "const":
                self._values[op.outputs[0]] = self._evaluate(op)
        (output,) = self._function.outputs
        return self._values[output]

    def _get(self, value: Var | list[Var]) -> Array | list[Array]:
        if isinstance(value, list | tuple):
            return [self._get(item) for item in value]
        return self._values.get(value, value.val)

    def _evaluate(self, op: Operation) -> Array:
        if op.op_type == "read_state":
            return self.states[op.inputs["input"].name]
        if op.op_type == "coreml_update_state":
            self.states[op.inputs["state"].name] = self._get(op.inputs["value"])
            return self.states[op.inputs["state"].name]
        inputs = {name: self._get(value) for name, value in op.inputs.items() if value is not None}
        result = np.asarray(OPS[op.op_type](inputs), np.float64)
        assert result.shape == tuple(op.outputs[0].shape), op.name
        return result


def _reduce(function: Callable[..., Array]) -> Callable[[dict], Array]:
    return lambda i: function(i["x"], axis=tuple(i["axes"]), keepdims=bool(i["keep_dims"]))


def _conv(i: dict) -> Array:
    out = np.einsum("oc,bcth->both", i["weight"][:, :, 0, 0].astype(np.float64), i["x"])
    return out + (i["bias"][None, :, None, None] if "bias" in i else 0)


def _matmul(i: dict) -> Array:
    x, y = (np.swapaxes(i[n], -1, -2) if i[f"transpose_{n}"] else i[n] for n in "xy")
    return x @ y


def _slice(i: dict) -> Array:
    return i["x"][tuple(slice(b, e) for b, e in zip(i["begin"], i["end"], strict=True))]


def _softmax(i: dict) -> Array:
    e = np.exp(i["x"] - i["x"].max(axis=i["axis"], keepdims=True))
    return e / e.sum(axis=i["axis"], keepdims=True)


OPS: dict[str, Callable[[dict], Array]] = {
    "abs": lambda i: np.abs(i["x"]),
    "add": lambda i: i["x"] + i["y"],
    "concat": lambda i: np.concatenate(i["values"], axis=i["axis"]),
    "constexpr_blockwise_shift_scale": lambda i: i["data"].astype(np.float64) * i["scale"],
    "conv": _conv,
    "matmul": _matmul,
    "maximum": lambda i: np.maximum(i["x"], i["y"]),
    "mul": lambda i: i["x"] * i["y"],
    "real_div": lambda i: i["x"] / i["y"],
    "reduce_max": _reduce(np.max),
    "reduce_mean": _reduce(np.mean),
    "reduce_sum": _reduce(np.sum),
    "reshape": lambda i: i["x"].reshape(i["shape"]),
    "rsqrt": lambda i: 1 / np.sqrt(i["x"] + i["epsilon"]),
    "silu": lambda i: i["x"] / (1 + np.exp(-i["x"])),
    "slice_by_index": _slice,
    "softmax": _softmax,
    "sub": lambda i: i["x"] - i["y"],
    "transpose": lambda i: i["x"].transpose(i["perm"]),
}
