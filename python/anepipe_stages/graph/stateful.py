"""The style `stateful`: hidden states [1, d, T, 1], KV caches as Core ML states that the program updates by mask.

Inputs, all fp16, in this order: hidden [1, d, T, 1], rope_cos and rope_sin [T, rope_dim/2], attn_mask [1, 1, T, S],
kv_write_mask [1, 1, S, T]. States, for each slot i of the shard: k_state_<i>, v_state_<i> [1, kv_heads, S, head_dim].
Output: hidden_out [1, d, T, 1].
"""

from __future__ import annotations

import coremltools as ct
import numpy as np
from coremltools.converters.mil import Builder as mb
from coremltools.converters.mil.mil import Function, Placeholder, Var, types

from anepipe_stages.graph.attention import Tables, attention
from anepipe_stages.graph.norm import rms_norm
from anepipe_stages.graph.ops import Projections, slice_axis
from anepipe_stages.graph.parameters import Head, Layers
from anepipe_stages.graph.weights import Weights

OPSET = ct.target.iOS18


def layers(shard: Layers, width: int, weights: Weights) -> Function:
    """Build a shard of decoder layers at one width."""
    with Function(_layer_inputs(shard, width), OPSET) as function:
        inputs = function.inputs
        write = inputs["kv_write_mask"]
        written = mb.reduce_sum(x=write, axes=[3], keep_dims=True, name="kv_written")
        tables = Tables(
            cos=inputs["rope_cos"],
            sin=inputs["rope_sin"],
            mask=inputs["attn_mask"],
            write=write,
            keep=mb.sub(x=np.float16(1), y=written, name="kv_keep"),
        )
        x = inputs["hidden"]
        for slot in range(shard.layers):
            states = (inputs[f"k_state_{slot}"], inputs[f"v_state_{slot}"])
            x = _layer(shard, slot, weights, tables, x, states)
        if shard.output_norm:
            weight = weights.norm(None, "output_norm", shard.common.hidden)
            x = rms_norm(x, weight, shard.norm_eps, "output_norm")
        x.name = "hidden_out"
        function.set_outputs([x])
    return function


def head(shard: Head, width: int, weights: Weights) -> Function:
    """Build a slice of the LM head at one width: hidden [1, d, T, 1] to logits [1, rows, T, 1]."""
    with Function({"hidden": _tensor(1, shard.common.hidden, width, 1)}, OPSET) as function:
        logits = Projections(weights, None)(function.inputs["hidden"], "lm_head", shard.rows, "logits")
        function.set_outputs([logits])
    return function


def _tensor(*shape: int) -> Placeholder:
    return mb.placeholder(shape=shape, dtype=types.fp16)


def _layer_inputs(shard: Layers, width: int) -> dict[str, Placeholder]:
    half, context = shard.rope_dim // 2, shard.context
    inputs = {
        "hidden": _tensor(1, shard.common.hidden, width, 1),
        "rope_cos": _tensor(width, half),
        "rope_sin": _tensor(width, half),
        "attn_mask": _tensor(1, 1, width, context),
        "kv_write_mask": _tensor(1, 1, context, width),
    }
    cache = (1, shard.kv_heads, context, shard.head_dim)
    for slot in range(shard.layers):
        inputs[f"k_state_{slot}"] = mb.state_tensor_placeholder(cache, types.fp16)
        inputs[f"v_state_{slot}"] = mb.state_tensor_placeholder(cache, types.fp16)
    return inputs


def _layer(shard: Layers, slot: int, weights: Weights, tables: Tables, x: Var, states: tuple[Var, Var]) -> Var:
    prefix, hidden, ffn = f"l{slot}", shard.common.hidden, shard.ffn
    project = Projections(weights, slot)

    def norm(value: Var, tensor: str) -> Var:
        return rms_norm(value, weights.norm(slot, tensor, hidden), shard.norm_eps, f"{prefix}_{tensor}")

    qkv = project(norm(x, "attn_norm"), "qkv", shard.qkv_rows, f"{prefix}_qkv", bias=shard.qkv_bias)
    attended = attention(shard, tables, qkv, states, prefix)
    x = mb.add(
        x=x,
        y=project(attended, "attn_output", hidden, f"{prefix}_attn_output"),
        name=f"{prefix}_after_attention",
    )
    gate_up = project(norm(x, "ffn_norm"), "gate_up", 2 * ffn, f"{prefix}_gate_up")
    gate = mb.silu(x=slice_axis(gate_up, 1, 0, ffn, f"{prefix}_gate"), name=f"{prefix}_gate_silu")
    gated = mb.mul(x=gate, y=slice_axis(gate_up, 1, ffn, 2 * ffn, f"{prefix}_up"), name=f"{prefix}_gated")
    return mb.add(x=x, y=project(gated, "down", hidden, f"{prefix}_down"), name=f"{prefix}_after_ffn")
