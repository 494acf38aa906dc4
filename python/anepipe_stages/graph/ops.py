"""Small shorthands over the MIL Builder."""

from __future__ import annotations

from coremltools.converters.mil import Builder as mb
from coremltools.converters.mil.mil import Var

from anepipe_stages.graph.weights import Weights


def slice_axis(x: Var, axis: int, begin: int, end: int, name: str) -> Var:
    """Return x[…, begin:end, …] on one axis."""
    begins, ends = [0] * len(x.shape), list(x.shape)
    begins[axis], ends[axis] = begin, end
    return mb.slice_by_index(x=x, begin=begins, end=ends, name=name)


class Projections:
    """The 1x1 convolutions of one layer slot, or of none."""

    def __init__(self, weights: Weights, slot: int | None) -> None:
        """Take the matrices of `slot` from `weights`."""
        self._weights = weights
        self._slot = slot

    def __call__(self, x: Var, tensor: str, rows: int, name: str, *, bias: bool = False) -> Var:
        """Apply the matrix `tensor` [rows, channels of x] to every position of x [1, channels, T, 1]."""
        weight = self._weights.matrix(self._slot, tensor, rows, x.shape[1])
        inputs = {"x": x, "weight": weight, "pad_type": "valid", "name": name}
        if bias:
            inputs["bias"] = self._weights.bias(self._slot, tensor, rows)
        return mb.conv(**inputs)
