"""Wrong input of the language model: one error that names it."""

import pytest
import torch
from small_model import tiny, tokens

from liquidlm.errors import LiquidError

# ---- errors


def times_with(position, value):
    times = torch.arange(10.0, dtype=torch.float64).repeat(2, 1)
    times[1, position] = value
    return times


BAD = {
    r"id 64 at row 1, position 3": lambda m, x: m(
        x.index_put((torch.tensor(1), torch.tensor(3)), torch.tensor(64))
    ),
    r"id -1 at row 0, position 2": lambda m, x: m(
        x.index_put((torch.tensor(0), torch.tensor(2)), torch.tensor(-1))
    ),
    r"row 1, position 6 .* decrease": lambda m, x: m(x, timestamps=times_with(6, 4.5)),
    r"row 1, position 5 .* finite": lambda m, x: m(x, timestamps=times_with(5, torch.nan)),
    r"row 1, position 0 .* finite": lambda m, x: m(x, timestamps=times_with(0, -torch.inf)),
    r"at least one token, not \(2, 0\)": lambda m, x: m(x[:, :0]),
    r"input_ids must be .* not \(10,\)": lambda m, x: m(x[0]),
    r"attention_mask \(2, 9\) does not cover": lambda m, x: m(x, torch.ones(2, 9)),
    r"attention_mask \(1, 10\) does not cover": lambda m, x: m(x, torch.ones(1, 10)),
    r"timestamps must have the shape .*\(2, 10\), not \(2, 9\)": lambda m, x: m(
        x, timestamps=torch.arange(9).expand(2, 9)
    ),
    r"timestamps must have the shape .* not \(10,\)": lambda m, x: m(x, timestamps=torch.arange(10)),
    r"timestamps must have the shape .* not \(2, 12\)": lambda m, x: m(
        x, torch.tensor([[0] + [1] * 9] * 2), timestamps=torch.arange(12).expand(2, 12)
    ),
    r"starts must have the shape .* not \(2, 12\)": lambda m, x: m(
        x, torch.tensor([[0] + [1] * 9] * 2), starts=torch.zeros(2, 12, dtype=torch.bool)
    ),
    r"seq_idx must have the shape .* not \(2, 9\)": lambda m, x: m(
        x, seq_idx=torch.zeros(2, 9, dtype=torch.long)
    ),
    r"layer 0 has shape \(3, 16\), not \(2, 16\)": lambda m, x: m(x, past_key_values=m(tokens(3, 4)).state),
    r"state has 3 layers, the model 4": lambda m, x: m(x, past_key_values=tiny(num_hidden_layers=3)(x).state),
    r"memory of layer 0": lambda m, x: m(x, past_key_values=tiny(mixer_types=["memory"] * 4)(x).state),
    r"id -7 at row 0, position 3": lambda m, x: m(
        x, labels=x.index_put((torch.tensor(0), torch.tensor(4)), torch.tensor(-7))
    ),
    r"labels must have the shape .* not \(2, 9\)": lambda m, x: m(x, labels=x[:, 1:]),
}


@pytest.mark.parametrize("match", BAD)
def test_mistakes_are_named(as_users_run, match):
    with pytest.raises(LiquidError, match=match):
        BAD[match](tiny(), tokens(2, 10))
