"""Compares how fast tensors of each type are dequantized with gguf-py, the reference in numpy.

    .venv-oracle/bin/python benches/peers/gguf_py.py

Both sides turn 12.6 M weights of random blocks into f32 on one thread; ours 32 rows at a time, as a stage does. Ours is
`gguf/benches/dequantize.rs`, one process a round; figures are gigabytes of output a second.
"""

from __future__ import annotations

import json
import time
from importlib.metadata import version

import common
import gguf
import numpy as np

COLUMNS, ROWS = 3072, 4096
BENCH = ["cargo", "bench", "--locked", "--quiet", "-p", "anepipe-gguf", "--bench", "dequantize"]
GROUP = "dequantize to f32"


def ours() -> dict[str, float]:
    """Return gigabytes a second by type, of the medians that criterion leaves in its folder."""
    common.run([*BENCH, "--", "--noplot", GROUP], cwd=common.ROOT)
    rates = {}
    for path in sorted((common.ROOT / "target/criterion").glob(f"{GROUP}/*/new/benchmark.json")):
        about = json.loads(path.read_text())
        estimates = json.loads(path.with_name("estimates.json").read_text())
        rates[about["function_id"]] = about["throughput"]["Bytes"] / estimates["median"]["point_estimate"]
    return rates


def blocks(kind: gguf.GGMLQuantizationType) -> np.ndarray:
    """Return random blocks, rows of bytes; for plain types rows of numbers."""
    random = np.random.default_rng(1)
    plain = {"F32": np.float32, "F16": np.float16}.get(kind.name)
    if plain:
        return random.standard_normal((ROWS, COLUMNS), dtype=np.float32).astype(plain)
    length, size = gguf.GGML_QUANT_SIZES[kind]
    return random.integers(0, 256, (ROWS, COLUMNS // length * size), dtype=np.uint8)


def peer(kind: gguf.GGMLQuantizationType, data: np.ndarray) -> float:
    """Return gigabytes a second of gguf-py."""
    begun = time.perf_counter()
    with np.errstate(all="ignore"):  # random blocks have scales that are no numbers
        values = gguf.quants.dequantize(data, kind)
    seconds = time.perf_counter() - begun
    return 4 * values.size / seconds / 1e9


def main() -> None:
    """Read the arguments and compare."""
    options = common.parser(__doc__, rounds=3).parse_args()
    figures = common.Figures("gguf_py", "gguf-py", {"gguf": version("gguf"), "numpy": np.__version__})
    for number in range(options.rounds):
        common.say(f"round {number + 1} of {options.rounds}")
        for name, rate in ours().items():
            kind = gguf.GGMLQuantizationType.__members__.get(name.upper())
            if kind is None or name.upper() == "F32":  # gguf-py hands f32 out as it is
                continue
            figures.add(name, "GB/s", rate, peer(kind, blocks(kind)), higher_is_better=True)
    figures.finish(options)


if __name__ == "__main__":
    main()
