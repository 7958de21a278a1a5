"""The plain model and its loading: as the model of transformers, with the same errors."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from small_model import SIZES, SMALL, tiny, tokens

from liquidlm.errors import LiquidError
from liquidlm.inference.saving import load_language_model, load_model, save_model
from liquidlm.model.config import LiquidConfig
from liquidlm.model.language_model import LiquidLanguageModel
from liquidlm.model.pretrained import LiquidTextGenerationModel
from liquidlm.text.tokenizer import LEDTokenizerWrapper

TOKENIZER = LEDTokenizerWrapper.bytes()


def saved(folder, **options):
    """A model with random parameters whose vocabulary has four ids more than its tokenizer."""
    model = tiny(vocab_size=TOKENIZER.vocab_size + 4, **options).float()
    save_model(folder, model, TOKENIZER)
    return model


@pytest.mark.parametrize(
    "options", [{}, {"tie_word_embeddings": True, "embedding_dim": 16}, {"time_components": 2}], ids=str
)
def test_it_is_the_model_of_transformers(tmp_path, options):
    model = saved(tmp_path, **options)
    plain, _ = load_language_model(tmp_path)
    whole, _ = load_model(tmp_path)
    assert type(plain) is LiquidLanguageModel and type(whole) is LiquidTextGenerationModel
    ids = tokens(high=60)
    with torch.no_grad():
        for loaded in (plain, whole):
            assert torch.equal(loaded(ids).logits, model.eval()(ids).logits)
            assert torch.equal(loaded.model(ids).last_hidden_state, model.model(ids).last_hidden_state)
    suppressed = list(range(TOKENIZER.vocab_size, TOKENIZER.vocab_size + 4))
    assert plain.generation_config.suppress_tokens == suppressed == whole.generation_config.suppress_tokens
    assert not plain.training and plain.dtype == torch.float32 and plain.device == whole.device


def test_weights_in_several_files_and_of_low_precision(tmp_path):
    model = saved(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    model.bfloat16().save_pretrained(tmp_path, max_shard_size="20KB")
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 1
    save_file({"left": torch.zeros(1)}, tmp_path / "model-of-another.safetensors")
    plain, whole = load_language_model(tmp_path)[0], load_model(tmp_path)[0]
    assert all(torch.equal(value, whole.state_dict()[name]) for name, value in plain.state_dict().items())
    assert plain.dtype == torch.float32


def changed(folder, change):
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors")


WRONG = {
    "lacks weights: norm.weight": lambda weights: weights.pop("norm.weight"),
    "has weights of another model: extra": lambda weights: weights.update(extra=torch.zeros(1)),
    r"not this model's: norm.weight is \(3,\), not \(16,\)": lambda weights: weights.update(
        {"norm.weight": torch.zeros(3)}
    ),
}


@pytest.mark.parametrize("message", WRONG)
def test_wrong_weights_are_named(tmp_path, message):
    saved(tmp_path)
    changed(tmp_path, WRONG[message])
    with pytest.raises(LiquidError, match=message):
        load_language_model(tmp_path)


def test_files_that_cannot_be_read(tmp_path):
    saved(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(LiquidError, match="cannot be read"):
        load_language_model(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(LiquidError, match="cannot be read"):
        load_language_model(tmp_path)
    config = tmp_path / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"hidden_size": -1}))
    with pytest.raises(LiquidError, match="hidden_size"):
        load_language_model(tmp_path)


def test_it_has_random_weights_of_its_own():
    config = LiquidConfig(**SIZES, **SMALL)
    torch.manual_seed(0)
    first = LiquidLanguageModel.of(config)
    torch.manual_seed(0)
    same = LiquidTextGenerationModel(config)
    assert first.state_dict().keys() == same.state_dict().keys()
    assert all(torch.equal(value, same.state_dict()[name]) for name, value in first.state_dict().items())
