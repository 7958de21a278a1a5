"""The batch of completions that the model writes at the same time: the rows of one state."""

from collections import deque
from collections.abc import Collection, Sequence
from math import isfinite

import torch
from jaxtyping import Float
from torch import Tensor

from ..inference.sampler import Sampler, draw
from ..model.language_model import LiquidLanguageModel
from ..model.step import LiquidStep
from ..nn.state import LiquidCache
from .jobs import Job
from .prefixes import Snapshot
from .tokens import Token

MARK = 64
"""States within a completion are this many tokens apart. A stop string may end it some tokens before the end
of what was read, and a tokenizer may cut its end differently."""


class Row:
    """One completion of the batch: its sampler, and the token that the model reads next.

    Attributes:
        job: what to write.
        sampler: draws its tokens.
        token: id of the token that the model reads next.
        gap: time between that token and the one before, in the unit of the times.
        read: the tokens of the completion that the model has read.
        marks: the last states within the completion, for the prefix cache.
    """

    def __init__(self, job: Job, logits: Float[Tensor, "1 v"], suppressed: Collection[int] = ()):
        context = torch.from_numpy(job.prompt.tail)[None].to(logits.device)
        self.job = job
        self.sampler = Sampler(job.sampling, job.max_new_tokens, logits, context, job.stop, suppressed)
        self.token, self.gap = 0, 1.0
        self.read: list[int] = []
        self.marks: deque[Snapshot] = deque(maxlen=2)

    @property
    def ended(self) -> str | None:
        """The finish reason, "stop" or "length"; None while the completion goes on."""
        if not self.sampler.ended:
            return None
        return "stop" if all(self.sampler.stopped) else "length"

    def move(
        self,
        token: int,
        model: LiquidLanguageModel,
        logits: Float[Tensor, " v"],
        features: Float[Tensor, "1 h"] | None,
        last_time: float,
    ) -> Token:
        """Take the token that was drawn, and draw its time if the prompt has times.

        Args:
            token: its id.
            model: with its time head.
            logits: that it was drawn from.
            features: input of the time head; None without one.
            last_time: of the token before.
        """
        self.token, moment = token, None
        if self.job.prompt.times is not None and features is not None:
            after = model.next_gap(features, torch.tensor([token], device=features.device))
            median = self.job.sampling.greedy
            gap = after.quantile(0.5) if median else after.sample(self.sampler.generator)
            self.gap = gap.item() * model.config.time_scale
            moment = last_time + self.gap
        if self.job.likeliest is None:
            return Token(token, time=moment)
        logprobs = logits.log_softmax(-1)
        values, ids = logprobs.topk(min(self.job.likeliest, len(logprobs)))
        likeliest = tuple(
            pair for pair in zip(ids.tolist(), values.tolist(), strict=True) if isfinite(pair[1])
        )
        return Token(token, logprobs[token].item(), likeliest, moment)


def draw_tokens(
    rows: Sequence[Row],
    model: LiquidLanguageModel,
    logits: Float[Tensor, "b v"],
    features: Float[Tensor, "b h"] | None,
    last_times: Sequence[float],
) -> list[Token | None]:
    """The next token of every row; None for a row whose logits are not finite.

    Args:
        rows: in the order of the logits.
        model: with its time head.
        logits: of the next tokens.
        features: input of the time head; None without one.
        last_times: of the tokens before.
    """
    logits = rows[0].sampler.allowed(logits)  # the same tokens for every row
    tokens = draw([row.sampler for row in rows], logits).tolist()
    return [
        row.move(token, model, logits[i], None if features is None else features[i : i + 1], last_times[i])
        if token >= 0
        else None
        for i, (row, token) in enumerate(zip(rows, tokens, strict=True))
    ]


class Batch:
    """The rows that are being written, and their joined state.

    Attributes:
        rows: in the order of the state's rows.
    """

    def __init__(self, step: LiquidStep):
        self.rows: list[Row] = []
        self._step, self._state = step, None

    def snapshot(
        self,
        row: Row,
        logits: Float[Tensor, "b v"] | None = None,
        features: Float[Tensor, "b h"] | None = None,
    ) -> Snapshot:
        """The state of a row, which may be a view.

        Args:
            row: one of the rows.
            logits, features: of all rows, as `step` returned them for this state.
        """
        assert self._state is not None
        i = self.rows.index(row)
        states = [
            state.map(lambda part: part[i : i + 1]) for state in self._state.states() if state is not None
        ]
        length = len(row.job.prompt.ids) + len(row.read)
        of_next = (None if part is None else part[i : i + 1] for part in (logits, features))
        return Snapshot(length, states, *of_next)

    def join(self, row: Row, state: LiquidCache) -> None:
        """Add a row with its state."""
        self._state = state if self._state is None else LiquidCache.joined([self._state, state])
        self.rows.append(row)

    def leave(self, gone: set[Row]) -> None:
        """Remove rows and their states."""
        if not gone:
            return
        kept = [i for i, row in enumerate(self.rows) if row not in gone]
        self.rows = [self.rows[i] for i in kept]
        if not kept:
            self._state = None
        elif self._state is not None:
            self._state.batch_select_indices(torch.tensor(kept))

    def step(self) -> tuple[Float[Tensor, "b v"], Float[Tensor, "b h"] | None, list[float]]:
        """Read the next token of every row: logits and time-head features for the token after it, and the
        rows' times."""
        assert self._state is not None
        device = self._step.table.device
        ids = torch.tensor([row.token for row in self.rows], device=device)
        gaps = torch.tensor([row.gap for row in self.rows], dtype=torch.float64)
        logits, features = self._step.read(ids, self._state, gaps)
        for row in self.rows:
            row.read.append(row.token)
            if len(row.read) % MARK == 0:
                row.marks.append(self.snapshot(row).owned())
        return logits.float(), features, self._state.last_time.tolist()
