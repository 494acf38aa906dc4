"""What the comparisons share: how a command is run and weighed, how figures are kept, and how they are told.

Every comparison measures both sides in one run, in turns, round by round: the speed of a machine drifts by more than
what is compared. A figure is a median over rounds, and a ratio is the median of the rounds' ratios, never the ratio
of two runs.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
SCHEMA = 1


@dataclass(frozen=True)
class Ran:
    """A command that ended well, and what it took, its own children included."""

    stdout: str
    seconds: float
    cpu_seconds: float
    peak_bytes: int
    written_bytes: int


def run(command: list[str | Path | int], *, cwd: Path | None = None) -> Ran:
    """Run `command` to its end; a failure ends the script with the command's own words."""
    with tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
        begun = time.perf_counter()
        child = subprocess.Popen([str(part) for part in command], stdout=stdout, stderr=stderr, cwd=cwd)
        # Unlike `subprocess.run`, this gives what the child and all that it waited for have used.
        _, status, usage = os.wait4(child.pid, 0)
        seconds = time.perf_counter() - begun
        child.returncode = os.waitstatus_to_exitcode(status)
        stdout.seek(0)
        stderr.seek(0)
        if child.returncode != 0:
            words = stderr.read().decode(errors="replace")
            sys.exit(f"{' '.join(map(str, command))}: exit {child.returncode}\n{words}")
        return Ran(
            stdout.read().decode(),
            seconds,
            usage.ru_utime + usage.ru_stime,
            usage.ru_maxrss * (1 if platform.system() == "Darwin" else 1024),
            usage.ru_oublock * 512,
        )


def build_layers(options: argparse.Namespace, scratch: Path, *more: str | Path) -> Ran:
    """Build the first `options.layers` layers with an empty store, each a shard, into `scratch`'s folder `out`."""
    layers = options.layers
    return run(
        [
            *(
                options.anepipe,
                "--cache-dir",
                scratch / "store",
                "build",
                "--model",
                options.model,
                "--context",
                "2048",
            ),
            *("--layers", f"0..{layers}", "--topology", "+".join(["1"] * layers), "--out", scratch / "out", *more),
        ]
    )


@dataclass
class Comparison:
    """One thing, measured on both sides."""

    name: str
    unit: str
    higher_is_better: bool
    ours: list[float] = field(default_factory=list)
    peer: list[float] = field(default_factory=list)

    def add(self, ours: float, peer: float) -> None:
        """Take in a round."""
        self.ours.append(ours)
        self.peer.append(peer)

    def ratios(self) -> list[float]:
        """How many times better we are, round by round; below 1 the peer is."""
        pairs = zip(self.ours, self.peer, strict=True)
        return [ours / peer if self.higher_is_better else peer / ours for ours, peer in pairs]

    def to_json(self) -> dict[str, Any]:
        """Both sides and the ratio, each as median, least and most."""
        return {
            "name": self.name,
            "unit": self.unit,
            "higher_is_better": self.higher_is_better,
            "ours": spread(self.ours),
            "peer": spread(self.peer),
            "ratio": spread(self.ratios()),
        }


def spread(values: list[float]) -> dict[str, float]:
    """Median, least and most."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


class Figures:
    """All comparisons of one script, in the order in which they were first measured."""

    def __init__(self, bench: str, peer: str, versions: dict[str, str]) -> None:
        """Figures of the comparison `bench` with `peer`."""
        self.bench = bench
        self.peer = peer
        self.versions = versions
        self.notes: list[str] = []
        self._comparisons: dict[str, Comparison] = {}

    def add(self, name: str, unit: str, ours: float, peer: float, *, higher_is_better: bool = False) -> None:
        """Take in one round of `name`."""
        new = Comparison(name, unit, higher_is_better)
        self._comparisons.setdefault(name, new).add(ours, peer)

    def note(self, text: str) -> None:
        """Say something that figures cannot, once."""
        if text not in self.notes:
            self.notes.append(text)

    def finish(self, options: argparse.Namespace) -> None:
        """Print the table, and write the document if there is a file for it."""
        comparisons = [comparison.to_json() for comparison in self._comparisons.values()]
        width = max(len(comparison["name"]) for comparison in comparisons)
        print(f"{'':{width}}  {'ours':>12}  {self.peer:>12}  times better")
        for each in comparisons:
            ours, peer, ratio = (each[key]["median"] for key in ("ours", "peer", "ratio"))
            print(f"{each['name']:{width}}  {ours:12.4g}  {peer:12.4g}  {ratio:12.3f}  ({each['unit']})")
        for note in self.notes:
            print(note)
        if options.json:
            document = {
                "schema": SCHEMA,
                "bench": self.bench,
                "peer": self.peer,
                "rounds": options.rounds,
                # Where files lie on this machine is nobody's business.
                "command": " ".join(Path(word).name if "/" in word else word for word in sys.argv),
                "date": time.strftime("%Y-%m-%d", time.gmtime()),
                "machine": machine(),
                "versions": self.versions,
                "comparisons": comparisons,
                "notes": self.notes,
            }
            options.json.parent.mkdir(parents=True, exist_ok=True)
            options.json.write_text(json.dumps(document, indent=1) + "\n")


def machine() -> dict[str, Any]:
    """Return what the processor calls itself, and how many threads it runs."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        cpu = names[0].partition(":")[2].strip() if names else cpu
    return {"cpu": cpu, "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()}


def parser(description: str | None, rounds: int) -> argparse.ArgumentParser:
    """Return a parser of the options that every comparison has."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--rounds", type=int, default=rounds, help="times that each thing is measured [%(default)s]")
    made.add_argument("--json", type=Path, metavar="FILE", help="write the figures to this file, too")
    made.add_argument("--anepipe", type=Path, default=ROOT / "target/release/anepipe", help="the command")
    return made


def say(text: str) -> None:
    """Tell of progress on stderr, which figures are not on."""
    print(text, file=sys.stderr, flush=True)
