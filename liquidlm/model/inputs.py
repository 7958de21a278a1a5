"""Check: the arguments of a forward pass, before anything is computed.

Symbols: B batch, T tokens.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from jaxtyping import Bool, Float64, Int, Num
from torch import Tensor

from ..errors import LiquidError
from ..nn.timestamps import in_float64
from ..runtime.precision import check_float64


@dataclass(frozen=True)
class Inputs:
    """The tokens of a forward pass and what is given for each of them, checked.

    Attributes:
        ids: token ids.
        mask: 0 where padded; None if no position is padded.
        times: times of the tokens; None: the tokens are one time unit apart.
        position_ids, seq_idx, starts: three ways to mark the documents, see `document_starts`.
    """

    ids: Int[Tensor, "b t"]
    mask: Num[Tensor, "b t"] | Bool[Tensor, "b t"] | None = None
    times: Float64[Tensor, "b t"] | None = None
    position_ids: Int[Tensor, "..."] | None = None
    seq_idx: Int[Tensor, "b t"] | None = None
    starts: Bool[Tensor, "b t"] | None = None

    @classmethod
    def checked(
        cls,
        input_ids: Tensor | None,
        attention_mask: Tensor | None,
        timestamps: Tensor | None,
        position_ids: Tensor | None,
        seq_idx: Tensor | None,
        starts: Tensor | None,
        *,
        time_scale: float,
        others: Mapping[str, Any],
    ) -> "Inputs":
        """The arguments of a forward pass.

        Args:
            attention_mask: of these tokens, or of all tokens so far and these.
            time_scale: see `in_float64`.
            others: further arguments by name; embeddings among them are refused.

        Raises:
            LiquidError: no ids, no tokens, embeddings in place of ids, shapes that do not match, times that
                are not numbers, a device without float64.
        """
        refuse_embeddings(others)
        if input_ids is None:
            raise LiquidError("input_ids are missing: give the token ids, (batch, tokens)")
        check_float64(input_ids.device)
        times = None if timestamps is None else in_float64(timestamps, time_scale)
        check_shapes(input_ids, timestamps=times, seq_idx=seq_idx, starts=starts)
        mask = None if attention_mask is None else attention_mask[:, -input_ids.shape[1] :]
        if mask is not None and mask.shape != input_ids.shape:
            raise LiquidError(
                f"attention_mask {tuple(mask.shape)} does not cover input_ids {tuple(input_ids.shape)}: give"
                " one entry per token"
            )
        return cls(input_ids, mask, times, position_ids, seq_idx, starts)


def refuse_embeddings(given: Mapping[str, Any]) -> None:
    """Check that the arguments have no `inputs_embeds`: a liquid model reads token ids alone.

    Raises:
        LiquidError: they do.
    """
    if given.get("inputs_embeds") is not None:
        raise LiquidError(
            "a liquid model reads input_ids, not inputs_embeds: its n-grams, and its embedding stage at"
            " inference, are tables by token id. Give input_ids; to adapt the model use LoRA, not a prompt of"
            " embeddings (prompt tuning, prefix tuning, P-tuning)"
        )


def check_shapes(input_ids: Tensor, **per_token: Tensor | None) -> None:
    """Check that there are tokens, and that what is given per token has their shape.

    Raises:
        LiquidError: names the argument and both shapes.
    """
    if input_ids.dim() != 2 or input_ids.numel() == 0:
        raise LiquidError(
            f"input_ids must be (batch, tokens), with at least one token, not {tuple(input_ids.shape)}"
        )
    for name, given in per_token.items():
        if given is not None and given.shape != input_ids.shape:
            raise LiquidError(
                f"{name} must have the shape of the tokens, {tuple(input_ids.shape)},"
                f" not {tuple(given.shape)}"
            )
