"""What defines a run: values of every wrong kind are one clear error before anything is read."""

import math

import pytest

from liquidlm import LiquidConfig
from liquidlm.errors import LiquidError
from liquidlm.training.settings import TrainSettings


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"steps": 0}, "steps must be greater than 0"),
        ({"steps": "100"}, "steps must be a whole number, not '100'"),
        ({"steps": True}, "steps must be a whole number, not True"),
        ({"steps": 2.5}, "steps must be a whole number"),
        ({"minutes": 1.0}, "either steps or minutes"),
        ({"steps": None}, "either steps or minutes"),
        ({"minutes": math.inf, "steps": None}, "minutes must be finite, not inf"),
        ({"minutes": math.nan, "steps": None}, "minutes must be finite, not nan"),
        ({"context": -1}, "context must be greater than 0"),
        ({"batch_size": 0}, "batch_size must be greater than 0"),
        ({"accumulate": 0}, "accumulate must be greater than 0"),
        ({"patience": 0}, "patience must be greater than 0"),
        ({"span": -1}, "span must be at least 0"),
        ({"lr": -0.1}, "lr must be greater than 0"),
        ({"lr": "fast"}, "lr must be a number, not 'fast'"),
        ({"dropout": 1.5}, "dropout must be below 1"),
        ({"weight_decay": math.inf}, "weight_decay must be finite"),
        ({"size": "huge"}, "unknown size 'huge'"),
        ({"size": 3}, "size must be text"),
        ({"seed": -1}, "seed must be at least 0"),
        ({"seed": 10**20}, "seed must be below 9223372036854775808"),
        ({"recompute": 1}, "recompute must be true or false"),
        ({"paths": "abc"}, "paths must be a list"),
        ({"paths": ["a", 3]}, r"paths\[1\] must be text"),
        ({"weights": [1]}, "weights must have one number for each path: 1 for 0 paths"),
        ({"paths": ["a"], "weights": [0]}, "must not be 0 for all paths"),
        ({"paths": ["a"], "weights": [math.nan]}, r"weights\[0\] must be finite"),
        ({"step": 3}, "step is not a setting .did you mean steps"),
        ({"tokenizer": "bpe4000"}, "did you mean bpe:4000"),
        ({"tokenizer": "BPE:300"}, "did you mean bpe:300"),
        ({"tokenizer": "bep-300"}, "did you mean bpe:300"),
        ({"tokenizer": "byte"}, "did you mean bytes"),
        ({"tokenizer": "bpe:many"}, "give the size of the vocabulary after bpe:"),
        ({"tokenizer": "bpe:" + "9" * 30}, "at most 1,000,000"),
        ({"tokenizer": 4000}, "tokenizer must be text"),
        ({"late": "drop"}, "--late must be clamp, error or sort"),
        ({"late": "sort"}, "--late needs --timestamps"),
        ({"time_format": "%s"}, "--time-format needs --timestamps"),
        ({"year": "2026"}, "year must be a whole number"),
        ({"encoding": "latin-99"}, "--encoding latin-99 is not known"),
        ({"sizes": [3]}, "sizes must be a table"),
        ({"sizes": {"vocab_size": 3}}, "sizes.vocab_size is not a setting"),
        ({"sizes": {"hidden_size": "64"}}, "sizes.hidden_size must be a whole number, not '64'"),
        ({"sizes": {"hidden_size": True}}, "sizes.hidden_size must be a whole number, not True"),
        ({"sizes": {"num_heads": 0}}, "num_heads .0. must divide hidden_size"),
        ({"sizes": {"ode_decay": math.nan}}, "ode_decay must be finite"),
        ({"sizes": {"mixer_types": ["time", 3]}}, r"sizes.mixer_types\[1\] must be text"),
    ],
)
def test_settings_that_make_no_sense(given: dict, said: str) -> None:
    with pytest.raises(LiquidError, match=said) as caught:
        TrainSettings(**{"steps": 1, **given})
    assert "\n" not in str(caught.value)


def test_a_whole_number_is_a_fine_float() -> None:
    settings = TrainSettings(paths=["a"], weights=[2], minutes=3, lr=1, dropout=0, sizes={"time_scale": 60})
    assert settings == TrainSettings(
        paths=["a"], weights=[2.0], minutes=3.0, lr=1.0, dropout=0.0, sizes={"time_scale": 60.0}
    )
    config = LiquidConfig(time_scale=60, memory_scale=1800, dropout_rate=0, time_resolution=1)
    assert isinstance(config.time_scale, float) and config.gap_weight == 60 / 1800


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"time_scale": "60"}, "time_scale must be"),
        ({"time_scale": True}, "time_scale must be"),
        ({"time_scale": 10**400}, "time_scale must be positive and finite"),
        ({"flow_loss_weight": math.inf}, "flow_loss_weight must be finite"),
        ({"norm_eps": -1}, "norm_eps must be greater than 0"),
        ({"hidden_size": 64.0}, "hidden_size must be int"),
    ],
)
def test_a_configuration_that_makes_no_sense(given: dict, said: str) -> None:
    with pytest.raises(LiquidError, match=said):
        LiquidConfig(**given)
