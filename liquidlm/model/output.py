"""Output: what the models return."""

from dataclasses import dataclass
from typing import Any, NoReturn

from jaxtyping import Float
from torch import Tensor
from transformers import Cache
from transformers.utils.generic import ModelOutput

from ..errors import LiquidError


@dataclass
class LiquidModelOutput(ModelOutput):
    """The output of the body of the model.

    Attributes:
        last_hidden_state: (B, T, H), after the norm: the input of the output layer.
        past_key_values: the state of every block after the last token, if `use_cache`.
        hidden_states: input of every block of the text, and `last_hidden_state`; if asked for.
        log_det: (B, T) log |det| of the embedding's flow; None if a folded table was used.
        features: (B, T, H) the input of `next_gap`; only of a model with a time head.
    """

    last_hidden_state: Float[Tensor, "b t h"] | None = None
    past_key_values: Cache | None = None
    hidden_states: tuple[Float[Tensor, "b t h"], ...] | None = None
    log_det: Float[Tensor, "b t"] | None = None
    features: Float[Tensor, "b t h"] | None = None


class SkippedLogits(tuple):
    """In place of logits that a pass has left out: any use of it raises LiquidError.

    The message says how to get the logits. It is an empty tuple, so functions that gather, move or convert
    outputs pass it on.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return "SkippedLogits()"

    def _refuse(self, *_: Any, **__: Any) -> NoReturn:
        raise LiquidError(
            "the logits were not kept: in training mode with labels they exist for at most `loss_chunk`"
            " tokens at a time. Pass skip_logits=False for all of them, or logits_to_keep=N for the last N"
        )

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("_"):  # pickle and others look for such names everywhere
            raise AttributeError(name)
        self._refuse()

    __len__ = __getitem__ = __contains__ = __add__ = __radd__ = __mul__ = __rmul__ = _refuse
    __sub__ = __rsub__ = __truediv__ = __matmul__ = __neg__ = __float__ = __array__ = _refuse

    @classmethod
    def __torch_function__(cls, *_: Any, **__: Any) -> NoReturn:
        cls()._refuse()


@dataclass
class LiquidOutput(ModelOutput):
    """The output of the language model.

    Attributes:
        loss: nats per token, if labels are given: of the next token and, with timestamps and a time head, of
            the gap before it. In training mode the weighted `flow_loss` is added.
        logits: (B, T, V), or those of `logits_to_keep`; `SkippedLogits` if they were left out.
        past_key_values: the state of every block after the last token, if `use_cache`.
        hidden_states: input of every block of the text, and the last one's output after the norm; if asked
            for.
        log_det: (B, T) log |det| of the embedding's flow; None if a folded table was used.
        flow_loss: the flow's training term, not weighted; in training mode only.
        time_loss: the part of the loss that is of the gaps, in nats per token, gaps in units of time_scale.
        features: (B, T, H) the input of `next_gap`, at the positions of the logits; only of a model with a
            time head.
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
        """Another name for `past_key_values`."""
        return self.past_key_values
