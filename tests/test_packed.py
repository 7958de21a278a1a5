"""Models on disk in int8: the same integers as in the kernels, plain models once they are loaded, one error
where a file is damaged; bundled models by name."""

import json
from pathlib import Path

import pytest
import torch
from helpers import randomise
from native import needs_kernels
from safetensors.torch import load_file, save_file
from test_fine_tuning import fine_tuning
from transformers import AutoModelForCausalLM

from liquidlm.cli.facts import model_facts
from liquidlm.cli.generate import generate
from liquidlm.cli.pack import pack
from liquidlm.cli.prompt import model_and_prompt
from liquidlm.errors import LiquidError
from liquidlm.inference.model_folders import find_folder
from liquidlm.inference.saving import load_language_model, load_model, save_int8_model, save_model
from liquidlm.model.config import LiquidConfig
from liquidlm.model.folded import FoldedEmbedding
from liquidlm.model.pretrained import LiquidTextGenerationModel
from liquidlm.model.step import LiquidStep
from liquidlm.ops.int8 import to_int8
from liquidlm.pretrained import names_in_words
from liquidlm.text.tokenizer import LEDTokenizerWrapper
from liquidlm.training.loop import train

SIZES = {"vocab_size": 261, "embedding_dim": 32, "latent_dim": 16, "hidden_size": 32, "num_hidden_layers": 3}
SMALL = {"flow_hidden_dim": 16, "num_flows": 2, "num_heads": 2, "ngram_rows": 40, "ngram_dim": 8}
TIED = {"tie_word_embeddings": True}
KINDS = {"mixer_types": ["time", "memory", "nonlinear"], "time_components": 2}
OUT = "blocks.0.out.weight"
WEIGHTS = "model.safetensors"


def build(**options) -> LiquidTextGenerationModel:
    torch.manual_seed(0)
    return randomise(LiquidTextGenerationModel(LiquidConfig(**{**SIZES, **SMALL, **options}))).eval()


@pytest.fixture(params=[{}, TIED, KINDS, {"count_orders": [1, 2], "count_training_lines": 64}], ids=str)
def saved(request, tmp_path):
    """A model and its folder in int8."""
    model = build(**request.param)
    save_int8_model(tmp_path / "int8", model, LEDTokenizerWrapper.bytes())
    return model, tmp_path / "int8"


def test_the_integers_of_the_rounded_weights_are_the_same() -> None:
    rows = torch.randn(300, 40) * torch.logspace(-25, 25, 300)[:, None]
    rows[7] = 0
    integers, scale = to_int8(rows)
    again = to_int8(integers * scale.float())
    assert torch.equal(again[0], integers) and torch.equal(again[1], scale)
    assert (integers.abs().amax(1) == 127).sum() == 299
    assert ((integers * scale.float() - rows).abs() <= 0.5001 * scale.float()).all()


def test_a_loaded_model_has_plain_weights(saved) -> None:
    model, folder = saved
    stored, own = load_file(folder / WEIGHTS), model.state_dict()
    assert (
        json.loads((folder / "config.json").read_text())["quantization_config"]["quant_method"] == "int8_rows"
    )
    large = {name for name, weight in stored.items() if weight.dtype == torch.int8}
    assert {OUT, "embedding.embedding.weight", "blocks.1.mixer.qkv.weight"} <= large
    for loaded in (AutoModelForCausalLM.from_pretrained(folder), load_language_model(folder)[0]):
        assert not hasattr(loaded.config, "quantization_config")
        assert {p.dtype for p in loaded.parameters()} == {torch.float32}
        for name, weight in loaded.state_dict().items():
            source = "embedding.embedding.weight" if name not in stored else name
            if source in large:
                step = stored[source.removesuffix("weight") + "weight_scale"].float()
                assert torch.equal(weight, stored[source] * step)
                assert ((weight - own[name]).abs() <= 0.5001 * step).all()
            else:
                assert torch.equal(weight, own[name])


def test_saved_again_it_is_the_same_file_and_saved_as_usual_it_is_float32(saved, tmp_path: Path) -> None:
    _, folder = saved
    model, tokenizer = load_model(folder)
    save_int8_model(tmp_path / "again", model, tokenizer)
    assert (tmp_path / "again" / WEIGHTS).read_bytes() == (folder / WEIGHTS).read_bytes()
    model.save_pretrained(tmp_path / "float")
    assert "quantization_config" not in json.loads((tmp_path / "float" / "config.json").read_text())
    assert torch.int8 not in {weight.dtype for weight in load_file(tmp_path / "float" / WEIGHTS).values()}
    found, expected = (
        LiquidTextGenerationModel.from_pretrained(tmp_path / "float").state_dict(),
        model.state_dict(),
    )
    assert all(torch.equal(found[name], expected[name]) for name in expected)


@needs_kernels
@pytest.mark.parametrize("options", [{}, KINDS], ids=str)
def test_writing_in_int8_takes_the_integers_of_the_file(options, tmp_path: Path) -> None:
    model = build(**options)
    save_int8_model(tmp_path, model, LEDTokenizerWrapper.bytes())
    loaded, _ = load_language_model(tmp_path)
    ids, table = torch.randint(3, 261, (2, 9)), FoldedEmbedding(model)
    both = [LiquidStep(each, table, weights="int8") for each in (model, loaded)]
    logits = [step.read_events(ids, step.model.new_state(), every=True)[0] for step in both]
    if both[0].reads_alike:  # else the model itself reads
        assert torch.equal(*logits)
    states = [model(ids).state for _ in both]
    assert torch.equal(*(step(ids[:, 0], state) for step, state in zip(both, states, strict=True)))


def remove(name):
    return lambda weights: weights.pop(name)


def put(name, change):
    return lambda weights: weights.update({name: change(weights[name])})


SCALE = "blocks.0.out.weight_scale"
DAMAGE = {
    r"weight is int8, but there is no blocks\.0\.out\.weight_scale": remove(SCALE),
    r"weight_scale has scales, but there is no blocks\.0\.out\.weight": remove(OUT),
    r"one scale per row": put(SCALE, lambda scale: scale[:5].clone()),
    r"its scales \(32,\)": put(SCALE, lambda scale: scale[:, 0].clone()),
    r"its scales int32, not int8 and": put(SCALE, lambda scale: scale.int()),
    r"weight is I16, not a floating-point": put(OUT, lambda weight: weight.short()),
    r"weight is float32 and its scales": put(OUT, lambda weight: weight.float()),
    r"weight_scale must be finite and greater": put(SCALE, lambda scale: scale.log().sqrt()),
    r"norm\.weight is I32, not a floating-point": put("norm.weight", lambda weight: weight.int()),
    r"is \(31, 32\), not \(32, 32\)|32\) in .*, and": lambda weights: [
        put(name, lambda x: x[:31].clone())(weights) for name in (OUT, SCALE)
    ],
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    save_int8_model(folder, build(), LEDTokenizerWrapper.bytes())
    return folder


BOTH = [
    *((load_language_model, said) for said in DAMAGE),
    *((LiquidTextGenerationModel.from_pretrained, said) for said in list(DAMAGE)[::4]),
]


@pytest.mark.parametrize(("load", "said"), BOTH)
def test_a_damaged_file_is_one_error(load, said: str, whole: Path) -> None:
    weights = load_file(whole / WEIGHTS)
    before = (whole / WEIGHTS).read_bytes()
    DAMAGE[said](weights)
    save_file(weights, whole / WEIGHTS, {"format": "pt"})
    try:
        with pytest.raises(LiquidError, match=said):
            load(whole)
    finally:
        (whole / WEIGHTS).write_bytes(before)


def test_numbers_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    model = build()
    model.blocks[0].out.weight.data[3, 4] = torch.inf
    with pytest.raises(LiquidError, match=r"blocks\.0\.out\.weight has numbers that are not finite"):
        save_int8_model(tmp_path, model, LEDTokenizerWrapper.bytes())


def test_a_packed_model_is_told_and_trained_further(text: Path, tmp_path: Path, capsys) -> None:
    large, small = tmp_path / "large", tmp_path / "small"
    save_model(large, build(), LEDTokenizerWrapper.bytes())
    with pytest.raises(LiquidError, match="exists already"):
        pack(str(large), large)
    pack(str(large), small)
    assert "MB" in capsys.readouterr().out
    assert (small / WEIGHTS).stat().st_size < 0.5 * (large / WEIGHTS).stat().st_size
    assert model_facts(str(small))["stored_as"] == "int8, with a scale per row"
    assert model_facts(str(large))["stored_as"] == "float32"
    train(fine_tuning(text, small, steps=1), tmp_path / "tuned")
    assert model_facts(str(tmp_path / "tuned"))["stored_as"] == "float32"


def test_who_packs_counts_of_the_training_text_is_told(tmp_path: Path, capsys) -> None:
    folder = tmp_path / "model"
    save_int8_model(folder, build(count_orders=[1, 2], count_training_lines=64), LEDTokenizerWrapper.bytes())
    pack(str(folder), tmp_path / "small")
    assert "can read pieces of that text" in capsys.readouterr().out


def test_a_bundled_model_needs_only_its_folder(tmp_path: Path, monkeypatch, capsys) -> None:
    for name in ("cuentos", "stories"):
        save_int8_model(tmp_path / name, build(), LEDTokenizerWrapper.bytes())
    monkeypatch.setattr("liquidlm.pretrained.BUNDLED", tmp_path)
    assert names_in_words() == "`stories` or `cuentos`"
    assert model_and_prompt("cuentos", "Había una vez") == ("cuentos", "Había una vez")
    assert model_and_prompt("cuentos", None) == ("cuentos", None) and not capsys.readouterr().err
    assert model_and_prompt("Había una vez", None) == ("stories", "Había una vez")
    assert capsys.readouterr().err == "model: stories, a bundled model; others: cuentos\n"
    assert find_folder("cuentos") == tmp_path / "cuentos"
    with pytest.raises(
        LiquidError, match=r"cuento is not a folder or a bundled model: give .* cuentos, stories, or hf:"
    ):
        find_folder("cuento")
    monkeypatch.setattr("liquidlm.cli.generate.is_interactive", lambda: False)
    monkeypatch.setattr("liquidlm.cli.prompt.read_pipe", lambda wait: b"")
    generate("cuentos", "Había una vez", max_new_tokens=3)
    assert capsys.readouterr().out.startswith("Había una vez")
