"""What is drawn over a transcript is what the model does."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from helpers import randomise

from liquidlm import LiquidConfig, LiquidError, LiquidTextGenerationModel
from liquidlm.inference.anatomy_figure import DARK, TINTS, draw_png, read_ages
from liquidlm.inference.anatomy_page import page, write_page
from liquidlm.inference.inspection import LEVELS, examine, token_time_constants
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


def test_events_gaps_and_what_is_predicted() -> None:
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
    found = examine(tiny(**options), TOKENIZER, document())
    file = draw_png(found, tmp_path / "plot.png", DARK)
    assert file.read_bytes().startswith(b"\x89PNG") and list(tmp_path.iterdir()) == [file]
    root = ElementTree.fromstring(_svg(page(found, "one")))
    said = [text for each in root.iter("{http://www.w3.org/2000/svg}text") if (text := each.text)]
    predicted = "Time from each event to the next, predicted and real"
    assert (predicted in said) == (found.quantiles is not None)
    assert ("0" in said) == bool((found.gaps == 0).any() or found.retention)
    assert any("memory" in text for text in said) == bool(found.retention)


def _svg(text: str) -> str:
    return text[text.index("<svg") : text.index("</svg>") + 6]


def test_the_page_is_one_file_of_escaped_texts_in_colours_with_names() -> None:
    begins = (0, 30)
    text = "<script>alert(1)</script> & b\n\U0001f642 <b>two</b>"
    given = Document(text, "here", marks=tuple(zip(begins, (1.769e9, 1.769e9 + 7), strict=True)))
    shown = page(examine(tiny(), TOKENIZER, given), "a <model>")
    assert "<script" not in shown and "<b>" not in shown and "&lt;script&gt;" in shown
    assert "<title>a &lt;model&gt;</title>" in shown and "\U0001f642" in shown
    assert not re.findall(r"(?:src=|href=|url\()\"?(?![\"#]|data:)", shown)
    assert not re.search(r"#[0-9a-f]{6}\b", _svg(shown)) and "prefers-color-scheme: dark" in shown
    named, known = set(re.findall(r"var\((--\w+)\)", shown)), set(re.findall(r"(--\w+):", shown))
    assert named and named <= known


def luminance(colour: np.ndarray) -> float:
    """Of a colour in 0…255, as WCAG defines it."""
    parts = colour / 255
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def test_a_tinted_word_can_be_read_in_light_and_in_dark() -> None:
    text = Document("one\ntwo", "here", marks=((0, 0.0), (3, 1.0)))
    shown = page(examine(tiny(), TOKENIZER, text), "one")
    halves = shown.split("@media (prefers-color-scheme: dark)")
    for half in halves:
        ink, paper = (re.search(rf"--{name}: #(\w{{6}})", half) for name in ("ink", "paper"))
        (tint,) = re.findall(rf"\.t{TINTS} {{ background: #(\w{{8}})", half)
        assert ink and paper
        front, back, over = (np.array([*bytes.fromhex(one)], float) for one in (ink[1], paper[1], tint))
        opacity = over[3] / 255
        seen = opacity * over[:3] + (1 - opacity) * back
        dark, light = sorted((luminance(front), luminance(seen)))
        assert (light + 0.05) / (dark + 0.05) >= 4.5
    assert len(halves) == 2 and shown.count("<main>") == shown.count("</main>") == 1


@torch.no_grad()
def test_bits_of_words_and_gaps_are_those_of_the_model() -> None:
    model = tiny()
    found = examine(model, TOKENIZER, document())
    assert ["".join(word for word, _ in words) for words in found.words] == TEXTS
    assert [sum(bits for _, bits in words) for words in found.words] == pytest.approx(found.text_bits)
    ids = torch.tensor([[TOKENIZER.bos_token_id, *TOKENIZER.encode("".join(TEXTS)).tolist()]])
    lengths = [len(text.encode()) for text in TEXTS]
    times = torch.tensor([[0.0, *np.repeat(TIMES, lengths).tolist()]], dtype=torch.float64)
    output = model(ids, timestamps=times)
    nats = -output.logits[0, :-1].log_softmax(-1).gather(1, ids[0, 1:, None])[:, 0]
    of_events = [float(part.sum()) / np.log(2) for part in nats.split(lengths)]
    assert found.text_bits.tolist() == pytest.approx(of_events, rel=1e-4)
    gap = model.next_gap(output.features[0, lengths[0]], ids[0, lengths[0] + 1])
    length = torch.tensor(2.0 / 3.0, dtype=torch.float64)
    chance = 2 * min(gap.cdf(length).item(), gap.survival(length).item())
    assert np.isnan(found.gap_bits[0]) and found.gap_bits[1] == pytest.approx(
        -np.log2(min(chance, 1)), rel=1e-3
    )
    later = examine(model, TOKENIZER, document(), 2, 3)
    assert later.text_bits == pytest.approx(found.text_bits[2:5], rel=1e-4)
    assert later.gap_bits == pytest.approx(found.gap_bits[2:5], rel=1e-3)


@pytest.mark.parametrize("writes", [1, 2])
def test_long_texts_are_read_in_parts_of_whole_events(monkeypatch: pytest.MonkeyPatch, writes: int) -> None:
    model = tiny(num_writes=writes)
    whole = examine(model, TOKENIZER, document())
    monkeypatch.setattr("liquidlm.inference.inspection.SEGMENT", 16)
    parts = examine(model, TOKENIZER, document())
    assert whole.quantiles is not None and parts.quantiles is not None
    np.testing.assert_allclose(parts.quantiles, whole.quantiles, rtol=1e-6)
    for name in ("time_constants", "retention", "attention"):
        for block, figures in getattr(whole, name).items():
            np.testing.assert_allclose(getattr(parts, name)[block], figures, rtol=1e-6, atol=1e-9)


def test_ages_of_what_is_read() -> None:
    times = np.array([0.0, 1.0, 1.0, 100.0])
    shares, least = read_ages(np.tril(np.ones((4, 4))), times)
    assert shares.shape == (4, 11) and shares.sum(1) == pytest.approx(1)
    assert shares[:, 0].tolist() == pytest.approx([1, 1 / 2, 1 / 3, 1 / 4])  # an event reads itself
    assert shares[3, -1] == pytest.approx(3 / 4) and least[:2].tolist() == pytest.approx([0, 1])
    assert shares[2, 1] == pytest.approx(2 / 3)  # one at the same time, one a second before


def test_a_plot_that_cannot_be_written(tmp_path: Path) -> None:
    found = examine(tiny(), TOKENIZER, document())
    with pytest.raises(LiquidError, match="cannot"):
        draw_png(found, tmp_path / "no" / "plot.png")
    with pytest.raises(LiquidError, match="cannot"):
        write_page(found, tmp_path / "no" / "page.html", "one")


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
    monkeypatch.setattr("liquidlm.inference.inspection.LIMIT", 20)
    with pytest.raises(LiquidError, match="over 20 tokens, or one has over 4,096: choose fewer"):
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
