"""How unlikely each token is, and the gap before it, given all tokens before."""

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from ..model.folded import FoldedEmbedding
from ..model.language_model import LiquidLanguageModel
from ..nn.state import LiquidCache
from ..nn.timestamps import next_gaps

CHUNK = 2048
"""Tokens per pass of the model."""
LOGIT_ROWS = 256
"""Tokens whose logits are in memory at a time."""
MIN_CHANCE = 1e-6
"""A smaller probability of a gap is rounding error of float32."""


class TokenCosts(NamedTuple):
    """Costs of n tokens, each given all tokens before it.

    Attributes:
        nats: s = −ln p of the token.
        expected: the mean of s under the model's own distribution, which is its entropy.
        when: −ln p of the gap before the token, per unit of the times; 0 without times.
        tail: −log₂ of the probability of a gap at least as short or at least as long,
            2 min(P(Δ ≤ gap), P(Δ ≥ gap)), at most 1; 0 without times.
    """

    nats: Float64[np.ndarray, " n"]
    expected: Float64[np.ndarray, " n"]
    when: Float64[np.ndarray, " n"]
    tail: Float64[np.ndarray, " n"]


def read_costs(
    model: LiquidLanguageModel,
    ids: Int64[np.ndarray, " n_plus_1"],
    times: Float64[np.ndarray, " n_plus_1"] | None,
    state: LiquidCache,
    table: FoldedEmbedding,
) -> TokenCosts:
    """Costs of all tokens but the first. All tokens but the last are read into `state`.

    Args:
        model: a language model; with `times`, one with a time head.
        ids: the tokens.
        times: of the tokens; None without times.
        state: of the tokens before; changed in place.
        table: the model's embedding table (`FoldedEmbedding`).
    """
    costs = [np.zeros((4, 0))]
    for first in range(0, len(ids) - 1, CHUNK):
        part = slice(first, first + CHUNK + 1)
        clock = None if times is None else torch.from_numpy(times[part]).to(model.device)
        with torch.inference_mode():
            found = _one_pass(model, torch.from_numpy(ids[part]).to(model.device), clock, state, table)
        costs.append(found.double().cpu().numpy())
    return TokenCosts(*np.concatenate(costs, 1))


def _one_pass(
    model: LiquidLanguageModel,
    ids: Int64[Tensor, " n_plus_1"],
    times: Float64[Tensor, " n_plus_1"] | None,
    state: LiquidCache,
    table: FoldedEmbedding,
) -> Float[Tensor, "4 n"]:
    """`read_costs` of one pass, in the order of `TokenCosts`."""
    output: Any = model.model(
        ids[None, :-1],
        timestamps=None if times is None else times[None, :-1],
        past_key_values=state,
        use_cache=True,
        table=table,
    )
    targets, features = ids[1:], output.last_hidden_state[0]
    of_tokens = [
        _token_costs(model.output_proj(some), some_targets)
        for some, some_targets in zip(features.split(LOGIT_ROWS), targets.split(LOGIT_ROWS), strict=True)
    ]
    of_gaps = features.new_zeros(2, len(targets), dtype=torch.float32)
    if times is not None:
        of_gaps = _gap_costs(model, output.features[0], targets, times)
    return torch.cat([torch.cat(of_tokens, 1), of_gaps])


def _token_costs(logits: Float[Tensor, "n v"], targets: Int64[Tensor, " n"]) -> Float[Tensor, "2 n"]:
    """−ln p of the targets, and the mean of −ln p under p."""
    log_p = logits.float().log_softmax(-1)
    return torch.stack([-log_p.gather(1, targets[:, None])[:, 0], -(log_p.exp() * log_p).sum(-1)])


def _gap_costs(
    model: LiquidLanguageModel,
    features: Float[Tensor, "n h"],
    targets: Int64[Tensor, " n"],
    times: Float64[Tensor, " n_plus_1"],
) -> Float[Tensor, "2 n"]:
    """−ln p of the gaps before the targets, and −log₂ of their two-sided tail probability."""
    scale = model.config.time_scale
    counted = torch.ones_like(targets, dtype=torch.bool)[None]
    gap = next_gaps(times[None, :-1], times[None, 1:], counted, scale)[0]
    predicted = model.next_gap(features, targets)
    nats = -predicted.log_prob(gap) + (gap > 0) * math.log(scale)
    chance = 2 * torch.minimum(predicted.cdf(gap), predicted.survival(gap))
    return torch.stack([nats, -chance.clamp(MIN_CHANCE, 1).log2()])
