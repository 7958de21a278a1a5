"""The models that come with the package: whole, small, and writing at once."""

import os
import re
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest
import torch

from liquidlm import LiquidConfig, LiquidTextGenerationModel
from liquidlm.inference.saving import load_model
from liquidlm.pretrained import STORIES, shipped_models
from liquidlm.runtime.checksums import verify
from recipes.shipping import MOST_BYTES, Recipe, SpanishNumber, sample
from recipes.stories import PROMPTS


@pytest.mark.parametrize("name", shipped_models())
def test_a_shipped_model_is_undamaged_and_small(name: str) -> None:
    folder = shipped_models()[name]
    verify(folder)
    weights = folder / "model.safetensors"
    assert weights.stat().st_size <= MOST_BYTES
    assert (folder / "README.md").read_text().startswith("---\nlanguage:")
    model, tokenizer = load_model(name)
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert tokenizer.decode(tokenizer.encode("It's a test.\n")) == "It's a test.\n"
    assert model.embedding.round_trip_survival() >= 0.999


def test_the_recipe_makes_a_model_of_these_shapes() -> None:
    recipe = tomllib.loads((Path(__file__).parents[1] / "recipes" / f"{STORIES}.toml").read_text())
    model, tokenizer = load_model(STORIES)
    config = LiquidConfig(vocab_size=tokenizer.vocab_size, **recipe["sizes"])
    with torch.device("meta"):
        made = LiquidTextGenerationModel(config)
    assert {n: p.shape for n, p in made.named_parameters()} == {
        n: p.shape for n, p in model.named_parameters()
    }


def test_the_first_command_writes_a_paragraph(tmp_path: Path) -> None:
    """Offline, in a folder that is not the repository's, as a new user runs it."""
    begin = time.perf_counter()
    command = [sys.executable, "-m", "liquidlm", "generate", "Once upon a time", "--seed", "1"]
    offline = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hub")}
    done = subprocess.run(command, cwd=tmp_path, env=offline, capture_output=True, text=True, check=True)
    print(f"{time.perf_counter() - begin:.1f} s")
    assert done.stdout.startswith("Once upon a time")
    assert "stories" in done.stderr
    words = re.findall(r"[a-z']+", done.stdout.lower())
    assert len(words) > 60
    assert len(set(words)) > 30  # it does not repeat itself


def test_the_cards_samples_are_what_it_writes() -> None:
    card = (shipped_models()[STORIES] / "README.md").read_text()
    model, tokenizer = load_model(STORIES)
    first = sample(model, tokenizer, PROMPTS[0])
    opening = first[:80].splitlines()[0]  # later draws may differ where a machine rounds otherwise
    assert opening in card


def test_the_spanish_card_has_points_for_programs_and_commas_for_people() -> None:
    names = ("steps", "tokens", "millions", "passes", "hours", "dropout", "parameters", "survival")
    figures = dict.fromkeys(
        (*names, *(f"{x}_{y}" for x in ("stories", "novel") for y in ("bits", "bytes"))), 1.0
    )
    card = Path(__file__).parents[1] / "recipes" / "cuentos-card.md"
    recipe = Recipe("cuentos", card, [], {}, SpanishNumber)
    text = recipe._filled(figures | {"steps": 8000, "hours": 3.5}, "> Había")
    assert "  steps: 8000\n" in text and "  hours: 3.5\n" in text
    assert "| pasos | 8.000 |" in text and "3,5 horas" in text and text.endswith("> Había\n")
