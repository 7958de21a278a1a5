"""How unlikely each token is, and the gap before it, given all tokens before."""

import math
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from ..model.language_model import LiquidLanguageModel
from ..model.step import LiquidStep
from ..nn.state import LiquidCache
from ..nn.timestamps import next_gaps

LN2 = math.log(2)
LOGITS = 1 << 19
"""In memory at a time, as far as a pass has at least LEAST tokens and at most MOST."""
LEAST, MOST = 256, 1024
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
        early, late: P(Δ ≤ gap) and P(Δ ≥ gap); 1 without times.
    """

    nats: Float64[np.ndarray, " n"]
    expected: Float64[np.ndarray, " n"]
    when: Float64[np.ndarray, " n"]
    tail: Float64[np.ndarray, " n"]
    early: Float64[np.ndarray, " n"]
    late: Float64[np.ndarray, " n"]


class LineCosts(NamedTuple):
    """Costs of a line's tokens.

    Attributes:
        bits: Σ −log₂ p of the tokens.
        excess: the largest of −log₂ p − H, where H is the entropy of the model's distribution.
        when: Σ −ln p of the gaps before them, per unit of the times.
        tail: the largest of `TokenCosts.tail`.
        early, late: the least of them.
    """

    bits: float
    excess: float
    when: float
    tail: float
    early: float
    late: float


def line_costs(costs: TokenCosts, lengths: Int64[np.ndarray, " lines"]) -> list[LineCosts]:
    """Costs of lines; without tokens they are 0, and the chances 1.

    Args:
        costs: of the tokens of all lines.
        lengths: tokens of each line.
    """
    some = lengths > 0
    begins = (np.cumsum(lengths) - lengths)[some]
    found = np.zeros((6, len(lengths)))
    found[4:] = 1
    found[:, some] = [
        np.add.reduceat(costs.nats, begins) / LN2,
        np.maximum.reduceat((costs.nats - costs.expected) / LN2, begins),
        np.add.reduceat(costs.when, begins),
        np.maximum.reduceat(costs.tail, begins),
        np.minimum.reduceat(costs.early, begins),
        np.minimum.reduceat(costs.late, begins),
    ]
    return [LineCosts(*line) for line in found.T.tolist()]


def read_costs(
    step: LiquidStep,
    ids: Int64[np.ndarray, " n_plus_1"],
    times: Float64[np.ndarray, " n_plus_1"] | None,
    state: LiquidCache,
) -> TokenCosts:
    """Costs of all tokens but the first. All tokens but the last are read into `state`.

    Args:
        step: of a language model; with `times`, of one with a time head.
        ids: the tokens.
        times: of the tokens; None without times.
        state: of the tokens before; changed in place.
    """
    costs = [np.zeros((6, 0))]
    rows = min(max(LEAST, LOGITS // len(step.table)), MOST)
    for first in range(0, len(ids) - 1, rows):
        part = slice(first, first + rows + 1)
        clock = None if times is None else torch.from_numpy(times[part])
        with torch.inference_mode():
            found = _one_pass(step, torch.from_numpy(ids[part]).to(step.table.device), clock, state)
        costs.append(found.double().cpu().numpy())
    return TokenCosts(*np.concatenate(costs, 1))


def _one_pass(
    step: LiquidStep,
    ids: Int64[Tensor, " n_plus_1"],
    times: Float64[Tensor, " n_plus_1"] | None,
    state: LiquidCache,
) -> Float[Tensor, "6 n"]:
    """`read_costs` of one pass, in the order of `TokenCosts`."""
    before = None if times is None else times[None, :-1]
    logits, features = step.read_events(ids[None, :-1], state, before, every=True)
    targets = ids[1:]
    of_gaps = logits.new_tensor([0.0, 0.0, 1.0, 1.0], dtype=torch.float32)[:, None].expand(4, len(targets))
    if times is not None and features is not None:
        of_gaps = _gap_costs(step.model, features[0], targets, times.to(features.device))
    return torch.cat([_token_costs(logits[0], targets), of_gaps])


def _token_costs(logits: Float[Tensor, "n v"], targets: Int64[Tensor, " n"]) -> Float[Tensor, "2 n"]:
    """−ln p of the targets, and the mean of −ln p under p."""
    log_p = logits.float().log_softmax(-1)
    return torch.stack([-log_p.gather(1, targets[:, None])[:, 0], -log_p.exp().mul_(log_p).sum(-1)])


def _gap_costs(
    model: LiquidLanguageModel,
    features: Float[Tensor, "n h"],
    targets: Int64[Tensor, " n"],
    times: Float64[Tensor, " n_plus_1"],
) -> Float[Tensor, "4 n"]:
    """−ln p of the gaps before the targets, −log₂ of their two-sided tail probability, and both sides."""
    scale = model.config.time_scale
    counted = torch.ones_like(targets, dtype=torch.bool)[None]
    gap = next_gaps(times[None, :-1], times[None, 1:], counted, scale)[0]
    predicted = model.next_gap(features, targets)
    nats = -predicted.log_prob(gap) + (gap > 0) * math.log(scale)
    early, late = (side.clamp(MIN_CHANCE, 1) for side in (predicted.cdf(gap), predicted.survival(gap)))
    tail = (2 * torch.minimum(early, late)).clamp(max=1).log2().abs()  # not −log₂: that makes −0 of 0
    return torch.stack([nats, tail, early, late])
