"""The stage `residency` without a Mac: what it accepts, and how it reads a plan. The plans are made up."""

from __future__ import annotations

import json
import unittest
from types import SimpleNamespace
from unittest import mock

from anepipe_stages import residency
from anepipe_stages.dispatch import call
from anepipe_stages.registry import Json


def refusal(params: dict[str, Json]) -> str:
    """Return the type and the message with which a request is refused."""
    error = json.loads(call("residency", json.dumps(params)))["error"]
    return f"{error['type']}: {error['message']}"


def device(kind: str) -> object:
    """Return a device of a class of that name."""
    return type(kind, (), {})()


NEURAL_ENGINE, GPU, CPU = (device(kind) for kind in residency.DEVICES)


def op(kind: str, *results: str, blocks: tuple[SimpleNamespace, ...] = ()) -> SimpleNamespace:
    """Return an operation as coremltools gives it."""
    outputs = [SimpleNamespace(name=name) for name in results]
    return SimpleNamespace(operator_name=kind, outputs=outputs, blocks=list(blocks), inputs={})


def block(*operations: SimpleNamespace) -> SimpleNamespace:
    """Return a block of operations."""
    return SimpleNamespace(operations=list(operations))


def plan(functions: dict[str, SimpleNamespace] | None, usage: dict[str, SimpleNamespace]) -> SimpleNamespace:
    """Return a plan that places operations by their kind."""
    program = None
    if functions is not None:
        program = SimpleNamespace(functions={name: SimpleNamespace(block=body) for name, body in functions.items()})
    return SimpleNamespace(
        model_structure=SimpleNamespace(program=program),
        get_compute_device_usage_for_mlprogram_operation=lambda operation: usage.get(operation.operator_name),
    )


def on(preferred: object, *supported: object) -> SimpleNamespace:
    """Return a device usage."""
    return SimpleNamespace(preferred_compute_device=preferred, supported_compute_devices=list(supported))


class Requests(unittest.TestCase):
    """What is refused, on whatever machine."""

    def test_the_model_is_required_and_nothing_else_is_known(self) -> None:
        """Every message names the field."""
        self.assertEqual(refusal({}), "ParameterError: residency: the field 'model' is missing")
        self.assertEqual(refusal({"model": 1}), "ParameterError: residency: 'model' must be a string, found 1")
        message = refusal({"model": "x.mlmodelc", "units": "all"})
        self.assertEqual(message, "ParameterError: residency: unknown fields: units")
        self.assertIn("'model' must be a .mlmodelc, found 'x.mlpackage'", refusal({"model": "x.mlpackage"}))

    def test_a_machine_without_core_ml_says_so(self) -> None:
        """By a type of its own, which the host tells apart."""
        with mock.patch("platform.system", return_value="Linux"):
            message = refusal({"model": "x.mlmodelc"})
        self.assertEqual(message, "NoComputePlanError: compute plans come from Core ML, and this is Linux")

    def test_a_mac_that_is_too_old_says_so(self) -> None:
        """States need macOS 15."""
        for version, good in [("14.7.1", False), ("15.0", True), ("26.1", True), ("", False)]:
            with (
                self.subTest(version=version),
                mock.patch("platform.system", return_value="Darwin"),
                mock.patch("platform.mac_ver", return_value=(version, ("", "", ""), "arm64")),
            ):
                if good:
                    self.assertEqual(residency.macos_version(), version)
                else:
                    self.assertRaises(residency.NoComputePlanError, residency.macos_version)


class Plans(unittest.TestCase):
    """How a plan is read."""

    def test_every_operation_of_every_function_is_listed(self) -> None:
        """With nested blocks, and those that the plan does not place."""
        usage = {"ios18.conv": on(NEURAL_ENGINE, CPU, GPU, NEURAL_ENGINE), "ios18.topk": on(CPU, CPU, GPU)}
        inner = block(op("ios18.conv", "inside"))
        functions = {
            "t4": block(op("const", "w"), op("ios18.conv", "a"), op("write_state")),
            "t1": block(op("cond", "branch", blocks=(inner,)), op("ios18.topk", "values", "indices")),
        }
        found = residency.operations(plan(functions, usage))
        rows = [(o["function"], o["name"], o["kind"], o["preferred_device"], o["supported_devices"]) for o in found]
        self.assertEqual(
            rows,
            [
                ("t1", "branch", "cond", None, []),
                ("t1", "inside", "ios18.conv", "ane", ["cpu", "gpu", "ane"]),
                ("t1", "values", "ios18.topk", "cpu", ["cpu", "gpu"]),
                ("t4", "w", "const", None, []),
                ("t4", "a", "ios18.conv", "ane", ["cpu", "gpu", "ane"]),
                ("t4", "write_state", "write_state", None, []),
            ],
        )

    def test_what_is_not_understood_is_an_error(self) -> None:
        """A new device, or a model of another kind."""
        self.assertRaisesRegex(ValueError, "no ML Program", residency.operations, plan(None, {}))
        strange = plan({"main": block(op("conv", "y"))}, {"conv": on(device("MLOtherComputeDevice"))})
        self.assertRaisesRegex(ValueError, "MLOtherComputeDevice", residency.operations, strange)


if __name__ == "__main__":
    unittest.main()
