"""The stage itself: parameters in; `model.mlmodel`, `blobs.json` and counts out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import ModuleType

from coremltools import proto
from coremltools.converters.mil.converter import _reset_conversion_state
from coremltools.converters.mil.mil import Program

from anepipe_stages.environment import versions
from anepipe_stages.graph import stateful
from anepipe_stages.graph.export import Exporter, export
from anepipe_stages.graph.parameters import Head, Layers, read
from anepipe_stages.graph.weights import Weights
from anepipe_stages.registry import Json

SCHEMA = 1
# How a graph is authored is one module: `layers` and `head` build a function at one width.
STYLES: dict[str, ModuleType] = {"stateful": stateful}


def run(params: Mapping[str, Json]) -> dict[str, Json]:
    """Build {"spec"} and write it to the existing folder {"out_dir"}."""
    shard, out_dir = read(params)
    model, exporter = build(shard)
    data = model.SerializeToString(deterministic=True)
    (out_dir / "model.mlmodel").write_bytes(data)
    (out_dir / "blobs.json").write_text(json.dumps(table(exporter), indent=1) + "\n", encoding="utf-8")
    return {
        "functions": [
            _counts(name, width, model.mlProgram.functions[name]) for name, width in shard.common.functions().items()
        ],
        "blobs": len(exporter.blobs),
        "weight_bytes": sum(blob.size for blob in exporter.blobs),
        "model_bytes": len(data),
        "versions": versions(),
    }


def build(shard: Layers | Head) -> tuple[proto.Model_pb2.Model, Exporter]:
    """Build and export one program with a function for each width."""
    style, weights, program = STYLES[shard.common.style], Weights(shard.common.quantization), Program()
    function = style.layers if isinstance(shard, Layers) else style.head
    widths = shard.common.functions()
    for name, width in widths.items():
        # Names count up per process; from zero, a function's bytes depend on nothing built before it.
        _reset_conversion_state()
        program.add_function(name, function(shard, width, weights))
    if len(widths) > 1:
        program.export_as_multifunction = True
        # The widest verifies drafts, which is what a shard is for.
        program.default_function_name = max(widths, key=lambda name: widths[name])
    return export(program, weights.by_name)


def table(exporter: Exporter) -> dict[str, Json]:
    """Return the blobs in file order, as they stand in blobs.json."""
    blobs: list[Json] = [
        {
            "name": blob.weight.name,
            "slot": blob.weight.slot,
            "tensor": blob.weight.tensor,
            "part": blob.weight.part,
            "dtype": blob.weight.dtype,
            "shape": list(blob.weight.shape),
            "record": blob.record,
            "data": blob.data,
            "size": blob.size,
        }
        for blob in exporter.blobs
    ]
    return {"schema": SCHEMA, "file_bytes": exporter.file_bytes, "blobs": blobs}


def _counts(name: str, width: int, function: proto.MIL_pb2.Function) -> dict[str, Json]:
    operations = [
        operation.type
        for block in function.block_specializations.values()
        for operation in block.operations
        if operation.type != "const" and not operation.type.startswith("constexpr_")
    ]
    return {"name": name, "width": width, "ops": len(operations), "convs": operations.count("conv")}
