"""Compares passes, prefill and generation with llama.cpp, on the same model file and as many threads.

    .venv-oracle/bin/python benches/peers/llama.py passes --model F.gguf --bundle DIR
    .venv-oracle/bin/python benches/peers/llama.py generate --model F.gguf --bundle DIR --prompts F.jsonl

`passes`: the time of a pass over T tokens, the logits of all of them included, behind an empty and behind a filled
context, and of a prompt of some length. Ours is measured by `anepipe bench`, one process a round; llama.cpp in this
process, by `llama_decode`.

`generate`: tokens a second behind prompts, plain and with drafts from the text so far: on our side by `anepipe
generate`, on llama.cpp's by its Python package's prompt lookup, with as many draft tokens. Only the time inside
`llama_decode` counts for llama.cpp, so that Python costs it nothing; all of ours counts for us. Neither side's prompt
is in the time.

llama.cpp runs as it comes: KV cache in fp16, flash attention where it thinks fit.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import common
import llama_cpp
import numpy as np
from llama_cpp import llama_cpp as c
from llama_cpp.llama_speculative import LlamaPromptLookupDecoding

DRAFT = 3  # tokens, as many as our block of four verifies
BATCH = 512


class Llama:
    """A model of llama.cpp, by its C interface."""

    def __init__(self, model: Path, threads: int) -> None:
        """Load the model file."""
        c.llama_backend_init()
        self.threads = threads
        # The callback must outlive every call that may log.
        self._silent = c.llama_log_callback(lambda *_: None)
        c.llama_log_set(self._silent, ctypes.c_void_p(0))
        self.model = c.llama_model_load_from_file(str(model).encode(), c.llama_model_default_params())
        self.vocab = c.llama_vocab_n_tokens(c.llama_model_get_vocab(self.model))

    def system(self) -> str:
        """Return the instructions that it was built for."""
        return c.llama_print_system_info().decode().strip()


class Context:
    """A KV cache of llama.cpp: tokens at positions `0..position`."""

    def __init__(self, llama: Llama, context: int) -> None:
        """Make room for `context` tokens."""
        params = c.llama_context_default_params()
        params.n_ctx, params.n_batch, params.n_ubatch = context, BATCH, BATCH
        params.n_threads = params.n_threads_batch = llama.threads
        self._handle = c.llama_init_from_model(llama.model, params)
        self._memory = c.llama_get_memory(self._handle)
        self._batch = c.llama_batch_init(BATCH, 0, 1)
        self._vocab = llama.vocab
        self.position = 0

    def rewind(self, position: int) -> None:
        """Forget what lies behind `position`."""
        c.llama_memory_seq_rm(self._memory, 0, position, -1)
        self.position = position

    def decode(self, tokens: list[int], *, logits: str = "all") -> float:
        """Run a pass behind what is there, and keep its tokens. Return seconds."""
        batch = self._batch
        batch.n_tokens = len(tokens)
        for index, token in enumerate(tokens):
            batch.token[index], batch.pos[index] = token, self.position + index
            batch.n_seq_id[index], batch.seq_id[index][0] = 1, 0
            batch.logits[index] = logits == "all" or index + 1 == len(tokens)
        begun = time.perf_counter()
        if c.llama_decode(self._handle, batch) != 0:
            raise RuntimeError(f"llama_decode failed on {len(tokens)} tokens at {self.position}")
        c.llama_synchronize(self._handle)
        seconds = time.perf_counter() - begun
        self.position += len(tokens)
        return seconds

    def feed(self, tokens: list[int]) -> float:
        """Run a prompt, with logits for its last token. Return seconds."""
        return sum(self.decode(tokens[at : at + BATCH], logits="last") for at in range(0, len(tokens), BATCH))

    def argmax(self, index: int) -> int:
        """Return the likeliest token behind token `index` of the latest pass; -1 is the last."""
        row = np.ctypeslib.as_array(c.llama_get_logits_ith(self._handle, index), (self._vocab,))
        return int(np.argmax(row))

    def generate(
        self, prompt: list[int], count: int, draft: Callable[[list[int]], list[int]]
    ) -> tuple[list[int], float]:
        """Decode `count` tokens greedily. Return them, and the seconds in passes behind the first."""
        self.rewind(0)
        self.feed(prompt)
        text, seconds = [*prompt, self.argmax(-1)], 0.0
        while len(text) < len(prompt) + count:
            start = self.position
            guess = draft(text)[: len(prompt) + count - len(text) - 1]
            seconds += self.decode([text[-1], *guess])
            for slot in range(len(guess) + 1):
                text.append(self.argmax(slot))
                if slot < len(guess) and guess[slot] != text[-1]:
                    break
            self.rewind(start + slot + 1)
        return text[len(prompt) :], seconds


def some_tokens(count: int, vocab: int) -> list[int]:
    """Return tokens that differ from place to place."""
    return [(index * 7919 + 17) % vocab for index in range(count)]


def passes(options: argparse.Namespace, figures: common.Figures) -> None:
    """Compare passes and prefill."""
    llama = Llama(options.model, options.threads)
    figures.versions["llama.cpp"] += f", {llama.system()}"
    contexts = {0: Context(llama, options.room)}
    for position in options.contexts:
        if position:
            common.say(f"filling llama.cpp's context with {position} tokens")
            contexts[position] = Context(llama, options.room)
            contexts[position].feed(some_tokens(position, llama.vocab))
    prompt = some_tokens(options.prefill, llama.vocab)
    bench = [
        *(options.anepipe, "bench", "--bundle", options.bundle, "--format", "json", "--rounds", 1, "--tokens", 0),
        *("--memory", 256, "--threads", options.threads, "--prefill", options.prefill),
        *("--contexts", ",".join(map(str, options.contexts))),
    ]
    for number in range(options.rounds):
        common.say(f"round {number + 1} of {options.rounds}")
        ours = json.loads(common.run(bench).stdout)
        figures.versions["anepipe"] = f"{ours['anepipe']}, {ours['machine']['isa']}"
        for each in ours["passes"]:
            tokens, at = each["tokens"], each["context"]
            if at not in contexts or tokens not in options.pass_tokens or (at and tokens not in (1, 4)):
                continue
            peer = contexts[at]
            # Twice, as ours: the first pass of a shape makes llama.cpp plan its graph.
            for _ in range(2):
                seconds = peer.decode(some_tokens(tokens, llama.vocab))
                peer.rewind(at)
            name = f"pass of {tokens}, context {at}"
            figures.add(name, "ms", each["ms"]["median"], seconds * 1e3)
        if ours["prefill"]:
            seconds = contexts[0].feed(prompt)
            contexts[0].rewind(0)
            name = f"prefill of {options.prefill}"
            rate = ours["prefill"]["tokens_per_second"]["median"]
            figures.add(name, "tokens/s", rate, options.prefill / seconds, higher_is_better=True)


def read_prompts(path: Path, per_class: int) -> list[dict[str, Any]]:
    """Return the first prompts of each class."""
    kept: list[dict[str, Any]] = []
    for line in path.read_text().splitlines():
        prompt = json.loads(line)
        prompt.setdefault("class", "prompts")
        if sum(other["class"] == prompt["class"] for other in kept) < per_class:
            kept.append(prompt)
    return kept


def generate(options: argparse.Namespace, figures: common.Figures) -> None:
    """Compare generation, plain and with drafts."""
    llama = Llama(options.model, options.threads)
    figures.versions["llama.cpp"] += f", {llama.system()}"
    context = Context(llama, options.room)
    lookup = LlamaPromptLookupDecoding(num_pred_tokens=DRAFT)

    def looked_up(text: list[int]) -> list[int]:
        return [int(token) for token in lookup(np.array(text, dtype=np.intc))]

    prompts = read_prompts(options.prompts, options.per_class)
    same, exact = 0, 0
    for number in range(options.rounds):
        common.say(f"round {number + 1} of {options.rounds}")
        spent: dict[tuple[str, str], list[float]] = {}
        for prompt in prompts:
            text = ["--prompt-ids", ",".join(map(str, prompt["prompt_ids"]))] if "prompt_ids" in prompt else None
            common_part = [
                *(options.anepipe, "generate", "--bundle", options.bundle, "--format", "json", "--ignore-eos"),
                *("--max-new", options.tokens, "--threads", options.threads),
                *(text or ["--prompt", prompt["text"]]),
            ]
            tokens: dict[str, list[int]] = {}
            for kind, drafts, draft in (("plain", "off", lambda _: []), ("with drafts", "ngram", looked_up)):
                ours = json.loads(common.run([*common_part, "--draft", drafts]).stdout)
                ids, seconds = context.generate(ours["prompt_ids"], options.tokens, draft)
                sums = spent.setdefault((prompt["class"], kind), [0.0, 0.0, 0.0])
                sums[0] += (len(ours["tokens"]) - 1) / ours["stats"]["tokens_per_second"]
                sums[1] += seconds
                sums[2] += len(ids) - 1
                tokens[f"ours {kind}"], tokens[f"peer {kind}"] = ours["tokens"], ids
            if number == 0:
                same += tokens["ours plain"] == tokens["peer plain"]
                exact += tokens["peer plain"] == tokens["peer with drafts"]
                if tokens["ours plain"] != tokens["ours with drafts"]:
                    raise RuntimeError(f"drafts changed our tokens behind {prompt}")
        for (kind_of_prompt, kind), (ours_seconds, peer_seconds, count) in spent.items():
            name = f"{kind_of_prompt}, {kind}"
            figures.add(name, "tokens/s", count / ours_seconds, count / peer_seconds, higher_is_better=True)
    figures.note(
        f"Of {len(prompts)} prompts, {options.tokens} tokens each: our drafts changed none; llama.cpp's changed the "
        f"tokens of {len(prompts) - exact}; plain tokens of both programs are the same behind {same}: their arithmetic "
        "differs, and so do their rounded weights."
    )


def main() -> None:
    """Read the arguments and compare."""
    parser = common.parser(__doc__, rounds=5)
    parser.add_argument("what", choices=["passes", "generate"])
    parser.add_argument("--model", type=Path, required=True, help="the GGUF file that the bundle was built from")
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of both sides [%(default)s]")
    parser.add_argument("--room", type=int, default=2048, help="positions of llama.cpp's KV cache [%(default)s]")
    parser.add_argument("--contexts", type=int, nargs="*", default=[0, 1900], help="passes: tokens before one")
    parser.add_argument("--pass-tokens", type=int, nargs="*", default=[1, 2, 4, 8], help="passes: tokens of one")
    parser.add_argument("--prefill", type=int, default=512, help="passes: tokens of a prompt; 0 is none [%(default)s]")
    parser.add_argument(
        "--prompts", type=Path, default=common.ROOT / "models/prompts.jsonl", help="generate: JSON lines"
    )
    parser.add_argument("--per-class", type=int, default=4, help="generate: prompts of each class [%(default)s]")
    parser.add_argument("--tokens", type=int, default=96, help="generate: tokens behind each [%(default)s]")
    options = parser.parse_args()
    versions = {"llama.cpp": f"llama-cpp-python {llama_cpp.__version__}"}
    figures = common.Figures(f"llama_cpp_{options.what}", "llama.cpp", versions)
    {"passes": passes, "generate": generate}[options.what](options, figures)
    figures.note(f"{options.threads} threads on both sides, {options.model.name}.")
    figures.finish(options)


if __name__ == "__main__":
    main()
