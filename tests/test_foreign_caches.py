"""Caches that hold no liquid states, and decoding that would take tokens back: refused before any reading."""

import pytest
import torch
from helpers import randomise
from transformers import DynamicCache, LlamaConfig, LlamaForCausalLM

from liquidlm import LiquidConfig, LiquidError, LiquidTextGenerationModel
from liquidlm.nn.state import liquid_layers

IDS = torch.tensor([[5, 9, 3, 7]])


def tiny(layers=2):
    torch.manual_seed(0)
    sizes = {"vocab_size": 32, "embedding_dim": 12, "latent_dim": 6, "hidden_size": 16, "ngram_rows": None}
    config = LiquidConfig(**sizes, num_hidden_layers=layers, dropout_rate=0.0, eos_token_id=None)
    return randomise(LiquidTextGenerationModel(config), 1, 0.2).eval()


@pytest.fixture(scope="module")
def llama():
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    return LlamaForCausalLM(LlamaConfig(vocab_size=32, eos_token_id=None, **sizes)).eval()


def foreign(kind, llama):
    if kind == "empty":
        return DynamicCache()
    return llama(IDS, use_cache=True).past_key_values


@pytest.mark.parametrize("kind", ["empty", "llama's"])
@pytest.mark.parametrize("entry", ["forward", "base model", "generate"])
def test_a_foreign_cache_is_refused(kind, entry, llama):
    model, cache = tiny(), foreign(kind, llama)
    call = {"forward": model, "base model": model.base_model, "generate": model.generate}[entry]
    with pytest.raises(LiquidError, match="holds no liquid states"):
        call(IDS, past_key_values=cache, **({"max_new_tokens": 2} if entry == "generate" else {}))


def test_a_tuple_of_keys_and_values_is_refused():
    keys = torch.zeros(1, 1, 4, 8)
    with pytest.raises(LiquidError, match="a tuple that holds no liquid states"):
        liquid_layers(((keys, keys),) * 2)


def test_a_state_of_another_number_of_layers_is_refused():
    with pytest.raises(LiquidError, match="the state has 3 layers, the model 2"):
        tiny()(IDS, past_key_values=tiny(layers=3).new_state())


def test_a_cache_that_transformers_makes_for_the_model_is_none_of_these():
    model = tiny()
    cache = DynamicCache(config=model.config)
    first = model(IDS, past_key_values=cache).logits
    assert torch.equal(first, model(IDS).logits) and cache.get_seq_length() == 4


def test_a_liquid_model_is_no_draft_model(llama):
    """Refused before the other model has written anything."""
    written = []
    with pytest.raises(LiquidError, match="cannot draft for another"):
        llama.generate(
            IDS,
            assistant_model=tiny(),
            max_new_tokens=4,
            stopping_criteria=[lambda ids, _: written.append(ids) or torch.zeros(1, dtype=torch.bool)],
        )
    assert written == []


@pytest.mark.parametrize("how", ["draft model", "prompt lookup"])
def test_nothing_drafts_for_a_liquid_model(how, llama):
    options = {"assistant_model": llama} if how == "draft model" else {"prompt_lookup_num_tokens": 2}
    with pytest.raises(ValueError, match="assisted generation is not supported with stateful models"):
        tiny().generate(IDS, max_new_tokens=4, **options)
