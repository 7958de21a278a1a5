"""transformers' `generate()` for a liquid model: its state, and the times of new tokens."""

# transformers asks of `self` what only its whole models have.
# pyright: reportAttributeAccessIssue=false, reportIncompatibleMethodOverride=false

from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor
from transformers import GenerationMixin

from ..errors import LiquidError
from ..nn.state import liquid_layers
from ..nn.timestamps import in_float64
from .folded import FoldedEmbedding
from .inputs import refuse_embeddings

if TYPE_CHECKING:
    from .pretrained import LiquidTextGenerationModel


class LiquidGenerationMixin(GenerationMixin):
    """`generate()` with a state of constant size and a folded embedding stage.

    Types are as loose as in transformers, whose signatures differ from version to version.
    """

    def _validate_model_kwargs(self, model_kwargs: dict) -> None:
        refuse_embeddings(model_kwargs)
        super()._validate_model_kwargs(model_kwargs)

    def _prepare_cache_for_generation(
        self, generation_config: Any, model_kwargs: dict, *args: Any, **kwargs: Any
    ) -> Any:
        if getattr(generation_config, "is_assistant", False):
            raise LiquidError(
                "a liquid model cannot draft for another: rejected tokens cannot be removed from its state;"
                " leave out assistant_model"
            )
        if (state := model_kwargs.get("past_key_values")) is not None:
            liquid_layers(state)
        if _draws_times(self, model_kwargs):
            _check_drawing(generation_config, model_kwargs.get("past_key_values"))
            model_kwargs["median_gaps"] = not generation_config.do_sample
        model = cast("LiquidTextGenerationModel", self)
        if (times := model_kwargs.get("timestamps")) is not None:
            model_kwargs["timestamps"] = in_float64(times, model.config.time_scale)
        model_kwargs.setdefault("table", FoldedEmbedding(model))
        given = model_kwargs.get("past_key_values") is not None or generation_config.cache_implementation
        if not given and generation_config.use_cache is not False:
            model_kwargs["past_key_values"] = model.new_state()
            return None
        return super()._prepare_cache_for_generation(generation_config, model_kwargs, *args, **kwargs)

    def prepare_inputs_for_generation(self, input_ids: Tensor, **kwargs: Any) -> dict:
        """The tokens of the next pass and their times. The time of a new token is drawn here."""
        features, median = kwargs.pop("features", None), kwargs.pop("median_gaps", False)
        inputs = super().prepare_inputs_for_generation(input_ids, **kwargs)
        times, cache = inputs.get("timestamps"), inputs.get("past_key_values")
        length = inputs["input_ids"].shape[1]
        if times is not None and times.shape[1] != length:
            seen = 0 if cache is None else cache.get_seq_length()
            inputs["timestamps"] = times[:, seen : seen + length]
        if features is not None and cache is not None:
            model = cast("LiquidTextGenerationModel", self)
            after = model.next_gap(features, input_ids[:, -1])
            gap = (after.quantile(0.5) if median else after.sample()).double() * model.config.time_scale
            cache.written_times.append(cache.last_time + gap)
            inputs["timestamps"] = cache.written_times[-1][:, None]
        return inputs

    def _update_model_kwargs_for_generation(
        self, outputs: Any, model_kwargs: dict, is_encoder_decoder: bool = False, num_new_tokens: int = 1
    ) -> dict:
        """Times for the next tokens, one `time_scale` apart; a time head draws others later."""
        times = model_kwargs.get("timestamps")
        if _draws_times(self, model_kwargs):
            model_kwargs["features"] = outputs.features[:, -1]
        if times is not None:
            number = torch.arange(1, num_new_tokens + 1, dtype=torch.float64, device=times.device)
            gaps = cast(Any, self).config.time_scale * number
            model_kwargs["timestamps"] = torch.cat([times, times[:, -1:] + gaps], 1)
        return super()._update_model_kwargs_for_generation(
            outputs, model_kwargs, is_encoder_decoder, num_new_tokens
        )

    def _expand_inputs_for_generation(
        self, *args: Any, t_span: Tensor | None = None, **kwargs: Any
    ) -> tuple[Tensor, dict]:
        """Repeat the arguments for beams and samples, but not t_span, which has no batch dimension."""
        input_ids, kwargs = super()._expand_inputs_for_generation(*args, **kwargs)
        return input_ids, kwargs if t_span is None else {**kwargs, "t_span": t_span}


def _check_drawing(generation_config: Any, state: Any) -> None:
    """Refuse options with which times cannot be drawn, and clear the times of an earlier call in a state."""
    if (generation_config.num_beams or 1) > 1:
        raise LiquidError("beam search cannot draw times: sample, or leave out timestamps")
    if generation_config.use_cache is False or generation_config.cache_implementation:
        raise LiquidError("times are drawn with a liquid state: leave out use_cache and cache_implementation")
    if state is not None:
        state.written_times = []


def _draws_times(model: Any, model_kwargs: dict) -> bool:
    """Whether the tokens have times and the model has a time head."""
    return model_kwargs.get("timestamps") is not None and model.time_head is not None
