"""Trains the demo model: a phi3-architecture transformer of two million weights, from nothing, on two CPU cores.

    python models/train.py --work /tmp/demo --steps 3000

Writes `tokenizer.json`, `params.npz` and `train.json` (loss, corpus digest) to the work folder, from which a stopped
run goes on; `export.py` makes the GGUF file.
"""

import argparse
import functools
import json
import math
import time
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import corpus


@dataclass(frozen=True)
class Config:
    """Every size of the model, under the names that its GGUF keys use."""

    vocab_size: int = corpus.VOCAB
    embedding_length: int = 192
    block_count: int = 4
    feed_forward_length: int = 512
    head_count: int = 6
    head_count_kv: int = 2
    head_dim: int = 32
    rope_dimension_count: int = 24
    rope_freq_base: float = 10000.0
    original_context_length: int = 512
    context_length: int = 2048
    rms_epsilon: float = 1e-5
    # Uneven on purpose: a runtime that drops, sorts or shifts them computes something else.
    rope_short: tuple = (1.0, 1.03, 1.02, 1.06, 1.1, 1.08, 1.15, 1.22, 1.18, 1.3, 1.38, 1.45)
    rope_long: tuple = (1.0, 1.1, 1.25, 1.2, 1.6, 2.1, 2.0, 2.8, 3.4, 4.1, 4.6, 5.2)

    @property
    def attn_factor(self):
        """Phi's LongRoPE magnitude: sqrt(1 + ln(context / original) / ln(original))."""
        scale = self.context_length / self.original_context_length
        return math.sqrt(1 + math.log(scale) / math.log(self.original_context_length))


CONFIG = Config()
SEED = 20
WARMUP = 100


def init(config, rng):
    """Fresh weights, each matrix [outputs, inputs] as GGUF stores it."""
    d, ff = config.embedding_length, config.feed_forward_length
    q, kv = config.head_count * config.head_dim, config.head_count_kv * config.head_dim

    def normal(rows, columns, std):
        return (rng.standard_normal((rows, columns)) * std).astype(np.float32)

    residual = 1 / math.sqrt(2 * config.block_count)
    params = {"token_embd": normal(config.vocab_size, d, 0.04), "output_norm": np.ones(d, np.float32)}
    for layer in range(config.block_count):
        params |= {
            f"blk.{layer}.attn_norm": np.ones(d, np.float32),
            f"blk.{layer}.attn_qkv": normal(q + 2 * kv, d, d**-0.5),
            f"blk.{layer}.attn_output": normal(d, q, residual * q**-0.5),
            f"blk.{layer}.ffn_norm": np.ones(d, np.float32),
            f"blk.{layer}.ffn_up": normal(2 * ff, d, d**-0.5),
            f"blk.{layer}.ffn_down": normal(d, ff, residual * ff**-0.5),
        }
    return params


def rope_tables(config, length):
    """cos and sin, [length, rope_dim / 2], with the short factors and the attention factor applied."""
    half = np.arange(config.rope_dimension_count // 2)
    frequency = config.rope_freq_base ** (-2 * half / config.rope_dimension_count) / np.array(config.rope_short)
    angle = np.outer(np.arange(length), frequency)
    return (np.cos(angle) * config.attn_factor).astype(np.float32), (np.sin(angle) * config.attn_factor).astype(
        np.float32
    )


def rotate(x, cos, sin):
    """NeoX rotation of the first rope_dim values of each head; x is [B, T, heads, head_dim]."""
    half = cos.shape[-1]
    a, b, rest = x[..., :half], x[..., half : 2 * half], x[..., 2 * half :]
    cos, sin = cos[:, None, :], sin[:, None, :]
    return jnp.concatenate([a * cos - b * sin, b * cos + a * sin, rest], -1)


def rms_norm(x, weight, epsilon):
    return x * jax.lax.rsqrt(jnp.mean(x * x, -1, keepdims=True) + epsilon) * weight


@jax.checkpoint
def attend(head):
    """One KV head: q [group, T, dim] over k and v [T, dim], causal.

    Queries go in four blocks, each with only the keys it may see, and the backward pass computes the scores again
    instead of storing them: on a CPU that beats one masked product, because it moves less memory.
    """
    q, k, v = head
    group, length, dim = q.shape
    block, mixed = length // 4, []
    for start in range(0, length, block):
        end = start + block
        mask = np.tile(np.arange(end) <= np.arange(start, end)[:, None], (group, 1))
        score = q[:, start:end].reshape(-1, dim) @ k[:end].T * dim**-0.5
        share = jax.nn.softmax(jnp.where(mask, score, -1e9), -1)
        mixed.append((share @ v[:end]).reshape(group, block, dim))
    return jnp.concatenate(mixed, 1)


def forward(config, params, ids):
    """Logits [B, T, vocab] of ids [B, T]; T a multiple of 4."""
    batch, length = ids.shape
    heads, kv_heads, dim = config.head_count, config.head_count_kv, config.head_dim
    cos, sin = rope_tables(config, length)
    x = params["token_embd"][ids]
    for layer in range(config.block_count):
        w = functools.partial(lambda layer, name: params[f"blk.{layer}.{name}"], layer)
        qkv = rms_norm(x, w("attn_norm"), config.rms_epsilon) @ w("attn_qkv").T
        q, k, v = jnp.split(qkv, [heads * dim, (heads + kv_heads) * dim], -1)
        q = rotate(q.reshape(batch, length, heads, dim), cos, sin).transpose(0, 2, 1, 3)
        k = rotate(k.reshape(batch, length, kv_heads, dim), cos, sin).transpose(0, 2, 1, 3)
        v = v.reshape(batch, length, kv_heads, dim).transpose(0, 2, 1, 3)
        each = (batch * kv_heads, heads // kv_heads, length, dim)
        mixed = jax.lax.map(attend, (q.reshape(each), k.reshape(-1, length, dim), v.reshape(-1, length, dim)))
        mixed = mixed.reshape(batch, heads, length, dim).transpose(0, 2, 1, 3)
        x = x + mixed.reshape(batch, length, heads * dim) @ w("attn_output").T
        gate, up = jnp.split(rms_norm(x, w("ffn_norm"), config.rms_epsilon) @ w("ffn_up").T, 2, -1)
        x = x + (jax.nn.silu(gate) * up) @ w("ffn_down").T
    return rms_norm(x, params["output_norm"], config.rms_epsilon) @ params["token_embd"].T


def loss_of(config, params, window):
    """Mean negative log likelihood, nats a token; window is [B, T + 1]."""
    logits = forward(config, params, window[:, :-1])
    picked = jnp.take_along_axis(logits, window[:, 1:, None], -1)[..., 0]
    return jnp.mean(jax.nn.logsumexp(logits, -1) - picked)


def orthogonal(update):
    """The update with its singular values pushed to about 1: Muon's five Newton-Schulz steps (Jordan, 2024)."""
    x = update if update.shape[0] <= update.shape[1] else update.T
    x = x / (jnp.linalg.norm(x) + 1e-7)
    for _ in range(5):
        gram = x @ x.T
        x = 3.4445 * x + (2.0315 * gram @ gram - 4.775 * gram) @ x
    return x if update.shape[0] <= update.shape[1] else x.T


@functools.partial(jax.jit, static_argnums=0, donate_argnums=(1, 2))
def train_step(config, params, moments, window, rate, step):
    """One step: Muon for the layers' matrices, AdamW for the embedding and the norms; gradients clipped to norm 1.

    Muon's update is scaled to the size of AdamW's (0.2 sqrt(max dimension)), so that one learning rate serves both.
    """
    loss, grads = jax.value_and_grad(lambda p: loss_of(config, p, window))(params)
    clip = jnp.minimum(1.0, 1.0 / jnp.sqrt(sum(jnp.sum(g * g) for g in grads.values())))
    new_params, new_moments = {}, {}
    for name, weight in params.items():
        grad, (first, second) = grads[name] * clip, moments[name]
        if weight.ndim == 2 and name != "token_embd":
            first = 0.95 * first + grad
            update = 0.2 * max(weight.shape) ** 0.5 * orthogonal(grad + 0.95 * first)
        else:
            first, second = 0.9 * first + 0.1 * grad, 0.95 * second + 0.05 * grad * grad
            update = (first / (1 - 0.9**step)) / (jnp.sqrt(second / (1 - 0.95**step)) + 1e-8)
        decay = 0.1 if weight.ndim == 2 else 0.0
        new_params[name] = weight - rate * (update + decay * weight)
        new_moments[name] = (first, second)
    return new_params, new_moments, loss


def validation_loss(config, params, stream, length):
    """Loss over the whole validation stream in windows of `length`."""
    count = (len(stream) - 1) // length
    measure = jax.jit(functools.partial(loss_of, config))
    windows = [stream[i * length : (i + 1) * length + 1] for i in range(count)]
    groups = [np.stack(windows[i : i + 16]) for i in range(0, count - 15, 16)]
    return float(np.mean([measure(params, group) for group in groups]))


def save(work, params, moments, step):
    """The weights for `export.py`, and all that `restore` needs to go on."""
    np.savez(work / "params.npz", **params)
    np.savez(
        work / "state.npz", step=step, **{f"{part}/{name}": m[part] for name, m in moments.items() for part in (0, 1)}
    )


def restore(work):
    """(params, moments, steps done): from the work folder if a run was stopped there, else a fresh start."""
    if (work / "state.npz").exists():
        params, state = dict(np.load(work / "params.npz")), np.load(work / "state.npz")
        moments = {name: (state[f"0/{name}"], state[f"1/{name}"]) for name in params}
        step = int(state["step"])
    else:
        params, step = init(CONFIG, np.random.default_rng(SEED)), 0
        moments = {name: (np.zeros_like(p), np.zeros_like(p)) for name, p in params.items()}
    return jax.tree.map(jnp.array, params), jax.tree.map(jnp.array, moments), step


def train(steps, peak_rate, work):
    files = corpus.source_files()
    kept = [f for f in files if corpus.is_validation(f[0])]
    used = [f for f in files if not corpus.is_validation(f[0])]
    tokenizer = corpus.train_tokenizer(text for _, text in used)
    tokenizer.save(str(work / "tokenizer.json"))
    rng = np.random.default_rng(SEED + 1)
    stream, held_out = corpus.encode(tokenizer, used, rng), corpus.encode(tokenizer, kept, rng)
    print(f"{len(used)} files, {len(stream)} tokens; {len(kept)} files held out, {len(held_out)} tokens")

    params, moments, done = restore(work)
    report = {
        "corpus_sha256": corpus.digest(files),
        "train_tokens": len(stream),
        "parameters": int(sum(p.size for p in params.values())),
    }
    print(f"{report['parameters']} weights, from step {done}", flush=True)
    recent, started = [], time.time()
    for step in range(done + 1, steps + 1):
        # A constant rate until the last part of the run: a checkpoint from before it serves any number of steps.
        decay = steps * 0.7
        rate = peak_rate * min(step / WARMUP, 1.0, (steps - step + 1) / (steps - decay))
        # That last part sees the whole original context, so that distances up to 512 are trained.
        batch, length = (16, 256) if step <= decay else (8, 512)
        starts = np.random.default_rng([SEED, step]).integers(0, len(stream) - length - 1, batch)
        window = np.stack([stream[s : s + length + 1] for s in starts])
        params, moments, loss = train_step(CONFIG, params, moments, window, rate, step)
        recent.append(float(loss))
        if step % 50 == 0 or step == steps:
            speed = (step - done) * batch * length / (time.time() - started)
            print(f"step {step} loss {np.mean(recent[-50:]):.4f} {speed:.0f} tokens/s", flush=True)
        if step % 250 == 0 or step == steps:
            save(work, params, moments, step)
        if step % 1000 == 0 or step == steps:
            held = validation_loss(CONFIG, params, held_out, 512 if step == steps else 256)
            report |= {"steps": step, "loss": float(np.mean(recent[-50:])), "validation_loss": held}
            (work / "train.json").write_text(json.dumps(report, indent=1))
            print(f"validation {held:.4f}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--rate", type=float, default=6e-3)
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    train(options.steps, options.rate, options.work)
