"""Writes fixture.json: rotary rows at 60 decimal digits, rounded once to fp16. Needs mpmath (1.4.1 wrote the committed file).

The formula is the one transformers' `Phi3` model uses (`_compute_longrope_parameters` and the rotary embedding's forward):
inv_freq[i] = 1 / (factor[i] * base ** (2 i / rope_dim)); cos = cos(position * inv_freq) * attn_factor; sin likewise.
transformers evaluates it in fp32, which is off by up to 0.004 rad at position 131071; here it is exact to the last fp16 bit.

    python fixture.py > fixture.json
"""

import json
import struct

from mpmath import cos, mp, mpf, sin

mp.dps = 60


def f32(x: float) -> float:
    """The nearest fp32 value: what a GGUF file can hold."""
    return struct.unpack("<f", struct.pack("<f", x))[0]


def fp16_value(bits: int) -> mpf:
    """The value of a finite fp16 bit pattern."""
    return mpf(struct.unpack("<e", struct.pack("<H", bits))[0])


def fp16_bits(x: mpf) -> int:
    """The fp16 nearest to x, ties to even, decided on exact distances and not by a library's conversion."""
    sign, x = (0x8000, -x) if x < 0 else (0, x)
    low, high = 0, 0x7BFF
    while low < high:  # the largest pattern not above x
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fp16_value(middle) <= x else (low, middle - 1)
    below, above = x - fp16_value(low), fp16_value(low + 1) - x
    up = above < below or (above == below and low % 2 == 1)
    return sign | (low + up)


def case(name: str, rope_dim: int, base: float, factors: list[float] | None, attn_factor: float, positions: list[int]) -> dict:
    spec = {"rope_dim": rope_dim, "base": f32(base), "factors": factors and [f32(x) for x in factors], "attn_factor": f32(attn_factor)}
    rows = []
    for position in positions:
        row = {"position": position, "cos": [], "sin": []}
        for i in range(rope_dim // 2):
            factor = mpf(spec["factors"][i]) if factors else mpf(1)
            angle = position / (factor * mpf(spec["base"]) ** (mpf(2 * i) / rope_dim))
            row["cos"].append(fp16_bits(cos(angle) * mpf(spec["attn_factor"])))
            row["sin"].append(fp16_bits(sin(angle) * mpf(spec["attn_factor"])))
        rows.append(row)
    return {"name": name, "spec": spec, "rows": rows}


CASES = [
    case("plain, full width", 64, 10000.0, None, 1.0, [0, 1, 2, 1000]),
    case("one pair", 2, 10000.0, None, 1.0, [0, 1, 355]),
    case("large base", 128, 500000.0, None, 1.0, [1, 8191]),
    case("phi3 partial width, short factors", 96, 10000.0, [1 + i * i / 1000 for i in range(48)], 1.190238, [0, 1, 3, 2047]),
    case("phi3 partial width, long factors", 96, 10000.0, [1 + 1.3 * i for i in range(48)], 1.190238, [4096, 131071]),
]

print(json.dumps({"cases": CASES}, separators=(",", ":")))
