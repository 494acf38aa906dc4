"""Attention of one layer in the style `stateful`: the program writes its own KV cache."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from coremltools.converters.mil import Builder as mb
from coremltools.converters.mil.mil import Var

from anepipe_stages.graph.ops import slice_axis
from anepipe_stages.graph.parameters import Layers


@dataclass(frozen=True)
class Tables:
    """What the host supplies a pass, the same for every layer.

    cos, sin [T, rope_dim/2]; mask [1, 1, T, S], added to the scores; write [1, 1, S, T], one where slot t's key and
    value go to row s; keep [1, 1, S, 1], one minus the row sums of `write`.
    """

    cos: Var
    sin: Var
    mask: Var
    write: Var
    keep: Var


def attention(shard: Layers, tables: Tables, qkv: Var, states: tuple[Var, Var], prefix: str) -> Var:
    """Attend from the fused projection `qkv` [1, (heads + 2·kv_heads)·head_dim, T, 1].

    The states are the keys and the values [1, kv_heads, S, head_dim]; both are updated. Returns
    [1, heads·head_dim, T, 1].
    """
    heads, kv_heads, width = shard.heads, shard.kv_heads, qkv.shape[2]
    grouped = mb.reshape(x=qkv, shape=(1, heads + 2 * kv_heads, shard.head_dim, width), name=f"{prefix}_heads")
    by_token = mb.transpose(x=grouped, perm=[0, 1, 3, 2], name=f"{prefix}_by_token")
    value = slice_axis(by_token, 1, heads + kv_heads, heads + 2 * kv_heads, f"{prefix}_value")
    unrotated = slice_axis(by_token, 1, 0, heads + kv_heads, f"{prefix}_query_key")
    rotated = _rotate(shard, tables, unrotated, prefix)
    query = slice_axis(rotated, 1, 0, heads, f"{prefix}_query")
    # Scaling the queries is one multiplication a layer where scaling the scores is one a KV head over all of S, and
    # keeps the scores a factor of √head_dim further from fp16's limit.
    query = mb.mul(x=query, y=np.float16(shard.head_dim**-0.5), name=f"{prefix}_query_scaled")
    key = slice_axis(rotated, 1, heads, heads + kv_heads, f"{prefix}_key")
    keys = _store(tables, states[0], key, f"{prefix}_keys")
    values = _store(tables, states[1], value, f"{prefix}_values")
    attended = _attend(shard, tables.mask, query, (keys, values), prefix)
    if shard.fault != "no-permute":
        # Without this the reshape below would interleave positions into channels.
        attended = mb.transpose(x=attended, perm=[0, 1, 3, 2], name=f"{prefix}_by_channel")
    return mb.reshape(x=attended, shape=(1, shard.query_rows, width, 1), name=f"{prefix}_attended")


def _rotate(shard: Layers, tables: Tables, x: Var, prefix: str) -> Var:
    """Rotate the first rope_dim channels of each head: its first half with its second; the rest pass through."""
    half, rope_dim = shard.rope_dim // 2, shard.rope_dim

    def mul(a: Var, b: Var, suffix: str) -> Var:
        return mb.mul(x=a, y=b, name=f"{prefix}_rope_{suffix}")

    low = slice_axis(x, 3, 0, half, f"{prefix}_rope_low")
    high = slice_axis(x, 3, half, rope_dim, f"{prefix}_rope_high")
    parts = [
        mb.sub(x=mul(low, tables.cos, "low_cos"), y=mul(high, tables.sin, "high_sin"), name=f"{prefix}_rope_a"),
        mb.add(x=mul(low, tables.sin, "low_sin"), y=mul(high, tables.cos, "high_cos"), name=f"{prefix}_rope_b"),
    ]
    if rope_dim < shard.head_dim:
        parts.append(slice_axis(x, 3, rope_dim, shard.head_dim, f"{prefix}_rope_pass"))
    return mb.concat(values=parts, axis=3, name=f"{prefix}_rotated")


def _store(tables: Tables, state: Var, new: Var, name: str) -> Var:
    """Write `new` [1, kv_heads, T, head_dim] to the rows that `write` names; return the whole state."""
    old = mb.read_state(input=state, name=f"{name}_old")
    kept = mb.mul(x=old, y=tables.keep, name=f"{name}_kept")
    placed = mb.matmul(x=tables.write, y=new, name=f"{name}_placed")
    return mb.coreml_update_state(state=state, value=mb.add(x=kept, y=placed, name=f"{name}_new"), name=name)


def _attend(shard: Layers, mask: Var, query: Var, cache: tuple[Var, Var], prefix: str) -> Var:
    """Attend one KV head at a time; return [1, heads, T, head_dim]."""
    share = shard.heads // shard.kv_heads
    parts = []
    for head in range(shard.kv_heads):
        name = f"{prefix}_kv{head}"
        queries = slice_axis(query, 1, head * share, (head + 1) * share, f"{name}_query")
        keys = slice_axis(cache[0], 1, head, head + 1, f"{name}_keys")
        values = slice_axis(cache[1], 1, head, head + 1, f"{name}_values")
        scores = mb.matmul(x=queries, y=keys, transpose_y=True, name=f"{name}_scores")
        masked = mb.add(x=scores, y=mask, name=f"{name}_masked")
        weights = mb.softmax(x=masked, axis=-1, name=f"{name}_weights")
        parts.append(mb.matmul(x=weights, y=values, name=f"{name}_sum"))
    return parts[0] if len(parts) == 1 else mb.concat(values=parts, axis=1, name=f"{prefix}_sums")
