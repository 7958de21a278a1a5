"""The scales of a model for text with times, from the gaps of the text."""

from ..text.token_corpus import TokenCorpus
from ..text.weighting import WeightedCorpus

COMPONENTS = 8
"""Number of log-normal components in the distribution of the next gap, for text with times."""
MEMORY_GAPS = 30
"""Number of typical gaps over which the memories decay as much as they do over one token."""


def clock(train: TokenCorpus | WeightedCorpus) -> dict[str, int | float]:
    """The fields of `LiquidConfig` for text with times: scales from the typical gap of the corpus."""
    gap = train.typical_gap
    scales = {"time_scale": gap, "memory_scale": MEMORY_GAPS * gap, "time_resolution": train.resolution}
    return {"time_components": COMPONENTS, **scales}
