"""Runs a phi3 GGUF file in plain numpy, straight from the file: an independent judge, slow and short.

    python models/reference.py models/anepipe-demo-q8_0.gguf "def main():" --new 64

Everything is read from the file and computed in float32; nothing is shared with the code that trained the model.
"""

import argparse

import gguf
import numpy as np
import regex
from gguf import quants

SPLIT = regex.compile(
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def byte_letters():
    """GPT-2's printable stand-in for each byte value."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in plain]
    return {byte: chr(byte) for byte in plain} | {byte: chr(256 + n) for n, byte in enumerate(others)}


class Tokenizer:
    """Byte-level BPE with the gpt-4o split rule, from the file's token and merge lists.

    Text is never read as control tokens.
    """

    def __init__(self, key):
        if (key("tokenizer.ggml.model"), key("tokenizer.ggml.pre")) != ("gpt2", "gpt-4o"):
            raise ValueError("only gpt2 tokenizers with the gpt-4o split rule are read here")
        self.tokens = key("tokenizer.ggml.tokens")
        self.ids = {token: index for index, token in enumerate(self.tokens)}
        self.rank = {tuple(merge.split(" ")): rank for rank, merge in enumerate(key("tokenizer.ggml.merges"))}
        self.letter = byte_letters()
        self.byte = {letter: byte for byte, letter in self.letter.items()}

    def encode(self, text):
        ids = []
        for word in SPLIT.findall(text):
            parts = [self.letter[byte] for byte in word.encode()]
            while len(parts) > 1:
                rank, at = min(
                    (self.rank.get(pair, len(self.rank)), i)
                    for i, pair in enumerate(zip(parts, parts[1:], strict=False))
                )
                if rank == len(self.rank):
                    break
                parts[at : at + 2] = [parts[at] + parts[at + 1]]
            ids += [self.ids[part] for part in parts]
        return ids

    def decode(self, ids):
        letters = "".join(self.tokens[i] for i in ids)
        if all(letter in self.byte for letter in letters):
            return bytes(self.byte[letter] for letter in letters).decode(errors="replace")
        return letters


class Model:
    """The weights of one file, in float32, and the numbers that its metadata gives."""

    def __init__(self, path):
        reader = gguf.GGUFReader(path)
        self.key = lambda name: reader.fields[name].contents()
        self.weight = {
            t.name.removesuffix(".weight"): quants.dequantize(t.data, t.tensor_type).astype(np.float32)
            for t in reader.tensors
        }
        self.tokenizer = Tokenizer(self.key)
        self.heads, self.kv_heads = self.key("phi3.attention.head_count"), self.key("phi3.attention.head_count_kv")
        self.epsilon = np.float32(self.key("phi3.attention.layer_norm_rms_epsilon"))

    def rope(self, length, context):
        """cos and sin for positions 0 to length - 1 of a session whose context is `context`."""
        short = context <= self.key("phi3.rope.scaling.original_context_length")
        factors = self.weight["rope_factors_short" if short else "rope_factors_long"]
        dim = self.key("phi3.rope.dimension_count")
        theta = self.key("phi3.rope.freq_base") ** (-np.arange(0, dim, 2) / dim) / factors
        angle = np.outer(np.arange(length), theta)
        scale = self.key("phi3.rope.scaling.attn_factor")
        return (np.cos(angle) * scale).astype(np.float32), (np.sin(angle) * scale).astype(np.float32)

    def norm(self, x, weight):
        return x / np.sqrt(np.mean(x * x, -1, keepdims=True) + self.epsilon) * weight

    def logits(self, ids, context=512):
        """Logits [len(ids), vocab], every position from scratch."""
        cos, sin = self.rope(len(ids), context)
        half = cos.shape[1]
        hidden = self.weight["token_embd"][ids]
        future = np.triu(np.full((len(ids), len(ids)), -np.inf, np.float32), 1)

        def turned(head):
            a, b = head[:, :half], head[:, half : 2 * half]
            return np.hstack([a * cos - b * sin, a * sin + b * cos, head[:, 2 * half :]])

        for layer in range(self.key("phi3.block_count")):
            w = {
                name: self.weight[f"blk.{layer}.{name}"]
                for name in ("attn_norm", "attn_qkv", "attn_output", "ffn_norm", "ffn_up", "ffn_down")
            }
            qkv = self.norm(hidden, w["attn_norm"]) @ w["attn_qkv"].T
            dim = qkv.shape[1] // (self.heads + 2 * self.kv_heads)
            columns = [qkv[:, i : i + dim] for i in range(0, qkv.shape[1], dim)]
            mixed = []
            for head in range(self.heads):
                group = self.heads + head * self.kv_heads // self.heads
                score = turned(columns[head]) @ turned(columns[group]).T / np.sqrt(np.float32(dim)) + future
                share = np.exp(score - score.max(-1, keepdims=True))
                mixed.append(share / share.sum(-1, keepdims=True) @ columns[group + self.kv_heads])
            hidden = hidden + np.hstack(mixed) @ w["attn_output"].T
            gate, up = np.split(self.norm(hidden, w["ffn_norm"]) @ w["ffn_up"].T, 2, axis=-1)
            hidden = hidden + (gate / (1 + np.exp(-gate)) * up) @ w["ffn_down"].T
        head = self.weight.get("output", self.weight["token_embd"])
        return self.norm(hidden, self.weight["output_norm"]) @ head.T

    def greedy(self, ids, count, context=512):
        """The next `count` ids; equal logits go to the lowest id."""
        ids = list(ids)
        for _ in range(count):
            ids.append(int(np.argmax(self.logits(ids, context)[-1])))
        return ids[-count:]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("prompt")
    parser.add_argument("--new", type=int, default=64)
    options = parser.parse_args()
    model = Model(options.model)
    prompt = model.tokenizer.encode(options.prompt)
    print(options.prompt + model.tokenizer.decode(model.greedy(prompt, options.new)))
