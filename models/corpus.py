"""The demo model's training text and tokenizer: the Python standard library, split by file.

The text is the `.py` files of the running interpreter's standard library, without its tests, its encodings and what an
installation adds. About one file in twenty, by the hash of its name, is kept back for validation.
"""

import ast
import hashlib
import sysconfig
from pathlib import Path

import numpy as np
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

VOCAB = 2048
SPECIAL = ["<|endoftext|>", "<|user|>", "<|assistant|>", "<|end|>"]
FIRST_SPECIAL = VOCAB - len(SPECIAL)
ENDOFTEXT, USER, ASSISTANT, END = range(FIRST_SPECIAL, VOCAB)

# The split rule that GGUF files name `gpt-4o` (o200k): words with a case boundary, up to three digits, punctuation,
# line ends, blanks.
O200K_SPLIT = "|".join(
    [
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
        r"\p{N}{1,3}",
        r" ?[^\s\p{L}\p{N}]+[\r\n/]*",
        r"\s*[\r\n]+",
        r"\s+(?!\S)",
        r"\s+",
    ]
)

SKIPPED_FOLDERS = {"site-packages", "test", "tests", "idle_test", "encodings", "pydoc_data", "__pycache__", "config"}


def source_files():
    """(relative name, text) of every file of the corpus, in the order of their names."""
    root = Path(sysconfig.get_paths()["stdlib"])
    found = []
    for path in sorted(root.rglob("*.py")):
        name = path.relative_to(root)
        generated = path.name.startswith("_sysconfigdata") or path.name == "__phello__.foo.py"
        if generated or any(part in SKIPPED_FOLDERS or part.startswith("config-") for part in name.parts):
            continue
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        if text.strip():
            found.append((name.as_posix(), text))
    return found


def is_validation(name):
    """True for the files kept back from training: about one in twenty, by the hash of the name."""
    return hashlib.sha256(name.encode()).digest()[0] < 13


def digest(files):
    """One sha256 over names and texts, to tell whether two machines train on the same corpus."""
    total = hashlib.sha256()
    for name, text in files:
        total.update(f"{name}\0{len(text)}\0{text}".encode())
    return total.hexdigest()


def train_tokenizer(texts):
    """Byte-level BPE: ids 0 to 255 are the bytes, then merges, and the special tokens last."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(O200K_SPLIT), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=FIRST_SPECIAL,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_special_tokens(SPECIAL)
    assert [tokenizer.token_to_id(s) for s in SPECIAL] == list(range(FIRST_SPECIAL, VOCAB))
    return tokenizer


def functions_as_chat(text):
    """(request, answer) for each documented function, so that the chat tokens mean something to the model."""
    lines = text.splitlines(keepends=True)
    for node in ast.parse(text).body:
        if isinstance(node, ast.FunctionDef) and ast.get_docstring(node):
            summary = ast.get_docstring(node).split("\n\n")[0].replace("\n", " ")
            yield f"Write the function {node.name}. {summary}", "".join(lines[node.lineno - 1 : node.end_lineno])


def encode(tokenizer, files, rng):
    """One stream of ids: whole files in random order, then functions as chats, each closed by `<|endoftext|>`."""
    stream = []
    for index in rng.permutation(len(files)):
        stream += tokenizer.encode(files[index][1]).ids + [ENDOFTEXT]
    for _, text in files:
        for request, answer in functions_as_chat(text):
            stream += [
                USER,
                *tokenizer.encode(request).ids,
                END,
                ASSISTANT,
                *tokenizer.encode(answer).ids,
                END,
                ENDOFTEXT,
            ]
    return np.array(stream, np.int32)
