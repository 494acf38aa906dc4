"""RMSNorm that stays inside fp16 at every step."""

from __future__ import annotations

import math

import numpy as np
from coremltools.converters.mil import Builder as mb
from coremltools.converters.mil.mil import Var

# The largest scaled magnitude. 4² · d ≤ 65504 for d ≤ 4094: no sum of squares overflows, even in fp16 partial sums.
PEAK = 4.0
# Below this magnitude the input is not scaled up further, so 4 / floor = 512 and zero input gives zero.
FLOOR = 2.0**-7


def rms_norm(x: Var, weight: Var, eps: float, name: str) -> Var:
    """RMSNorm of `x` [1, d, T, 1] over its channels: x · rsqrt(mean(x²) + eps) · weight.

    With i = 4 / max(max|x|, 2⁻⁷) and xs = x · i this is xs · rsqrt(mean(xs²) + (√eps · i)²) · weight: the scale i
    cancels, the squares neither overflow nor go subnormal, and √eps is a normal fp16 number where eps is not.
    """

    def mul(a: Var | np.float16, b: Var | np.float16, suffix: str) -> Var:
        return mb.mul(x=a, y=b, name=f"{name}_{suffix}")

    magnitude = mb.abs(x=x, name=f"{name}_abs")
    peak = mb.reduce_max(x=magnitude, axes=[1], keep_dims=True, name=f"{name}_peak")
    floored = mb.maximum(x=peak, y=np.float16(FLOOR), name=f"{name}_floored")
    factor = mb.real_div(x=np.float16(PEAK), y=floored, name=f"{name}_factor")
    scaled = mul(x, factor, "scaled")
    root_eps = mul(factor, np.float16(math.sqrt(eps)), "root_eps")
    mean = mb.reduce_mean(x=mul(scaled, scaled, "squares"), axes=[1], keep_dims=True, name=f"{name}_mean")
    total = mb.add(x=mean, y=mul(root_eps, root_eps, "eps"), name=f"{name}_total")
    # rsqrt's own epsilon defaults to 1e-12, which is zero in fp16; say so.
    inverse = mb.rsqrt(x=total, epsilon=np.float16(0), name=f"{name}_inverse")
    return mb.mul(x=mul(scaled, inverse, "unit"), y=weight, name=name)
