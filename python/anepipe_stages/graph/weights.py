"""Weights that are not there: placeholders of the right shape, and the name by which each is bound later."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from coremltools.converters.mil import Builder as mb
from coremltools.converters.mil.mil import Var


@dataclass(frozen=True)
class Weight:
    """One blob of the weight file. `shape` is that of the tensor; the program sees it with axes of extent 1 added."""

    name: str
    slot: int | None
    tensor: str
    part: str
    dtype: str
    shape: tuple[int, ...]


class Weights:
    """Hands out the weights of one program; functions that ask for the same name share one blob."""

    def __init__(self, quantization: str) -> None:
        """Store matrices as `quantization` says; norms and biases are fp16 always."""
        self._quantization = quantization
        self.by_name: dict[str, Weight] = {}

    def norm(self, slot: int | None, tensor: str, channels: int) -> Var:
        """Return a norm's weight as [1, channels, 1, 1]."""
        return self._const(
            Weight(_name(slot, tensor, "weight"), slot, tensor, "weight", "float16", (channels,)),
            (1, channels, 1, 1),
        )

    def bias(self, slot: int | None, tensor: str, rows: int) -> Var:
        """Return a convolution's bias as [rows]."""
        return self._const(Weight(_name(slot, tensor, "bias"), slot, tensor, "bias", "float16", (rows,)), (rows,))

    def matrix(self, slot: int | None, tensor: str, rows: int, columns: int) -> Var:
        """Return a 1x1 convolution's weight as [rows, columns, 1, 1], dequantized in the program if it is int8."""
        extents, shape = (rows, columns), (rows, columns, 1, 1)
        full = _name(slot, tensor, "weight")
        if self._quantization == "f16":
            return self._const(Weight(full, slot, tensor, "weight", "float16", extents), shape)
        scales = rows if self._quantization == "int8" else 1
        int8 = Weight(_name(slot, tensor, "int8"), slot, tensor, "int8", "int8", extents)
        scale = Weight(_name(slot, tensor, "scale"), slot, tensor, "scale", "float16", (scales,))
        return mb.constexpr_blockwise_shift_scale(
            data=self._const(int8, shape), scale=self._const(scale, (scales, 1, 1, 1)), name=full
        )

    def _const(self, weight: Weight, shape: tuple[int, ...]) -> Var:
        if self.by_name.setdefault(weight.name, weight) != weight:
            raise AssertionError(f"two different weights are called {weight.name}")
        # Every stride is zero: one element of memory whatever the shape.
        placeholder = np.broadcast_to(np.zeros((), np.dtype(weight.dtype)), shape)
        const = mb.const(val=placeholder, name=weight.name)
        # coremltools writes constants of one weight_id to the weight file once, across functions, and never
        # inlines them; weight_key keeps equal values apart should a pass look for duplicates.
        const.op.weight_id = weight.name
        const.op.weight_key = weight.name
        return const


def _name(slot: int | None, tensor: str, part: str) -> str:
    return f"{tensor}_{part}" if slot is None else f"l{slot}_{tensor}_{part}"
