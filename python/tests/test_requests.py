"""What the worker's dispatcher accepts and refuses."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

from anepipe_stages.dispatch import call
from anepipe_stages.registry import Json
from tests.shards import HEAD, LAYERS

SCRIPT = """
import sys
from pathlib import Path
from tests.shards import LAYERS, graph
graph(Path(sys.argv[1]), LAYERS)
"""


def refusal(spec: dict[str, Json]) -> str:
    """Return the message with which a spec is refused."""
    with tempfile.TemporaryDirectory() as folder:
        answer = json.loads(call("graph", json.dumps({"spec": spec, "out_dir": folder})))
        if "error" not in answer:
            return "accepted"
        if list(Path(folder).iterdir()):
            return "refused, but something was written"
    return f"{answer['error']['type']}: {answer['error']['message']}"


class Refusals(unittest.TestCase):
    """Every message names the field."""

    def test_each_field_is_required_and_no_other_is_known(self) -> None:
        """A field that is missing never gets a default."""
        for spec in (LAYERS, HEAD):
            for name in spec:
                with self.subTest(kind=spec["kind"], missing=name):
                    rest = {key: value for key, value in spec.items() if key != name}
                    self.assertEqual(refusal(rest), f"ParameterError: graph: the field {name!r} is missing")
            self.assertEqual(refusal({**spec, "colour": 1}), "ParameterError: graph: unknown fields: colour")

    def test_values_outside_their_range_are_refused(self) -> None:
        """Type, range, and what does not fit together."""
        for name, value, reason in [
            ("kind", "decoder", "'kind' must be"),
            ("style", "stateless", "'style' must be"),
            ("quantization", "int4", "'quantization' must be"),
            ("quantization", None, "'quantization' must be"),
            ("widths", [], "'widths' must be"),
            ("widths", [4, 4], "'widths' must be"),
            ("widths", [0], "'widths' must be"),
            ("widths", 4, "'widths' must be"),
            ("widths", [33], "a block of 33 exceeds the context of 32"),
            ("hidden", 0, "'hidden' must be"),
            ("hidden", 64.0, "'hidden' must be"),
            ("hidden", True, "'hidden' must be"),
            ("hidden", 1 << 40, "'hidden' must be"),
            ("kv_heads", 3, "4 heads cannot share 3 KV heads evenly"),
            ("rope_dim", 5, "'rope_dim' must be even"),
            ("rope_dim", 18, "at most 'head_dim' 16, found 18"),
            ("norm_eps", 0, "'norm_eps' must be"),
            ("norm_eps", "1e-5", "'norm_eps' must be"),
            ("output_norm", 1, "'output_norm' must be"),
            ("fault", "no-norm", "'fault' must be"),
        ]:
            with self.subTest(name=name, value=value):
                message = refusal({**LAYERS, name: value})
                self.assertTrue(message.startswith("ParameterError: graph: "), message)
                self.assertIn(reason, message)

    def test_a_stage_that_does_not_exist_is_named(self) -> None:
        """With the ones that do."""
        error = json.loads(call("paint", "{}"))["error"]
        self.assertEqual(error["type"], "LookupError")
        self.assertIn("no stage is called 'paint'; there are: environment, graph, residency", error["message"])
        self.assertIn("Traceback", error["traceback"])


class Determinism(unittest.TestCase):
    """The same bytes whatever the process."""

    def test_the_seed_of_hashes_does_not_matter(self) -> None:
        """Sets and dictionaries order differently under each seed."""
        digests = set()
        for seed in ("0", "1", "4711"):
            with tempfile.TemporaryDirectory() as folder:
                subprocess.run(
                    [sys.executable, "-c", SCRIPT, folder],
                    check=True,
                    capture_output=True,
                    cwd=Path(__file__).parent.parent,
                    env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONDONTWRITEBYTECODE": "1"},
                )
                data = [(Path(folder) / name).read_bytes() for name in ("model.mlmodel", "blobs.json")]
                digests.add(hashlib.sha256(b"".join(data)).hexdigest())
        self.assertEqual(len(digests), 1)


if __name__ == "__main__":
    unittest.main()
