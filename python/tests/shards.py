"""Small shards, and packages of them with random weights."""

from __future__ import annotations

import json
import struct
import uuid
from pathlib import Path

import coremltools as ct
import numpy as np
from coremltools.converters.mil.frontend.milproto.load import load
from coremltools.converters.mil.mil import Program

from anepipe_stages.graph import stage
from anepipe_stages.registry import Json

LAYERS: dict[str, Json] = {
    "kind": "layers",
    "style": "stateful",
    "widths": [4],
    "hidden": 64,
    "heads": 4,
    "kv_heads": 2,
    "head_dim": 16,
    "ffn": 96,
    "rope_dim": 12,
    "norm_eps": 1e-5,
    "context": 32,
    "layers": 2,
    "quantization": "int8",
    "output_norm": True,
    "qkv_bias": False,
    "fault": None,
}
HEAD: dict[str, Json] = {
    "kind": "lm_head",
    "style": "stateful",
    "widths": [4],
    "hidden": 64,
    "quantization": "int8",
    "rows": 200,
}

DTYPES = {"float16": (1, np.float16), "int8": (4, np.int8)}
Arrays = dict[str, np.ndarray]


def graph(folder: Path, spec: dict[str, Json], **changes: Json) -> dict[str, Json]:
    """Build a graph into `folder`; return the table of blobs."""
    folder.mkdir(parents=True, exist_ok=True)
    stage.run({"spec": {**spec, **changes}, "out_dir": str(folder)})
    return json.loads((folder / "blobs.json").read_text())


def random_weights(table: dict[str, Json], seed: int = 1) -> Arrays:
    """Return values of a model's order of magnitude for every blob, by name."""
    rng = np.random.default_rng(seed)
    weights = {}
    for blob in table["blobs"]:
        shape, part = blob["shape"], blob["part"]
        if part == "int8":
            value = rng.integers(-127, 128, shape)
        elif part == "scale":
            value = rng.uniform(5e-4, 1.5e-3, shape)
        elif len(shape) == 1:
            value = rng.uniform(0.5, 1.5, shape)
        else:
            value = rng.normal(0, 0.08, shape)
        weights[blob["name"]] = value.astype(DTYPES[blob["dtype"]][1])
    return weights


def weight_file(table: dict[str, Json], weights: Arrays) -> bytes:
    """Return the weight file that the table describes, in Core ML's format."""
    data = bytearray(table["file_bytes"])
    struct.pack_into("<II", data, 0, len(table["blobs"]), 2)
    for blob in table["blobs"]:
        code, dtype = DTYPES[blob["dtype"]]
        value = weights[blob["name"]]
        assert value.dtype == dtype
        assert value.nbytes == blob["size"]
        struct.pack_into("<IIQQ", data, blob["record"], 0xDEADBEEF, code, blob["size"], blob["data"])
        data[blob["data"] : blob["data"] + blob["size"]] = value.tobytes()
    return bytes(data)


def package(folder: Path, table: dict[str, Json], weights: Arrays) -> Path:
    """Put the graph in `folder` and weights together as an .mlpackage."""
    root = folder / "shard.mlpackage"
    data = root / "Data" / "com.apple.CoreML"
    (data / "weights").mkdir(parents=True)
    (data / "model.mlmodel").write_bytes((folder / "model.mlmodel").read_bytes())
    (data / "weights" / "weight.bin").write_bytes(weight_file(table, weights))
    model, files = (str(uuid.uuid5(uuid.NAMESPACE_OID, name)) for name in ("model", "weights"))
    entries = {
        model: {"author": "com.apple.CoreML", "description": "m", "name": "model.mlmodel"},
        files: {"author": "com.apple.CoreML", "description": "w", "name": "weights"},
    }
    entries[model]["path"] = "com.apple.CoreML/model.mlmodel"
    entries[files]["path"] = "com.apple.CoreML/weights"
    manifest = {"fileFormatVersion": "1.0.0", "itemInfoEntries": entries, "rootModelIdentifier": model}
    (root / "Manifest.json").write_text(json.dumps(manifest))
    return root


def reload(root: Path) -> Program:
    """Read a package back through coremltools, weights included."""
    model = ct.models.MLModel(str(root), skip_model_load=True)
    return load(model.get_spec(), specification_version=9, file_weights_dir=model.weights_dir)
