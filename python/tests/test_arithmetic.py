"""What a graph computes, against the formulas written down a second time."""

from __future__ import annotations

import tempfile
import unittest
from pathlib import Path

import numpy as np

from anepipe_stages.registry import Json
from tests.executor import Executor
from tests.reference import Reference
from tests.shards import HEAD, LAYERS, graph, package, random_weights, reload

TOKENS = 12
# The graph holds √eps in fp16, which matters at small magnitudes; everything else is fp64 on both sides.
CLOSE = 1e-5


def blocks(executor: Executor, spec: dict, tokens: np.ndarray, angles: np.ndarray, width: int) -> np.ndarray:
    """Run `tokens` [n, d] through the shard, `width` at a time; return [n, d]."""
    context, results = spec["context"], []
    for start in range(0, len(tokens), width):
        rows = range(start, start + width)
        mask = np.full((1, 1, width, context), -np.inf)
        write = np.zeros((1, 1, context, width))
        for slot, row in enumerate(rows):
            mask[0, 0, slot, : row + 1] = 0
            write[0, 0, row, slot] = 1
        out = executor.run(
            {
                "hidden": tokens[rows].T[None, :, :, None],
                "rope_cos": np.cos(angles[rows]),
                "rope_sin": np.sin(angles[rows]),
                "attn_mask": mask,
                "kv_write_mask": write,
            }
        )
        results.append(out[0, :, :, 0].T)
    return np.concatenate(results)


def relative(found: np.ndarray, expected: np.ndarray) -> float:
    """Return the largest error a token has, against the token's largest value."""
    return float((np.abs(found - expected).max(axis=1) / np.abs(expected).max(axis=1)).max())


def error_of(rms: float, width: int, **changes: Json) -> float:
    """Return the error of a shard on random tokens of that magnitude."""
    spec = {**LAYERS, **changes, "widths": [width]}
    rng = np.random.default_rng(5)
    tokens = rng.normal(0, rms, (TOKENS, spec["hidden"]))
    angles = rng.uniform(0, 6, (TOKENS, spec["rope_dim"] // 2))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        table = graph(folder, spec)
        weights = random_weights(table)
        program = reload(package(folder, table, weights))
    found = blocks(Executor(program.functions["main"]), spec, tokens, angles, width)
    reference = Reference(spec, table, weights)
    expected = [reference.step(x, np.cos(a), np.sin(a)) for x, a in zip(tokens, angles, strict=True)]
    # Without the output norm the input dominates the output and would hide errors.
    input_part = np.zeros_like(tokens) if spec["output_norm"] else tokens
    return relative(found - input_part, np.array(expected) - input_part)


class Layers(unittest.TestCase):
    """Shards of layers."""

    def test_a_shard_computes_what_the_formulas_say(self) -> None:
        """Every option, at block sizes 1 and 4."""
        variants: list[dict[str, Json]] = [
            {"output_norm": False},
            {"rope_dim": 16},
            {"kv_heads": 4},
            {"kv_heads": 1},
            {"qkv_bias": True},
            {"quantization": "f16"},
            {"quantization": "int8-per-tensor"},
            {"heads": 6, "kv_heads": 3},
        ]
        for variant in variants:
            for width in (1, 4):
                with self.subTest(variant=variant, width=width):
                    self.assertLess(error_of(1.0, width, **variant), CLOSE)

    def test_the_magnitude_of_the_input_does_not_matter(self) -> None:
        """That of embeddings, and that of outliers deep in a model."""
        for rms in (0.02, 1.0, 50.0, 2000.0):
            with self.subTest(rms=rms):
                self.assertLess(error_of(rms, 4), CLOSE)

    def test_the_missing_permute_is_wrong_in_blocks_and_invisible_one_at_a_time(self) -> None:
        """The fault that gates exist for."""
        self.assertLess(error_of(1.0, 1, fault="no-permute"), CLOSE)
        self.assertGreater(error_of(1.0, 4, fault="no-permute"), 0.1)


class Head(unittest.TestCase):
    """Slices of the LM head."""

    def test_logits_are_the_matrix_applied_to_every_position(self) -> None:
        """Every storage, widths 1 and 4."""
        for quantization in ("int8", "int8-per-tensor", "f16"):
            for width in (1, 4):
                with self.subTest(quantization=quantization, width=width), tempfile.TemporaryDirectory() as name:
                    folder = Path(name)
                    table = graph(folder, HEAD, quantization=quantization, widths=[width])
                    weights = random_weights(table)
                    program = reload(package(folder, table, weights))
                    x = np.random.default_rng(3).normal(0, 1, (1, 64, width, 1))
                    found = Executor(program.functions["main"]).run({"hidden": x})
                    matrix = weights[table["blobs"][0]["name"]].astype(np.float64)
                    if quantization != "f16":
                        matrix = matrix * weights["lm_head_scale"].astype(np.float64)[:, None]
                    np.testing.assert_allclose(found[0, :, :, 0], matrix @ x[0, :, :, 0], rtol=1e-9, atol=1e-9)


if __name__ == "__main__":
    unittest.main()
