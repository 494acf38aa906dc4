"""The weight-free export against coremltools' own, which needs the weights."""

from __future__ import annotations

import tempfile
import unittest
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import numpy as np
from coremltools import proto
from coremltools.converters.mil.backend.mil import load as backend

from anepipe_stages.graph import stage
from anepipe_stages.graph.weights import Weight, Weights
from anepipe_stages.registry import Json
from tests.shards import HEAD, LAYERS, Arrays, graph, package, random_weights, reload, weight_file

VARIANTS: list[tuple[dict[str, Json], dict[str, Json]]] = [
    (LAYERS, {}),
    (LAYERS, {"quantization": "f16"}),
    (LAYERS, {"qkv_bias": True, "output_norm": False}),
    (LAYERS, {"widths": [1, 4]}),
    (LAYERS, {"fault": "no-permute", "layers": 1}),
    (HEAD, {}),
    (HEAD, {"quantization": "f16", "widths": [1, 4]}),
]


@contextmanager
def real(weights: Arrays) -> Iterator[None]:
    """Make placeholders real arrays."""
    original = Weights._const

    def const(self: Weights, weight: Weight, shape: tuple[int, ...]) -> object:
        with mock.patch.object(np, "broadcast_to", lambda *_: weights[weight.name].reshape(shape)):
            return original(self, weight, shape)

    with mock.patch.object(Weights, "_const", const):
        yield


@contextmanager
def coremltools_exporter(folder: Path) -> Iterator[None]:
    """Make the stage export through coremltools' own exporter, which writes the weight file to `folder`."""

    class Exporter(backend.MILProtoExporter):
        def __init__(self, program: object, _: object) -> None:
            super().__init__(program, str(folder), 9)
            self.blobs, self.file_bytes = [], 0

    with mock.patch("anepipe_stages.graph.export.Exporter", Exporter):
        yield


def own_export(spec: dict[str, Json], weights: Arrays, folder: Path) -> tuple[bytes, bytes]:
    """Return the model and the weight file as coremltools writes them when it has the weights."""
    folder.mkdir()
    with real(weights), coremltools_exporter(folder):
        stage.run({"spec": spec, "out_dir": str(folder)})
    # The writer completes the file when it is destroyed, which happened when the stage returned.
    return (folder / "model.mlmodel").read_bytes(), (folder / "weight.bin").read_bytes()


class Export(unittest.TestCase):
    """Bytes and meaning."""

    def test_model_and_weight_file_are_those_coremltools_writes(self) -> None:
        """Byte for byte, offsets included."""
        for spec, changes in VARIANTS:
            with self.subTest(kind=spec["kind"], **changes), tempfile.TemporaryDirectory() as name:
                folder = Path(name)
                table = graph(folder, spec, **changes)
                weights = random_weights(table)
                model, blobs = own_export({**spec, **changes}, weights, folder / "own")
                self.assertTrue((folder / "model.mlmodel").read_bytes() == model, "model.mlmodel differs")
                self.assertTrue(weight_file(table, weights) == blobs, "weight.bin differs")

    def test_a_package_reloads_with_every_weight_in_its_place(self) -> None:
        """Through MLModel and milproto, matrices and their scales compared by name."""
        for spec, changes in VARIANTS:
            with self.subTest(kind=spec["kind"], **changes), tempfile.TemporaryDirectory() as name:
                folder = Path(name)
                table = graph(folder, spec, **changes)
                weights = random_weights(table)
                program = reload(package(folder, table, weights))
                for function in program.functions.values():
                    found = _values(function)
                    for blob in table["blobs"]:
                        value = found[blob["name"]].reshape(blob["shape"])
                        np.testing.assert_array_equal(value, weights[blob["name"]], blob["name"])

    def test_widths_share_blobs_and_each_function_is_that_of_its_own_package(self) -> None:
        """A second function costs no weights and changes nothing of the first."""
        for spec in (LAYERS, HEAD):
            with self.subTest(kind=spec["kind"]), tempfile.TemporaryDirectory() as name:
                both, one, four = (Path(name) / n for n in ("both", "one", "four"))
                table = graph(both, spec, widths=[1, 4])
                self.assertEqual(table, graph(one, spec, widths=[1]))
                self.assertEqual(table, graph(four, spec, widths=[4]))
                functions = _functions(both)
                self.assertEqual(sorted(functions), ["t1", "t4"])
                self.assertTrue(functions["t1"] == _functions(one)["main"])
                self.assertTrue(functions["t4"] == _functions(four)["main"])
                self.assertEqual(_model(both).description.defaultFunctionName, "t4")

    def test_a_model_says_nothing_of_when_or_by_what_it_was_made(self) -> None:
        """So equal graphs are equal bytes on another day."""
        with tempfile.TemporaryDirectory() as name:
            graph(Path(name), LAYERS)
            model = _model(Path(name))
        self.assertFalse(model.description.HasField("metadata"))
        self.assertEqual(dict(model.mlProgram.attributes), {})


def _values(function: object) -> Arrays:
    """Return the weights of a reloaded function by the names of their blobs."""
    values = {}
    for op in function.operations:
        if op.op_type == "constexpr_blockwise_shift_scale":
            name = op.outputs[0].name.removesuffix("_weight")
            values[f"{name}_int8"], values[f"{name}_scale"] = op.data.val, op.scale.val
        elif op.op_type == "const":
            values[op.outputs[0].name] = op.outputs[0].val
    return values


def _model(folder: Path) -> proto.Model_pb2.Model:
    return proto.Model_pb2.Model.FromString((folder / "model.mlmodel").read_bytes())


def _functions(folder: Path) -> dict[str, bytes]:
    functions = _model(folder).mlProgram.functions
    return {name: functions[name].SerializeToString(deterministic=True) for name in functions}


if __name__ == "__main__":
    unittest.main()
