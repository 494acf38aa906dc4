"""The stage `environment`: the versions of everything a result can depend on."""

from __future__ import annotations

import platform
from collections.abc import Mapping

from anepipe_stages.fields import Fields
from anepipe_stages.registry import Json


def versions() -> dict[str, Json]:
    """Versions as the imported modules state them."""
    import coremltools
    import google.protobuf
    import numpy

    return {
        "python": platform.python_version(),
        "coremltools": coremltools.__version__,
        "numpy": numpy.__version__,
        "protobuf": google.protobuf.__version__,
        "platform": f"{platform.system()}-{platform.machine()}".lower(),
    }


def run(params: Mapping[str, Json]) -> dict[str, Json]:
    """Report the versions. Takes no parameters."""
    Fields("environment", params).finish()
    return versions()
