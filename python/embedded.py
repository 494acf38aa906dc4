"""Imports a package from memory, so that a worker needs no source on disk and writes no bytecode."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import InspectLoader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_loader
from types import ModuleType


class Embedded(MetaPathFinder, InspectLoader):
    """Finds and loads modules from a table of module names with their sources."""

    def __init__(self, sources: dict[str, str], packages: frozenset[str]) -> None:
        """Serve `sources`; those named in `packages` are packages."""
        self._sources = sources
        self._packages = packages

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the spec of an embedded module, None for every other."""
        del path, target
        if fullname not in self._sources:
            return None
        origin = f"<anepipe>/{fullname.replace('.', '/')}.py"
        spec = spec_from_loader(fullname, self, origin=origin, is_package=self.is_package(fullname))
        if spec is not None:
            spec.has_location = True
        return spec

    def is_package(self, fullname: str) -> bool:
        """Tell whether the module is a package."""
        return fullname in self._packages

    def get_source(self, fullname: str) -> str:
        """Return the source, which tracebacks quote."""
        if fullname not in self._sources:
            raise ImportError(f"{fullname} is not embedded", name=fullname)
        return self._sources[fullname]

    def exec_module(self, module: ModuleType) -> None:
        """Run the source in the new module."""
        name = module.__name__
        origin = module.__spec__.origin if module.__spec__ and module.__spec__.origin else name
        exec(compile(self.get_source(name), origin, "exec", dont_inherit=True), module.__dict__)


def install(sources: dict[str, str], packages: list[str], site_packages: str) -> None:
    """Serve the embedded modules, and everything else from the standard library and `site_packages`."""
    sys.meta_path.insert(0, Embedded(sources, frozenset(packages)))
    sys.path.append(site_packages)
