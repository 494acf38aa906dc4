"""Compares a build from nothing with a copy of what it makes, the least that any build could do.

    python3 benches/peers/cp.py --model target/bench/full_size.gguf --layers 8

`anepipe build` of single-layer shards with an empty store, in turns with `cp -r` of the bundle that it made and
`sync` of the copy. Memory is the most that one process had at once, and bytes written are what the system counts for
the process and its children.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from collections import defaultdict
from pathlib import Path

import common

GATES = ("parity", "residency")


def stages(log: Path) -> dict[str, float]:
    """Return seconds by stage, of a build's events; actions run at the same time, so they exceed the build's."""
    events = [json.loads(line) for line in log.read_text().splitlines()]
    labels, sums = events[0]["actions"], defaultdict(float)
    for event in events:
        if event["event"] == "finished":
            sums[labels[event["action"]]["stage"]] += event["seconds"]
    return sums


def bytes_in(folder: Path) -> int:
    """Return the bytes of all files in `folder`."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def compare(options: argparse.Namespace, figures: common.Figures) -> None:
    """Build and copy, in turns."""
    for number in range(options.rounds):
        common.say(f"round {number + 1} of {options.rounds}")
        # One folder, so that the copy goes to the same disk; another one a round, so that nothing is there already.
        with tempfile.TemporaryDirectory(dir=options.scratch) as folder:
            scratch = Path(folder)
            bundle, log = scratch / "out", scratch / "events.jsonl"
            build = common.build_layers(options, scratch, "--events", log)
            by_stage = stages(log)
            gates = sum(by_stage[gate] for gate in GATES)
            size = bytes_in(bundle)
            shutil.rmtree(scratch / "store")
            common.run(["sync", scratch])
            copy = common.run(["sh", "-c", f"cp -r '{bundle}' '{scratch}/copy' && sync -f '{scratch}/copy'"])
        figures.add(f"time, {options.layers} layers", "s", build.seconds, copy.seconds)
        share = gates / sum(by_stage.values())
        figures.add("time without the gates' share", "s", build.seconds * (1 - share), copy.seconds)
        figures.add("processor time", "s", build.cpu_seconds, copy.cpu_seconds)
        figures.add("peak memory", "MB", build.peak_bytes / 1e6, copy.peak_bytes / 1e6)
        figures.add("bytes written, of the bundle's", "times", build.written_bytes / size, copy.written_bytes / size)
        split = ", ".join(f"{stage} {seconds:.1f} s" for stage, seconds in by_stage.items() if seconds >= 0.05)
    figures.note(f"The bundle has {size / 1e6:.0f} MB. Stages of the last build, which run at the same time: {split}.")
    figures.note("The gates' share of a build's time is their share of all stages' seconds, by the build's events.")


def main() -> None:
    """Read the arguments and compare."""
    parser = common.parser(__doc__, rounds=3)
    parser.add_argument("--model", type=Path, default=common.ROOT / "target/bench/full_size.gguf")
    parser.add_argument("--layers", type=int, default=8, help="single-layer shards to build [%(default)s]")
    parser.add_argument("--scratch", type=Path, help="folder for what is made and thrown away [the system's]")
    options = parser.parse_args()
    figures = common.Figures("copy", "cp -r, sync", {})
    compare(options, figures)
    figures.finish(options)


if __name__ == "__main__":
    main()
