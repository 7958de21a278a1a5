"""The names and colours of models, texts and tasks in the plots."""

import re

MODELS = {
    "liquidlm": "liquidlm",
    "llama": "Llama",
    "mamba2": "Mamba-2",
    "gated_delta": "gated delta net",
    "recurrent_gemma": "RecurrentGemma",
    "lstm": "LSTM",
    "mingru": "minGRU",
    "cfc": "CfC",
    "ltc": "LTC",
}
"""Name in the JSON files ▶ name in a plot. The order gives each model its colour."""

TEXTS = {
    "novels-en": "English novels, bytes",
    "novels-es": "Spanish novels, bytes",
    "wikitext-2": "WikiText-2, bytes",
    "tinystories": "TinyStories, BPE of 4,000",
    "tinyshakespeare": "tinyshakespeare, bytes",
}
TASKS = {
    "mqar": "associative recall",
    "passkey": "passkey",
    "copying": "copying",
    "palindrome": "letters backwards",
    "stack": "one stack",
    "stacks": "64 stacks",
    "parity": "parity",
    "s3": "permutations of 3 (S₃)",
    "s5": "permutations of 5 (S₅)",
    "arithmetic": "arithmetic modulo 5",
    "brackets": "arithmetic with brackets",
}
MET = {
    "met_before": "first more than 8,192 bytes ago",
    "long_unseen": "last more than 8,192 bytes ago",
}
NAMES = {
    "ours": "liquidlm",
    "learned online": "liquidlm, learned online",
    "clocks by hand": "with times per kind of line",
    "growing float32": "growing cache, float32",
    "static float32": "fixed cache, float32",
}
"""Other names in the JSON files ▶ in a plot."""
CLOCKS = {
    "real": "real times",
    "jittered": "20 % noise",
    "half of the utterances": "half of the\nutterances",
    "shuffled": "gaps shuffled",
    "alike": "gaps all equal",
}


def label(name: str) -> str:
    """The name that a plot shows for a name of the JSON files.

    >>> label("llama, windows of 256"), label("base/mingru with counts"), label("ours")
    ('Llama, windows of 256', 'minGRU with counts', 'liquidlm')
    """
    kind, rest = _kind(name)
    parts = [MODELS.get(kind, kind) + rest.partition(",")[0], *rest.split(", ")[1:]]
    return ", ".join(NAMES.get(part, part) for part in parts)


def colour(name: str) -> str:
    """The same colour for a model in every plot, with counts or without."""
    return f"C{list(MODELS).index(_kind(name)[0])}"


def _kind(name: str) -> tuple[str, str]:
    """The model's own name, and what is said of it."""
    kind = re.split("[ ,]", name.rpartition("/")[2], maxsplit=1)[0]
    return kind, name.rpartition("/")[2][len(kind) :]
