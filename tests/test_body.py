"""The body of the language model: what transformers' tools take for the base model, and its hidden states."""

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import error, event_times, randomise
from transformers import AutoModel
from transformers.modeling_layers import GradientCheckpointingLayer

from liquidlm import LiquidConfig, LiquidModel, LiquidTextGenerationModel

IDS = torch.randint(4, 32, (2, 9), generator=torch.Generator().manual_seed(0))
TIMES = event_times(2, 9)


def tiny(**options: Any) -> Any:
    torch.manual_seed(0)
    sizes = {"vocab_size": 32, "embedding_dim": 12, "latent_dim": 6, "hidden_size": 16, "ngram_rows": 20}
    config = LiquidConfig(**sizes, **({"num_hidden_layers": 2, "dropout_rate": 0.0} | options))
    return randomise(LiquidTextGenerationModel(config), 1, 0.2).double().eval()


@pytest.mark.parametrize("components", [0, 3])
def test_logits_are_made_of_the_last_hidden_state(components: int) -> None:
    """Two blocks: three hidden states, the last after the norm, with a time head or without."""
    model = tiny(time_components=components)
    body, whole = model.base_model, model(IDS, timestamps=TIMES, output_hidden_states=True)
    assert type(body) is LiquidModel and body is not model
    found = body(IDS, timestamps=TIMES, output_hidden_states=True)
    assert error(model.output_proj(found.last_hidden_state), whole.logits) < 1e-12
    for hidden in (found.hidden_states, whole.hidden_states):
        assert len(hidden) == 3 and error(model.output_proj(hidden[-1]), whole.logits) < 1e-12
        assert [error(a, b) for a, b in zip(hidden, whole.hidden_states, strict=True)] == [0, 0, 0]
    assert whole.features is None if components == 0 else torch.equal(found.features, whole.features)
    after = model(IDS, past_key_values=found.past_key_values).logits
    assert error(after, model(IDS, past_key_values=whole.past_key_values).logits) == 0


@pytest.mark.parametrize("components", [0, 3])
def test_the_config_may_ask_for_hidden_states(components: int) -> None:
    model = tiny(time_components=components)
    expected = model(IDS, output_hidden_states=True).hidden_states
    assert model(IDS).hidden_states is None and model.base_model(IDS).hidden_states is None
    model.config.output_hidden_states = True
    for read in (model, model.base_model):
        assert all(torch.equal(a, b) for a, b in zip(read(IDS).hidden_states, expected, strict=True))
    trained = model.train()(IDS, labels=IDS)
    assert len(trained.hidden_states) == 3
    assert model(IDS, output_hidden_states=False).hidden_states is None


def test_the_body_is_all_but_the_heads_and_its_parts_are_the_models_own() -> None:
    model = tiny(time_components=3)
    names = {name: id(p) for name, p in model.named_parameters()}
    heads = {name for name in names if name.startswith(("output_proj.", "time_head."))}
    body = {name: id(p) for name, p in model.base_model.named_parameters()}
    assert len(heads) == 4 and body == {name: p for name, p in names.items() if name not in heads}
    assert set(body) == {name for name, _ in LiquidModel(model.config).named_parameters()}
    assert set(model.state_dict()) >= set(names)  # as they are saved: nothing has another name than before
    model.base_model.requires_grad_(False)
    assert {name for name, p in model.named_parameters() if p.requires_grad} == heads
    model.norm = torch.nn.Identity()
    assert isinstance(model.base_model.norm, torch.nn.Identity)  # whatever has replaced a part since
    assert model.train().base_model.training and not model.eval().base_model.training


def test_padding_and_segments_are_those_of_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    model, mask = tiny(), torch.tensor([[0, 0] + [1] * 7, [1] * 8 + [0]])
    expected = model(IDS, mask).logits
    monkeypatch.setattr("liquidlm.model.segments.SEGMENT", 6)
    found = model.base_model(IDS, mask, return_dict=False)[0]
    assert error(model.output_proj(found)[mask == 1], expected[mask == 1]) < 1e-12


@pytest.mark.parametrize("components", [0, 3])
def test_hidden_states_are_those_that_the_output_came_from(components: int) -> None:
    """Their gradients can be asked for, as those of transformers' models."""
    model = tiny(time_components=components)
    for read in (model, model.base_model):
        output = read(IDS, output_hidden_states=True)
        grads = torch.autograd.grad(output[0].square().sum(), output.hidden_states[:-1])
        assert all(grad.abs().max() > 0 for grad in grads)


def test_auto_model_is_the_body(tmp_path: Path) -> None:
    model = tiny().float()
    model.save_pretrained(tmp_path)
    body = AutoModel.from_pretrained(tmp_path)
    assert type(body) is LiquidModel and type(AutoModel.from_config(model.config)) is LiquidModel
    assert error(body(IDS).last_hidden_state, model.base_model(IDS).last_hidden_state) < 1e-6


@pytest.mark.parametrize("reentrant", [False, True])
def test_activation_checkpointing_is_turned_on_as_transformers_does(reentrant: bool) -> None:
    """In a layer of its own, whose checkpoint loses no gradient whichever form is asked for."""
    model = tiny(time_components=2).train()
    given: dict[str, Any] = {"input_ids": IDS, "labels": IDS, "timestamps": TIMES}
    model(**given).loss.backward()
    expected = [parameter.grad for parameter in model.parameters()]
    model.zero_grad()
    model.activation_checkpointing_enable({"use_reentrant": reentrant})
    (layer,) = (m for m in model.modules() if isinstance(m, GradientCheckpointingLayer))
    assert layer is model.blocks and layer.gradient_checkpointing
    model(**given).loss.backward()
    assert all(error(p.grad, grad) < 1e-12 for p, grad in zip(model.parameters(), expected, strict=True))
    model.activation_checkpointing_disable()
    assert not layer.gradient_checkpointing and not model.gradient_checkpointing
