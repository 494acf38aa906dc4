"""Tests of the Python sources against coremltools and against formulas written down a second time.

Run by `cargo test -p anepipe-pipeline`, or by hand: `cd python && ../.venv/bin/python -m unittest discover`.
"""
