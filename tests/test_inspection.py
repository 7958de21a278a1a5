"""What is drawn over a transcript is what the model does."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import randomise

from liquidlm import LiquidConfig, LiquidError, LiquidTextGenerationModel
from liquidlm.inference.inspection import LEVELS, draw, examine, token_time_constants
from liquidlm.text.corpus import Document
from liquidlm.text.tokenizer import LEDTokenizerWrapper

TIMES = [0.0, 2.0, 2.0, 9.0, 40.0, 41.0]
NONLINEAR = {"mixer_types": ["nonlinear", "memory"]}
TEXTS = ["one", "\ntwo $x$", "\n", "\nfour and more", "\nfive", "\nsix"]
TOKENIZER = LEDTokenizerWrapper.bytes()


def document() -> Document:
    begins = np.cumsum([0, *map(len, TEXTS)])[:-1].tolist()
    return Document("".join(TEXTS), "here", marks=tuple(zip(begins, TIMES, strict=True)))


def tiny(**options) -> LiquidTextGenerationModel:
    torch.manual_seed(0)
    sizes: dict[str, Any] = {
        "vocab_size": TOKENIZER.vocab_size,
        "embedding_dim": 8,
        "latent_dim": 4,
        "hidden_size": 16,
    }
    small: dict[str, Any] = {
        "num_hidden_layers": 2,
        "num_heads": 2,
        "ngram_rows": 40,
        "time_scale": 3.0,
        "dropout_rate": 0.0,
    }
    config = LiquidConfig(**{**sizes, **small, "time_components": 4, **options})
    return randomise(LiquidTextGenerationModel(config), scale=0.1).double().eval()


def test_events_gaps_and_what_is_foretold() -> None:
    model = tiny()
    found = examine(model, TOKENIZER, document())
    assert found.times.tolist() == TIMES and found.gaps.tolist() == np.diff(TIMES).tolist()
    assert found.texts == ["one", "two $x$", "", "four and more", "five", "six"]
    ids = torch.tensor([[TOKENIZER.bos_token_id, *TOKENIZER.encode("".join(TEXTS)).tolist()]])
    lengths = [len(text.encode()) for text in TEXTS]
    times = torch.tensor([[0.0, *np.repeat(TIMES, lengths).tolist()]], dtype=torch.float64)
    output = model(ids, timestamps=times)
    last = lengths[0]  # `<s>` and the bytes before it
    gap = model.next_gap(output.features[0, last], ids[0, last + 1])
    assert found.quantiles is not None and found.quantiles.shape == (3, 5)
    for level, drawn in zip(LEVELS, found.quantiles[:, 0].tolist(), strict=True):
        assert drawn == pytest.approx(3.0 * gap.quantile(level).item())


@pytest.mark.parametrize("options", [{}, NONLINEAR])
def test_from_the_middle_the_state_of_what_was_before_is_there(options: dict) -> None:
    model = tiny(**options)
    whole, later = examine(model, TOKENIZER, document()), examine(model, TOKENIZER, document(), 2, 3)
    assert later.texts == whole.texts[2:5] and later.times.tolist() == TIMES[2:5]
    assert whole.quantiles is not None and later.quantiles is not None
    np.testing.assert_allclose(later.quantiles, whole.quantiles[:, 2:4], rtol=1e-6)
    for name, constants in later.time_constants.items():
        np.testing.assert_allclose(constants, whole.time_constants[name][:, 2:5], rtol=1e-9)


@pytest.mark.parametrize("writes", [1, 2])
def test_memories_fade_and_are_read_backwards_only(writes: int) -> None:
    found = examine(tiny(num_writes=writes), TOKENIZER, document())
    assert list(found.time_constants) == ["block 0", "block 1", "block 2"]  # the last is the time head's
    assert list(found.retention) == ["block 1"]
    kept, read = found.retention["block 1"], found.attention["block 1"]
    assert kept.shape == (6, 2) and (kept[0] == 1).all() and (np.diff(kept, axis=0) <= 1e-12).all()
    assert (kept[1] == kept[2]).all() and (kept[4] < kept[3]).any()  # no time, and much
    assert read.shape == (6, 6) and read.max() == 1 and (np.triu(read, 1) == 0).all()
    assert all((constants > 0).all() for constants in found.time_constants.values())


@pytest.mark.parametrize(
    "options",
    [{}, {"time_components": 0}, {"mixer_types": ["time", "time"]}, NONLINEAR],
)
def test_the_plot(options: dict, tmp_path: Path) -> None:
    file = draw(examine(tiny(**options), TOKENIZER, document()), tmp_path / "plot.png")
    assert file.read_bytes().startswith(b"\x89PNG") and list(tmp_path.iterdir()) == [file]


def test_a_plot_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(LiquidError, match="cannot"):
        draw(examine(tiny(), TOKENIZER, document()), tmp_path / "no" / "plot.png")


@pytest.mark.parametrize("options", [{}, NONLINEAR])
def test_weights_of_low_precision_have_time_constants(options: dict) -> None:
    ids = torch.tensor([TOKENIZER.encode("some words").tolist()])
    wide, low = (token_time_constants(m, ids) for m in (tiny(**options), tiny(**options).bfloat16()))
    assert wide.shape == (3, 10, 3) and (low / wide).log().abs().median() < 0.1
    found = examine(tiny(**options).bfloat16(), TOKENIZER, document())
    assert all((constants > 0).all() for constants in found.time_constants.values())


@torch.no_grad()
def test_rates_of_a_nonlinear_block_are_those_at_the_state_before_each_token() -> None:
    model, ids = tiny(**NONLINEAR), torch.tensor([TOKENIZER.encode("some words").tolist()])
    drawn = token_time_constants(model, ids)[0]
    block: Any = model.blocks[0]
    cell, seen = block.mixer.cell, []
    hook = cell.warp.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    for i in range(ids.shape[1]):
        before = model(ids[:, :i]).state.states()[0].h if i else torch.zeros(1, 16).double()
        seen.clear()
        model(ids[:, : i + 1])
        e = seen[0][:, i]  # the cell's input at the last token
        rate, _ = cell.neuron.conductances(e, before)
        constants = 3.0 / (rate * cell.own_time(e, torch.ones(1).double()))
        torch.testing.assert_close(drawn[i, 1], constants.quantile(0.5), rtol=1e-9, atol=0)
    hook.remove()


def test_nothing_to_draw(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(LiquidError, match="no times"):
        examine(tiny(), TOKENIZER, Document("text", "here"))
    with pytest.raises(LiquidError, match="has 6 events: fewer than two from number 5 on"):
        examine(tiny(), TOKENIZER, document(), 5)
    monkeypatch.setattr("liquidlm.inference.inspection.SEGMENT", 20)
    with pytest.raises(LiquidError, match="over 20 tokens: choose fewer"):
        examine(tiny(), TOKENIZER, document())


def test_what_is_left_at_an_event_is_what_its_last_token_leaves() -> None:
    """Where events count beside gaps, a longer text fades a memory more."""
    short = document()
    longer = replace(short, text=short.text + " and much more")
    kept, less = (
        examine(tiny(memory_scale=9.0), TOKENIZER, one).retention["block 1"] for one in (short, longer)
    )
    np.testing.assert_allclose(kept[:-1], less[:-1], rtol=1e-9)
    assert (less[-1] < kept[-1] - 1e-6).any() and (less[-1] <= kept[-1]).all()
