"""What the models return."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor
from transformers import Cache
from transformers.utils.generic import ModelOutput


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


@dataclass
class LiquidOutput(ModelOutput):
    """What the language model returns; `state` is another name for `past_key_values`.

    Attributes:
        loss: nats per token, of what comes and, with timestamps and a time head, of when; if labels were
            given. In training mode the flow's term is added.
        logits: (B, T, V); None in training mode with labels, where they never exist whole.
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
    logits: Tensor | None = None
    past_key_values: Cache | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    log_det: Tensor | None = None
    flow_loss: Tensor | None = None
    time_loss: Tensor | None = None
    features: Tensor | None = None

    @property
    def state(self) -> Cache | None:
        return self.past_key_values
