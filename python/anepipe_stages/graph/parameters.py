"""What a graph is built from. Equal parameters give equal bytes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from anepipe_stages.fields import Fields, ParameterError
from anepipe_stages.registry import Json

QUANTIZATIONS = ("int8", "int8-per-tensor", "f16")
STYLES = ("stateful",)
# Deliberate faults that gates must catch. "no-permute" reshapes the attention output without permuting it first.
FAULTS = (None, "no-permute")


@dataclass(frozen=True)
class Common:
    """What every kind of shard has: d channels, one function a width, how matrices are stored."""

    style: str
    widths: tuple[int, ...]
    hidden: int
    quantization: str

    def functions(self) -> dict[str, int]:
        """Name the functions with their widths: "main" for one width, "t<width>" for several."""
        if len(self.widths) == 1:
            return {"main": self.widths[0]}
        return {f"t{width}": width for width in self.widths}


@dataclass(frozen=True)
class Layers:
    """A shard of decoder layers; extents in elements."""

    common: Common
    heads: int
    kv_heads: int
    head_dim: int
    ffn: int
    rope_dim: int
    norm_eps: float
    context: int
    layers: int
    output_norm: bool
    qkv_bias: bool
    fault: str | None

    @property
    def query_rows(self) -> int:
        """Channels of the queries, which are those of the attention's output."""
        return self.heads * self.head_dim

    @property
    def qkv_rows(self) -> int:
        """Channels of the fused projection: queries, then keys, then values."""
        return (self.heads + 2 * self.kv_heads) * self.head_dim


@dataclass(frozen=True)
class Head:
    """A slice of the LM head: `rows` of the vocabulary. The output norm belongs to the last layer shard."""

    common: Common
    rows: int


def read(params: Mapping[str, Json]) -> tuple[Layers | Head, Path]:
    """Read a request: {"spec": …, "out_dir": …}."""
    request = Fields("graph", params)
    out_dir = Path(request.text("out_dir"))
    spec = request.object("spec")
    request.finish()
    fields = Fields("graph", spec)
    kind = fields.choice("kind", ("layers", "lm_head"))
    common = Common(
        style=str(fields.choice("style", STYLES)),
        widths=fields.extents("widths"),
        hidden=fields.extent("hidden"),
        quantization=str(fields.choice("quantization", QUANTIZATIONS)),
    )
    shard = _layers(fields, common) if kind == "layers" else Head(common, fields.extent("rows"))
    fields.finish()
    return shard, out_dir


def _layers(fields: Fields, common: Common) -> Layers:
    shard = Layers(
        common=common,
        heads=fields.extent("heads"),
        kv_heads=fields.extent("kv_heads"),
        head_dim=fields.extent("head_dim"),
        ffn=fields.extent("ffn"),
        rope_dim=fields.extent("rope_dim"),
        norm_eps=fields.positive("norm_eps"),
        context=fields.extent("context"),
        layers=fields.extent("layers"),
        output_norm=fields.flag("output_norm"),
        qkv_bias=fields.flag("qkv_bias"),
        fault=fields.choice("fault", FAULTS),
    )
    if shard.heads % shard.kv_heads:
        raise ParameterError(f"graph: {shard.heads} heads cannot share {shard.kv_heads} KV heads evenly")
    if shard.rope_dim % 2 or shard.rope_dim > shard.head_dim:
        raise ParameterError(
            f"graph: 'rope_dim' must be even and at most 'head_dim' {shard.head_dim}, found {shard.rope_dim}"
        )
    if max(common.widths) > shard.context:
        raise ParameterError(f"graph: a block of {max(common.widths)} exceeds the context of {shard.context}")
    return shard
