"""`liquidlm info`: of the installation, of the bundled model, and of a trained folder."""

import json
import shutil
from pathlib import Path

import pytest
import torch
import transformers

import liquidlm
from liquidlm.cli.facts import model_facts
from liquidlm.inference.saving import load_model
from liquidlm.ops.native import build, library
from liquidlm.pretrained import shipped_models
from tests import warm


def info(*words: object) -> str:
    done = warm.liquidlm("info", *words)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_installation() -> None:
    facts = json.loads(info("--json"))
    versions = liquidlm.__version__, torch.__version__, transformers.__version__
    assert (facts["liquidlm"], facts["torch"], facts["transformers"]) == versions
    assert (
        facts["threads"] >= 1
        and facts["kernels"].split()[0] in ("avx512", "avx2", "baseline", "torch")
        and facts["processor"]
    )
    assert isinstance(facts["bf16"], bool)


@pytest.mark.skipif(build.compiler() is None, reason="no C++ compiler")
@pytest.mark.parametrize("flags", [["-fopenmp"], []])
def test_kernels_without_threads_say_so(flags, tmp_path, monkeypatch) -> None:
    if flags and not build._openmp(str(build.compiler()), tmp_path):
        pytest.skip("the compiler has no OpenMP")
    monkeypatch.delenv("LIQUIDLM_NATIVE", raising=False)
    monkeypatch.setattr(build, "_openmp", lambda *_: flags)
    built = build.build(tmp_path / build.LIBRARY.name, files=[build.FOLDER / "fingerprint.cpp"])
    monkeypatch.setattr(library, "LIBRARY", built)
    found = library.kernels.__wrapped__()
    assert found.library is not None
    assert found.reason == ("" if flags else "one thread: the compiler had no OpenMP")


def test_an_unknown_set_of_kernels_is_one_error() -> None:
    done = warm.liquidlm("info", env={"LIQUIDLM_NATIVE": "fast"})
    assert done.returncode == 2 and not done.stdout
    assert done.stderr.startswith("error: LIQUIDLM_NATIVE=fast is unknown here: give 0, 1, or one of ")
    assert done.stderr.count("\n") == 1


def test_the_bundled_model() -> None:
    lines = dict(line.split("  ", 1) for line in info("stories").splitlines())
    facts = {name: value.strip() for name, value in lines.items()}
    assert facts["parameters"] == "7,726,743"
    assert facts["blocks"] == "time, memory, time, time, time, memory"
    assert facts["tokenizer"] == "byte-level BPE" and facts["trained with times"] == "no"
    assert (facts["steps"], facts["tokens read"]) == ("4,668", "9,560,064")
    assert facts["training time"] == "1.9 hours"
    assert "TinyStories" in facts["text"]
    assert facts["losses"] == "held-out stories 0.849 bits per byte, held-out novel 1.755 bits per byte"
    assert facts["state of one text"].endswith(" bytes")
    assert not any("_" in name for name in facts)


def test_a_card_without_facts_or_no_card(tmp_path: Path) -> None:
    """A model of which nothing but its files is known."""
    folder = shutil.copytree(shipped_models()["stories"], tmp_path / "model")
    (folder / "checksums.json").unlink()
    for card in ("---\ntraining: by hand\n---\n", "---\na: [\n---\n", "no metadata", None):
        if card is None:
            (folder / "README.md").unlink()
        else:
            (folder / "README.md").write_text(card)
        facts = model_facts(str(folder))
        assert facts["figures"] == {} and "steps" not in facts


def test_a_trained_folder_is_told_in_words_with_units(finished: Path) -> None:
    facts, lines = model_facts(str(finished)), info(finished).splitlines()
    losses = next(line for line in lines if line.startswith("losses "))
    assert f"all held-out text {facts['figures']['final_bits_per_byte']:.4g} bits per byte" in losses
    assert not any(name in losses for name in facts["figures"])
    assert next(line for line in lines if line.startswith("training time ")).endswith(" minutes")


def test_a_trained_folder(finished: Path) -> None:
    facts = model_facts(str(finished))
    settings = json.loads((max((finished / "checkpoints").iterdir()) / "run.json").read_text())["settings"]
    model, tokenizer = load_model(finished)
    assert facts["steps"] == 12
    assert facts["tokens"] == 12 * settings["context"] * settings["batch_size"] * settings["accumulate"]
    assert facts["text"] == settings["paths"] and facts["passes"] > 0
    assert facts["settings_that_differ"]["context"] == settings["context"] != 256
    assert "weight_decay" not in facts["settings_that_differ"]
    assert set(facts["figures"]) >= {"valid_bits_per_byte", "final_bits_per_byte"}
    short, long = (tokenizer.tokenize("sum" * n)[0] for n in (1, 20))
    assert facts["state_bytes_per_text"] == model(short).state.nbytes == model(long).state.nbytes
