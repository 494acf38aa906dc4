"""The decoder written down a second time: one token at a time, one head at a time, straight from the formulas."""

from __future__ import annotations

import numpy as np

Array = np.ndarray


class Reference:
    """A model's layers in fp64, from the blobs of a shard."""

    def __init__(self, spec: dict, table: dict, weights: dict[str, Array]) -> None:
        """Dequantize everything."""
        self.spec = spec
        self.tensors: dict[tuple, Array] = {}
        scales = {}
        for blob in table["blobs"]:
            value = weights[blob["name"]].astype(np.float64)
            key = (blob["slot"], blob["tensor"])
            if blob["part"] == "scale":
                scales[key] = value
            else:
                self.tensors[(*key, "bias") if blob["part"] == "bias" else key] = value
        for key, scale in scales.items():
            self.tensors[key] = self.tensors[key] * scale[:, None]
        self.keys: list[list[Array]] = [[] for _ in range(spec["layers"])]
        self.values: list[list[Array]] = [[] for _ in range(spec["layers"])]

    def step(self, x: Array, cos: Array, sin: Array) -> Array:
        """Take one token [d] with its rotary row; return its hidden state."""
        s = self.spec
        heads, kv_heads, dim = s["heads"], s["kv_heads"], s["head_dim"]
        for layer in range(s["layers"]):
            qkv = self.tensors[layer, "qkv"] @ self._norm(x, (layer, "attn_norm"))
            qkv = qkv + self.tensors.get((layer, "qkv", "bias"), 0)
            rows = qkv.reshape(heads + 2 * kv_heads, dim)
            self.keys[layer].append(np.stack([self._rotate(k, cos, sin) for k in rows[heads : heads + kv_heads]]))
            self.values[layer].append(rows[heads + kv_heads :])
            outputs = []
            for head in range(heads):
                query, group = self._rotate(rows[head], cos, sin), head // (heads // kv_heads)
                scores = np.array([query @ k[group] for k in self.keys[layer]]) / np.sqrt(dim)
                weights = np.exp(scores - scores.max())
                weights /= weights.sum()
                outputs.append(sum(w * v[group] for w, v in zip(weights, self.values[layer], strict=True)))
            x = x + self.tensors[layer, "attn_output"] @ np.concatenate(outputs)
            gate, up = np.split(self.tensors[layer, "gate_up"] @ self._norm(x, (layer, "ffn_norm")), 2)
            x = x + self.tensors[layer, "down"] @ (gate / (1 + np.exp(-gate)) * up)
        return self._norm(x, (None, "output_norm")) if s["output_norm"] else x

    def _norm(self, x: Array, key: tuple) -> Array:
        return x / np.sqrt(np.mean(x * x) + self.spec["norm_eps"]) * self.tensors[key]

    def _rotate(self, head: Array, cos: Array, sin: Array) -> Array:
        out, half = head.copy(), self.spec["rope_dim"] // 2
        for i in range(half):
            a, b = head[i], head[i + half]
            out[i], out[i + half] = a * cos[i] - b * sin[i], b * cos[i] + a * sin[i]
        return out
