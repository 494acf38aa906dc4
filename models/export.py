"""Writes the trained demo model as GGUF: architecture phi3, matrices in Q8_0, norms and rotary factors in F32.

python models/export.py --work /tmp/demo --out models/anepipe-demo-q8_0.gguf
"""

import argparse
import json
from pathlib import Path

import gguf
import numpy as np
from gguf import GGMLQuantizationType, quants

import corpus
from train import CONFIG

# Phi-4-mini's conversation format: <|role|>text<|end|>.
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


def add_architecture(writer):
    """The keys of Phi-4-mini, each with the demo model's number."""
    writer.add_name("anepipe demo")
    writer.add_description(
        "Two million weights trained on the Python standard library (PSF-2.0 text), for tests and demonstrations"
    )
    writer.add_context_length(CONFIG.context_length)
    writer.add_rope_scaling_orig_ctx_len(CONFIG.original_context_length)
    writer.add_embedding_length(CONFIG.embedding_length)
    writer.add_feed_forward_length(CONFIG.feed_forward_length)
    writer.add_block_count(CONFIG.block_count)
    writer.add_head_count(CONFIG.head_count)
    writer.add_head_count_kv(CONFIG.head_count_kv)
    writer.add_layer_norm_rms_eps(CONFIG.rms_epsilon)
    writer.add_rope_dimension_count(CONFIG.rope_dimension_count)
    writer.add_rope_freq_base(CONFIG.rope_freq_base)
    writer.add_rope_scaling_attn_factors(CONFIG.attn_factor)
    writer.add_sliding_window(0)
    writer.add_vocab_size(CONFIG.vocab_size)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)


def add_tokenizer(writer, tokenizer):
    """Byte-level BPE as llama.cpp reads it; `tokenizer` is the parsed tokenizer.json."""
    ids = tokenizer["model"]["vocab"] | {token["content"]: token["id"] for token in tokenizer["added_tokens"]}
    tokens = sorted(ids, key=ids.get)
    assert len(tokens) == CONFIG.vocab_size and ids[tokens[-1]] == CONFIG.vocab_size - 1
    normal, control = gguf.TokenType.NORMAL, gguf.TokenType.CONTROL
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-4o")
    writer.add_token_list(tokens)
    writer.add_token_types([control if token in corpus.SPECIAL else normal for token in tokens])
    writer.add_token_merges(
        [merge if isinstance(merge, str) else " ".join(merge) for merge in tokenizer["model"]["merges"]]
    )
    writer.add_bos_token_id(corpus.ENDOFTEXT)
    writer.add_eos_token_id(corpus.ENDOFTEXT)
    writer.add_eot_token_id(corpus.END)
    writer.add_unk_token_id(corpus.ENDOFTEXT)
    writer.add_pad_token_id(corpus.ENDOFTEXT)
    writer.add_add_bos_token(False)
    writer.add_chat_template(CHAT_TEMPLATE)


def add_weights(writer, params):
    """Matrices in Q8_0, vectors in F32; no output.weight, so the head is the embedding."""
    writer.add_tensor("rope_factors_long.weight", np.array(CONFIG.rope_long, np.float32))
    writer.add_tensor("rope_factors_short.weight", np.array(CONFIG.rope_short, np.float32))
    for name, weight in params.items():
        if weight.ndim == 1:
            writer.add_tensor(f"{name}.weight", weight)
        else:
            kind = GGMLQuantizationType.Q8_0
            writer.add_tensor(f"{name}.weight", quants.quantize(weight, kind), raw_dtype=kind)


def export(work, out):
    writer = gguf.GGUFWriter(out, "phi3")
    add_architecture(writer)
    add_tokenizer(writer, json.loads((work / "tokenizer.json").read_text()))
    add_weights(writer, dict(np.load(work / "params.npz")))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    export(options.work, options.out)
