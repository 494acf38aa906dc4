"""Compares the processor time and memory of making a layer with the usual recipe of coremltools.

    .venv/bin/python benches/peers/coremltools_recipe.py --model target/bench/full_size.gguf

The recipe: read the layer's matrices from the GGUF file (gguf-py), build a program with them as fp16 constants (MIL
Builder), convert, round the weights to int8 per output channel
(`coremltools.optimize.coreml.linear_quantize_weights`), and save the `.mlpackage`. The program is four convolutions
over four tokens with a SiLU between them, no attention and no cache: less than a layer, and all of its weights. Ours:
`anepipe build` of the layer with an empty store.

Both are processes of their own; processor time is the user's and the system's, of the process and its children.
`anepipe build` also proves the layer; what that costs is told apart by running `anepipe gate parity` and `anepipe
gate residency` on the bundle and taking their processor time off. Memory is the most that one process of each side
had at once.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

import common

TOKENS = 4
GATES = ("parity", "residency")
MATRICES = ("attn_qkv", "attn_output", "ffn_up", "ffn_down")


def recipe(model: Path, layer: int, out: Path) -> None:
    """Make layer `layer` of `model` with coremltools."""
    import coremltools as ct
    import gguf
    import numpy as np
    from coremltools.converters.mil import Builder as mb
    from coremltools.optimize.coreml import OpLinearQuantizerConfig, OptimizationConfig, linear_quantize_weights

    tensors = {tensor.name: tensor for tensor in gguf.GGUFReader(model).tensors}
    weights = []
    for matrix in MATRICES:
        tensor = tensors[f"blk.{layer}.{matrix}.weight"]
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type).astype(np.float16)
        weights.append(values[:, :, None, None])
    qkv, output, gate_up, down = weights
    hidden, ffn = output.shape[0], down.shape[1]

    @mb.program(
        input_specs=[mb.TensorSpec(shape=(1, hidden, 1, TOKENS), dtype=ct.converters.mil.mil.types.fp16)],
        opset_version=ct.target.iOS18,
    )
    def program(x):  # noqa: ANN001, ANN202 - the builder hands in its own variables
        fused = mb.conv(x=x, weight=qkv, pad_type="valid")
        heads = mb.slice_by_index(x=fused, begin=[0, 0, 0, 0], end=[1, output.shape[1], 1, TOKENS])
        attended = mb.add(x=mb.conv(x=heads, weight=output, pad_type="valid"), y=x)
        both = mb.conv(x=attended, weight=gate_up, pad_type="valid")
        gate = mb.slice_by_index(x=both, begin=[0, 0, 0, 0], end=[1, ffn, 1, TOKENS])
        up = mb.slice_by_index(x=both, begin=[0, ffn, 0, 0], end=[1, 2 * ffn, 1, TOKENS])
        return mb.add(x=mb.conv(x=mb.mul(x=mb.silu(x=gate), y=up), weight=down, pad_type="valid"), y=attended)

    converted = ct.convert(program, convert_to="mlprogram", minimum_deployment_target=ct.target.iOS18)
    config = OpLinearQuantizerConfig(mode="linear_symmetric", dtype="int8", granularity="per_channel")
    linear_quantize_weights(converted, OptimizationConfig(global_config=config)).save(str(out))


def compare(options: argparse.Namespace, figures: common.Figures) -> None:
    """Make the same layers both ways, in turns."""
    layers = options.layers
    for number in range(options.rounds):
        common.say(f"round {number + 1} of {options.rounds}")
        with tempfile.TemporaryDirectory(dir=options.scratch) as folder:
            scratch = Path(folder)
            ours = common.build_layers(options, scratch)
            gates = [common.run([options.anepipe, "gate", gate, "--bundle", scratch / "out"]) for gate in GATES]
            package = ["--model", options.model, "--out", scratch / "layer.mlpackage"]
            peer = [common.run([sys.executable, __file__, "--recipe", layer, *package]) for layer in range(layers)]
            proven = sum(gate.cpu_seconds for gate in gates)
            peer_cpu = sum(each.cpu_seconds for each in peer)
            many = f"{layers} layer{'s' if layers > 1 else ''}"
            figures.add(f"processor time, {many}, without gates", "s", ours.cpu_seconds - proven, peer_cpu)
            figures.add(f"processor time, {many}, gates and all", "s", ours.cpu_seconds, peer_cpu)
            figures.add(f"time, {many}, gates and all", "s", ours.seconds, sum(each.seconds for each in peer))
            peak = max(each.peak_bytes for each in peer)
            figures.add(f"peak memory, {many}", "MB", ours.peak_bytes / 1e6, peak / 1e6)


def main() -> None:
    """Read the arguments; compare, or be the recipe."""
    parser = common.parser(__doc__, rounds=3)
    parser.add_argument("--model", type=Path, default=common.ROOT / "target/bench/full_size.gguf")
    parser.add_argument("--layers", type=int, default=1, help="layers to make, each a shard of its own [%(default)s]")
    parser.add_argument("--scratch", type=Path, help="folder for what is made and thrown away [the system's]")
    parser.add_argument("--recipe", type=int, metavar="LAYER", help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.recipe is not None:
        recipe(options.model, options.recipe, options.out)
        return
    versions = {"coremltools": version("coremltools"), "gguf": version("gguf"), "numpy": version("numpy")}
    figures = common.Figures("coremltools_recipe", "coremltools", versions)
    compare(options, figures)
    figures.note("The recipe makes one package a process; anepipe's graph is made once for all layers of a shape.")
    figures.finish(options)


if __name__ == "__main__":
    main()
