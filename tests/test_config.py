"""The configuration: what it checks, how it is saved."""

import pytest
from small_model import SIZES, SMALL
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
)

from liquidlm.errors import LiquidError
from liquidlm.model.config import LiquidConfig
from liquidlm.model.pretrained import LiquidTextGenerationModel


@pytest.mark.parametrize(("vocabulary", "rows", "width"), [(261, 16384, 96), (512, 16384, 96), (513, 0, 192)])
def test_n_grams_are_of_letters_by_default_and_else_the_mlp_is_wider(vocabulary, rows, width, tmp_path):
    config = LiquidConfig(vocab_size=vocabulary, hidden_size=64)
    assert (config.ngram_rows, config.intermediate_size) == (rows, width)
    config.vocab_size = 1000
    config.save_pretrained(tmp_path)
    read = LiquidConfig.from_pretrained(tmp_path)
    assert (read.ngram_rows, read.intermediate_size) == (rows, width)  # a model keeps what it was made with
    assert LiquidConfig(vocab_size=4000, ngram_rows=40).ngram_rows == 40
    assert LiquidConfig(vocab_size=261, ngram_rows=0).ngram_rows == 0


def test_the_config_goes_round(tmp_path):
    config = LiquidConfig(**SIZES, **SMALL, mixer_types=["memory", "time", "time", "memory"], time_scale=0.25)
    config.save_pretrained(tmp_path)
    loaded = AutoConfig.from_pretrained(tmp_path)
    assert type(loaded) is LiquidConfig and loaded.to_diff_dict() == config.to_diff_dict()
    assert loaded.layer_types == ["liquid"] * 4 and "layer_types" not in config.to_dict()
    assert loaded.mixer_types == ["memory", "time", "time", "memory"] and loaded.time_scale == 0.25
    assert isinstance(AutoModelForCausalLM.from_config(loaded), LiquidTextGenerationModel)


@pytest.mark.parametrize(
    "bad",
    [
        *({name: size} for name in ("vocab_size", "embedding_dim", "hidden_size") for size in (0, -3)),
        *(
            {name: -1}
            for name in ("latent_dim", "num_hidden_layers", "conv_width", "chunk_size", "ode_steps")
        ),
        *({"time_scale": value} for value in (0.0, -1.0, float("nan"), float("inf"))),
        *({"dropout_rate": value} for value in (-0.1, 1.0)),
        *({"mixer_types": kinds} for kinds in (["time"], ["time", "attention", "time", "time"])),
    ],
    ids=str,
)
def test_bad_config_values_are_named(bad):
    with pytest.raises(LiquidError, match=next(iter(bad))):
        LiquidConfig(**bad)


def test_sizes_that_do_not_go_together():
    with pytest.raises(LiquidError, match=r"latent_dim .9. must be at most embedding_dim .8."):
        LiquidConfig(latent_dim=9, embedding_dim=8)
    with pytest.raises(LiquidError, match="num_heads"):
        LiquidTextGenerationModel(LiquidConfig(**(SIZES | SMALL | {"num_heads": 3})))


def test_heads_by_the_name_that_transformers_has_for_them():
    config = LiquidConfig(**SIZES, num_heads=4)
    assert config.num_attention_heads == 4 and "num_attention_heads" not in config.to_dict()
