"""The stages a worker serves, by name.

A stage takes the request's parameters and returns a JSON object. coremltools is imported inside a stage, never here,
so that a worker starts at once and an unusable installation is reported by the call that needs it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]
Stage = Callable[[Mapping[str, Json]], dict[str, Json]]


def _environment(params: Mapping[str, Json]) -> dict[str, Json]:
    from anepipe_stages import environment

    return environment.run(params)


def _graph(params: Mapping[str, Json]) -> dict[str, Json]:
    from anepipe_stages.graph import stage

    return stage.run(params)


def _residency(params: Mapping[str, Json]) -> dict[str, Json]:
    from anepipe_stages import residency

    return residency.run(params)


STAGES: dict[str, Stage] = {"environment": _environment, "graph": _graph, "residency": _residency}
