"""Writing a program without weights: constants get their place in the weight file, which nobody writes here.

Subclasses coremltools' exporter at the one method that would write a blob. No pass runs, so the program is written
as it was built.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from coremltools import proto
from coremltools.converters.mil.backend.mil import load as backend
from coremltools.converters.mil.backend.mil.helper import (
    create_file_value_tensor,
    create_immediate_value,
    types_to_proto_primitive,
)
from coremltools.converters.mil.mil import Program, Var

from anepipe_stages.graph.weights import Weight

# iOS 18: the first with states and int8 constexpr ops.
SPECIFICATION = 9
WEIGHT_FILE = "@model_path/weights/weight.bin"
# The weight file starts with a header of this size; every record has this size and alignment.
UNIT = 64
# A constant that carries no weight's name is an immediate: axes, shapes, scalars.
LARGEST_IMMEDIATE = 4096


@dataclass(frozen=True)
class Blob:
    """A weight's place in the weight file, in bytes: its 64-byte record, its data right behind, its size."""

    weight: Weight
    record: int
    data: int
    size: int


class Exporter(backend.MILProtoExporter):
    """Exports a program whose weights have no values, handing out the offsets the blob writer would choose."""

    def __init__(self, program: Program, weights: dict[str, Weight]) -> None:
        """Place `weights` in the order in which the program first uses them."""
        super().__init__(program, "", SPECIFICATION)
        self._weights = weights
        self.blobs: list[Blob] = []
        self.file_bytes = UNIT

    def get_milproto_value(self, var: Var) -> proto.MIL_pb2.Value:
        """Refer to the weight file for weights, of whatever size; inline everything else."""
        if var.op.weight_id is not None:
            return self.create_file_value(var)
        if isinstance(var.val, np.ndarray) and var.val.nbytes > LARGEST_IMMEDIATE:
            raise AssertionError(f"the constant {var.name} {var.val.shape} is large and has no weight's name")
        return create_immediate_value(var)

    def create_file_value(self, var: Var) -> proto.MIL_pb2.Value:
        """Return the reference to a weight, placing it when it is met first."""
        name = var.op.weight_id
        if name not in self.weight_id_to_file_value:
            self.weight_id_to_file_value[name] = self._place(var, self._weights[name])
        return self.weight_id_to_file_value[name]

    def _place(self, var: Var, weight: Weight) -> proto.MIL_pb2.Value:
        size = var.val.size * var.val.itemsize
        record = -(-self.file_bytes // UNIT) * UNIT
        blob = Blob(weight, record, data=record + UNIT, size=size)
        self.blobs.append(blob)
        # The writer pads before a record, so nothing follows the last blob.
        self.file_bytes = blob.data + size
        return create_file_value_tensor(
            file_name=WEIGHT_FILE,
            offset=blob.record,
            dim=var.val.shape,
            data_type=types_to_proto_primitive(var.sym_type.get_primitive()),
        )


def export(program: Program, weights: dict[str, Weight]) -> tuple[proto.Model_pb2.Model, Exporter]:
    """Return the model and the exporter, which holds the blobs in file order."""
    exporter = Exporter(program, weights)
    model = backend.CoreMLProtoExporter(
        program,
        exporter.export(),
        predicted_feature_name=None,
        predicted_probabilities_name=None,
        classifier_config=None,
        convert_to="mlprogram",
        convert_from="milinternal",
        specification_version=SPECIFICATION,
    ).export(SPECIFICATION)
    # Dates and versions of the converter: they would make equal graphs differ.
    model.description.ClearField("metadata")
    model.mlProgram.attributes.pop("buildInfo", None)
    return model, exporter
