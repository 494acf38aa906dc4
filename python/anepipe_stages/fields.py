"""Reading a request's parameters strictly: every field present, of its type, in its range, and none besides."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from anepipe_stages.registry import Json

# No tensor of a model comes near this; it keeps shape products far from overflow.
LARGEST_EXTENT = 1 << 24


class ParameterError(ValueError):
    """A request whose parameters do not fit the stage."""


class Fields:
    """The fields of one JSON object. Each is taken once; `finish` refuses those that nobody took."""

    def __init__(self, what: str, fields: Mapping[str, Json]) -> None:
        """Read from `fields`; `what` names the object in messages."""
        if not isinstance(fields, Mapping):
            raise ParameterError(f"{what}: expected an object, found {fields!r}")
        self._what = what
        self._left = dict(fields)

    def _take(self, name: str) -> Json:
        if name not in self._left:
            raise ParameterError(f"{self._what}: the field {name!r} is missing")
        return self._left.pop(name)

    def _wrong(self, name: str, expected: str, found: Json) -> ParameterError:
        return ParameterError(f"{self._what}: {name!r} must be {expected}, found {found!r}")

    def extent(self, name: str) -> int:
        """Take a positive extent."""
        value = self._take(name)
        if not _is_int(value) or not 1 <= value <= LARGEST_EXTENT:
            raise self._wrong(name, f"an integer from 1 to {LARGEST_EXTENT}", value)
        return value

    def extents(self, name: str) -> tuple[int, ...]:
        """Take a list of positive extents, none twice."""
        value = self._take(name)
        good = isinstance(value, list) and value and all(_is_int(v) and 1 <= v <= LARGEST_EXTENT for v in value)
        if not good or len(set(value)) != len(value):
            raise self._wrong(name, "a list of different positive integers", value)
        return tuple(value)

    def positive(self, name: str) -> float:
        """Take a finite number above zero."""
        value = self._take(name)
        good = isinstance(value, int | float) and not isinstance(value, bool)
        if not good or not math.isfinite(value) or value <= 0:
            raise self._wrong(name, "a number above zero", value)
        return float(value)

    def flag(self, name: str) -> bool:
        """Take a boolean."""
        value = self._take(name)
        if not isinstance(value, bool):
            raise self._wrong(name, "true or false", value)
        return value

    def text(self, name: str) -> str:
        """Take a string."""
        value = self._take(name)
        if not isinstance(value, str):
            raise self._wrong(name, "a string", value)
        return value

    def choice(self, name: str, choices: Sequence[str | None]) -> str | None:
        """Take one of `choices`."""
        value = self._take(name)
        if value not in choices or isinstance(value, bool | int | float):
            raise self._wrong(name, " or ".join(repr(c) for c in choices), value)
        return value

    def object(self, name: str) -> Mapping[str, Json]:
        """Take an object."""
        value = self._take(name)
        if not isinstance(value, dict):
            raise self._wrong(name, "an object", value)
        return value

    def finish(self) -> None:
        """Refuse every field that was not taken."""
        if self._left:
            raise ParameterError(f"{self._what}: unknown fields: {', '.join(sorted(self._left))}")


def _is_int(value: Json) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
