"""Which parameters of a language model learn at which rate."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from torch import Tensor, nn

from ..model.language_model import LiquidLanguageModel
from ..model.sizes import LETTERS

ADAM: dict[str, Any] = {"betas": (0.9, 0.98), "weight_decay": 0.0, "fused": True}
"""The options of every AdamW. Fused, it passes over memory once, and is six times as fast on a CPU."""
RATES = ("rates", "warp")
"""Names of linear layers that set time constants. AdamW trains them."""
TIME_HEAD = ("of_state.weight", "of_state.bias", "of_next.weight")
FAST = ("log_tau", "synapse.bias", "ngrams.table.weight", *TIME_HEAD)
"""Names of parameters that AdamW trains at a higher rate: time constants (on a logarithmic scale), n-gram
tables (a step sees few of their rows), and the time head (few tokens of a step have a gap)."""
COUNTS = "counts."
"""Beginning of the names of the net that weighs counts. It is small and starts from zero: fast, too."""
FAST_SHARE = 10.0
"""Learning rate of `FAST` parameters, as a multiple of AdamW's. Slow units have to move by five decades, and
rare rows get few steps."""
TABLE_SHARE = 40.0
"""Learning rate of the embedding table, as a multiple of AdamW's, if the vocabulary is large or the table is
also the output layer. A step sees few rows of a large table, and the rows start as N(0, 1), larger than other
vectors."""
OUTPUT_SHARE = 4.0
"""Learning rate of an untied output layer with a large vocabulary, as a multiple of AdamW's. For an untied
byte vocabulary, table and output layer use AdamW's rate."""


class Groups(NamedTuple):
    """All parameters of a model, each once.

    Attributes:
        matrices: of the linear layers of the blocks.
        others: those that learn at AdamW's own rate.
        quick: those that learn faster, and the multiple of AdamW's rate; no list is empty.
    """

    matrices: Sequence[Tensor]
    others: Sequence[Tensor]
    quick: Sequence[tuple[Sequence[Tensor], float]]


def parameter_groups(model: LiquidLanguageModel) -> Groups:
    """The parameters of a language model, by how they learn.

    >>> from liquidlm import LiquidTextGenerationModel
    >>> groups = parameter_groups(LiquidTextGenerationModel(64, 16, 8, 16, num_hidden_layers=2))
    >>> [share for _, share in groups.quick]
    [10.0]
    """
    matrices = [
        module.weight
        for name, module in model.blocks.named_modules()
        if isinstance(module, nn.Linear) and name.split(".")[-1] not in RATES
    ]
    fast = [p for name, p in model.named_parameters() if name.endswith(FAST) or name.startswith(COUNTS)]
    words, tied = model.config.vocab_size > LETTERS, model.config.tie_word_embeddings
    table = [model.embedding.embedding.weight] if words or tied else []
    output = list(model.output_proj.parameters()) if words and not tied else []
    quick = [(table, TABLE_SHARE), (output, OUTPUT_SHARE), (fast, FAST_SHARE)]
    chosen = {id(p) for some in (matrices, *(parameters for parameters, _ in quick)) for p in some}
    others = [p for p in model.parameters() if id(p) not in chosen]
    return Groups(matrices, others, [one for one in quick if one[0]])
