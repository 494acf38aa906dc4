"""Writes the figures of `make bench-peers` into docs/performance.md, between its markers.

    python3 benches/report.py --results target/bench --page docs/performance.md

A table belongs to a result file: `<!-- figures: NAME -->` … `<!-- end -->` is filled from NAME.json, with machine,
date, versions and command below it. What has no result file is left as it is, so that a part can be measured again by
itself.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
MARKED = re.compile(r"(<!-- figures: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def table(heads: list[str], rows: list[list[str]]) -> str:
    """Return a table in Markdown, numbers to the right."""
    aligned = ["---", *["---:"] * (len(heads) - 1)]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [heads, aligned, *rows])


def number(value: float) -> str:
    """Return a number with three digits that count, or all before the point."""
    if value == 0:
        return "0"
    digits = max(0, 3 - len(str(int(abs(value))))) if abs(value) >= 1 else 3
    return f"{value:.{digits}f}"


def median(figure: dict[str, float] | None) -> str:
    """Return the median, or a dash."""
    return number(figure["median"]) if figure else "-"


def comparison(result: dict[str, Any]) -> str:
    """Return a comparison with a peer."""
    rows = []
    for each in result["comparisons"]:
        ratio = each["ratio"]
        better = f"{ratio['median']:.2f} ({ratio['min']:.2f}, {ratio['max']:.2f})"
        rows.append([f"{each['name']}, {each['unit']}", median(each["ours"]), median(each["peer"]), better])
    machine = result["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    about = [
        f"{machine['cpu']}, {machine['cores']} cores, {result['date']}, {result['rounds']} rounds;",
        f"`{result['command']}`.",
        f"{versions}." if versions else "",
        *result["notes"],
    ]
    heads = ["", "anepipe", result["peer"], "times better (least, most)"]
    return table(heads, rows) + "\n\n" + " ".join(filter(None, about))


def bench(result: dict[str, Any]) -> str:
    """Return what `anepipe bench` says of a bundle."""
    memory, load, bundle, machine = result["memory"], result["load"], result["bundle"], result["machine"]
    parts = [
        f"{bundle['layers']} layers, d {bundle['hidden']}, vocabulary {bundle['vocab']}, context {bundle['context']}, "
        f"{bundle['quantization']}, {number(bundle['weight_bytes'] / 1e6)} MB of weights. "
        f"Memory reads {median(memory['read_gbps'])} GB/s, copies {median(memory['copy_gbps'])} GB/s; a plain read of "
        f"the weights takes {median(memory['weights_ms'])} ms ({median(memory['weights_gbps'])} GB/s). Loading takes "
        f"{number(load['model_seconds'])} s, and checking every file before it {number(load['check_seconds'])} s."
    ]
    keys = ("ms", "weights_gbps", "of_read", "tokens_per_second")
    rows = [
        [f"{each['tokens']} in {each['width']} slots, context {each['context']}", *(median(each[key]) for key in keys)]
        for each in result["passes"]
    ]
    parts.append(table(["pass of", "ms", "weights, GB/s", "plain reads", "tokens/s"], rows))
    costs = [f"c = {median(each['c'])} at context {each['context']}" for each in result["costs"]]
    if result["prefill"]:
        prefill = result["prefill"]
        costs.append(f"prefill of {prefill['tokens']} tokens: {median(prefill['tokens_per_second'])} tokens/s")
    parts.append("; ".join(costs) + ".")
    if result["decode"]:
        parts.append(classes(result["decode"]))
    parts.append(
        f"{machine['cpu']}, {machine['threads']} of {machine['cores']} threads, {machine['isa']}, {machine['date']}, "
        f"{result['rounds']} rounds, anepipe {result['anepipe']}."
    )
    return "\n\n".join(parts)


def classes(decode: dict[str, Any]) -> str:
    """Return decoding by class of prompts."""
    rows = [
        [
            f"{each['class']} ({each['prompts']})",
            median(each["plain_tokens_per_second"]),
            median(each["speculative_tokens_per_second"]),
            f"{each['ratio']['median']:.2f} ({each['ratio']['min']:.2f}, {each['ratio']['max']:.2f})",
            number(each["tokens_per_pass"]) if each["tokens_per_pass"] else "-",
            "yes" if each["equal"] else "**no**",
        ]
        for each in decode["classes"]
    ]
    heads = ["class (prompts)", "plain, tokens/s", "with drafts", "ratio (least, most)", "tokens/pass", "same tokens"]
    kept = ", with what the prompts before it taught" if decode["keep"] else ""
    return f"{decode['tokens']} tokens behind each prompt{kept}:\n\n" + table(heads, rows)


def main() -> None:
    """Read the arguments and fill the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=ROOT / "target/bench")
    parser.add_argument("--page", type=Path, default=ROOT / "docs/performance.md")
    options = parser.parse_args()

    def filled(marked: re.Match[str]) -> str:
        source = options.results / f"{marked[2]}.json"
        if not source.exists():
            print(f"{source} is not there; its figures stay as they are", file=sys.stderr)
            return marked[0]
        result = json.loads(source.read_text())
        words = comparison(result) if "comparisons" in result else bench(result)
        return f"{marked[1]}\n{words}\n\n{marked[3]}"

    options.page.write_text(MARKED.sub(filled, options.page.read_text()))


if __name__ == "__main__":
    main()
