"""What the models return."""

from dataclasses import dataclass
from typing import Any, NoReturn

from jaxtyping import Float
from torch import Tensor
from transformers import Cache
from transformers.utils.generic import ModelOutput

from ..errors import LiquidError


@dataclass
class LiquidModelOutput(ModelOutput):
    """What the body of the model returns.

    Attributes:
        last_hidden_state: (B, T, H), after the norm: what logits are made of.
        past_key_values: the state of every layer after the last token, if `use_cache`.
        hidden_states: input of every block of the text, and `last_hidden_state`, if asked for.
        log_det: (B, T) log |det| of the embedding's flow; None where the folded table was used.
        features: what the distributions of the next gaps are made of, of a model with a time head.
    """

    last_hidden_state: Float[Tensor, "b t h"] | None = None
    past_key_values: Cache | None = None
    hidden_states: tuple[Float[Tensor, "b t h"], ...] | None = None
    log_det: Float[Tensor, "b t"] | None = None
    features: Float[Tensor, "b t h"] | None = None


class SkippedLogits(tuple):
    """Stands for logits that a pass has left out: whoever uses them is told how to get them.

    A tuple of nothing, which whatever gathers, moves or converts outputs passes on.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return "SkippedLogits()"

    def _refuse(self, *_: Any, **__: Any) -> NoReturn:
        raise LiquidError(
            "the logits were left out: in training mode with labels they are kept of at most `loss_chunk`"
            " tokens at a time. Pass skip_logits=False for all of them, or logits_to_keep=N for the last N"
        )

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("_"):  # asked of anything, by pickle and others
            raise AttributeError(name)
        self._refuse()

    __len__ = __getitem__ = __contains__ = __add__ = __radd__ = __mul__ = __rmul__ = _refuse
    __sub__ = __rsub__ = __truediv__ = __matmul__ = __neg__ = __float__ = __array__ = _refuse

    @classmethod
    def __torch_function__(cls, *_: Any, **__: Any) -> NoReturn:
        cls()._refuse()


@dataclass
class LiquidOutput(ModelOutput):
    """What the language model returns; `state` is another name for `past_key_values`.

    Attributes:
        loss: nats per token, of what comes and, with timestamps and a time head, of when; if labels were
            given. In training mode the flow's term is added.
        logits: (B, T, V); `SkippedLogits` where they were left out, as in training mode with many tokens.
        past_key_values: the state of every layer after the last token, if `use_cache`.
        hidden_states: input of every block of the text, and the last one's output after the norm, of which
            the logits are made; if asked for.
        log_det: (B, T) log |det| of the embedding's flow; None where the folded table was used.
        flow_loss: the flow's term of the loss, not yet weighted; in training mode only.
        time_loss: the part of the loss that says when, nats per token, gaps in units of time_scale.
        features: what the distributions of the next gaps (`next_gap`) are made of, where there are logits;
            of a model with a time head.
    """

    loss: Tensor | None = None
    logits: Tensor | SkippedLogits | None = None
    past_key_values: Cache | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    log_det: Tensor | None = None
    flow_loss: Tensor | None = None
    time_loss: Tensor | None = None
    features: Tensor | None = None

    @property
    def state(self) -> Cache | None:
        return self.past_key_values
