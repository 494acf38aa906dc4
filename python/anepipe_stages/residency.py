"""The stage `residency`: where Core ML runs each operation of a compiled model, by its own compute plan. macOS only."""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from anepipe_stages.fields import Fields, ParameterError
from anepipe_stages.registry import Json

# Compute plans came to coremltools 8 with macOS 14.4; states, which shards have, with macOS 15.
FIRST_MACOS = 15
# Class names of coremltools.models.compute_device, which exist on every system where the classes' proxies do not.
DEVICES = {"MLNeuralEngineComputeDevice": "ane", "MLGPUComputeDevice": "gpu", "MLCPUComputeDevice": "cpu"}


class NoComputePlanError(RuntimeError):
    """A machine that cannot say where a model runs."""


def run(params: Mapping[str, Json]) -> dict[str, Json]:
    """Load {"model"}, a `.mlmodelc`, for CPU and Neural Engine; report the machine and every operation's device."""
    fields = Fields("residency", params)
    path = Path(fields.text("model"))
    fields.finish()
    if path.suffix != ".mlmodelc":
        raise ParameterError(f"residency: 'model' must be a .mlmodelc, found {str(path)!r}")
    version = macos_version()
    if not path.is_dir():
        raise FileNotFoundError(f"residency: there is no compiled model at {path}")
    return {
        "chip": _ask("sysctl", "-n", "machdep.cpu.brand_string"),
        "os": version,
        "os_build": _ask("sw_vers", "-buildVersion"),
        "ops": operations(_load(path)),
    }


def macos_version() -> str:
    """Return the version of macOS; raise where there are no compute plans."""
    system = platform.system()
    if system != "Darwin":
        raise NoComputePlanError(f"compute plans come from Core ML, and this is {system}")
    version = platform.mac_ver()[0]
    if int(version.partition(".")[0] or 0) < FIRST_MACOS:
        raise NoComputePlanError(f"models with states need macOS {FIRST_MACOS} or later, and this is macOS {version}")
    return version


def operations(plan: Any) -> list[Json]:  # noqa: ANN401 - an MLComputePlan, whose class has no stub
    """Return every operation of an ML Program's plan, of every function, nested blocks included, in order."""
    program = plan.model_structure.program
    if program is None:
        raise ValueError("residency: the model is no ML Program")
    usage = plan.get_compute_device_usage_for_mlprogram_operation
    return [
        _operation(name, op, usage) for name in sorted(program.functions) for op in _flat(program.functions[name].block)
    ]


def _flat(block: Any) -> Iterator[Any]:  # noqa: ANN401
    for op in block.operations:
        yield op
        for inner in op.blocks:
            yield from _flat(inner)


def _operation(function: str, op: Any, usage: Callable[[Any], Any]) -> dict[str, Json]:  # noqa: ANN401
    placed = usage(op)
    return {
        "function": function,
        "name": op.outputs[0].name if op.outputs else op.operator_name,
        "kind": op.operator_name,
        "preferred_device": None if placed is None else _device(placed.preferred_compute_device),
        "supported_devices": [] if placed is None else [_device(device) for device in placed.supported_compute_devices],
    }


def _device(device: object) -> str:
    kind = type(device).__name__
    if kind not in DEVICES:
        raise ValueError(f"residency: {kind} is a compute device this version does not know")
    return DEVICES[kind]


def _load(path: Path) -> Any:  # noqa: ANN401
    import coremltools as ct
    from coremltools.models.compute_plan import MLComputePlan

    return MLComputePlan.load_from_path(path=str(path), compute_units=ct.ComputeUnit.CPU_AND_NE)


def _ask(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
