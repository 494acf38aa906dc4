"""One request in, one response out, both JSON text: the only function the worker calls."""

from __future__ import annotations

import json
import traceback

from anepipe_stages.registry import STAGES


def call(method: str, params: str) -> str:
    """Run the stage called `method`; its result is under "ok", an exception under "error".

    "error" holds the exception's type, its message, the system's error number if it came from there, and the
    traceback as text. Only exceptions that are not an `Exception` (an interpreter that is being ended) pass through.
    """
    try:
        if method not in STAGES:
            raise LookupError(f"no stage is called {method!r}; there are: {', '.join(sorted(STAGES))}")
        return json.dumps({"ok": STAGES[method](json.loads(params))}, allow_nan=False)
    except Exception as error:
        report = {
            "type": type(error).__name__,
            "message": str(error),
            "errno": error.errno if isinstance(error, OSError) else None,
            "traceback": traceback.format_exc(),
        }
        return json.dumps({"error": report})
