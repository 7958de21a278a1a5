"""The whole model in one graph: torch.export and torch.compile(fullgraph=True)."""

import pytest
import torch

from liquidlm.model.config import LiquidConfig
from liquidlm.model.pretrained import LiquidTextGenerationModel
from tests import warm
from tests.helpers import error, randomise

SIZES = {"vocab_size": 64, "embedding_dim": 16, "latent_dim": 8, "hidden_size": 16, "num_hidden_layers": 2}
SMALL = {"flow_hidden_dim": 8, "num_flows": 2, "num_heads": 2, "ngram_rows": 40}
pytestmark = pytest.mark.usefixtures("as_users_run")


def small(**options):
    torch.manual_seed(0)
    return randomise(LiquidTextGenerationModel(LiquidConfig(**(SIZES | SMALL | options)))).float().eval()


def inputs(**more):
    return {"input_ids": torch.randint(3, 64, (2, 9), generator=torch.Generator().manual_seed(0)), **more}


PADDED = torch.ones(2, 9, dtype=torch.long).index_fill(1, torch.tensor([0, 1]), 0)
CASES = {
    "plain": ({}, inputs()),
    "times": ({"time_components": 2}, inputs(timestamps=torch.arange(18.0).view(2, 9))),
    "padded and tied": ({"tie_word_embeddings": True}, inputs(attention_mask=PADDED)),
    "documents": ({}, inputs(position_ids=torch.arange(9).view(1, 9) % 4)),
}


@pytest.mark.parametrize("case", CASES)
def test_an_exported_model_is_the_model(case):
    options, given = CASES[case]
    model = small(**options)
    expected = model(**given)
    exported = torch.export.export(model, (), given, strict=False).module()
    found = exported(**given)
    assert error(found.logits, expected.logits) < 1e-5
    states = zip(found.past_key_values.states(), expected.past_key_values.states(), strict=True)
    for mine, theirs in states:
        assert all(error(a, b) < 1e-5 for a, b in zip(mine, theirs, strict=True) if b is not None)
    with pytest.raises(RuntimeError, match="outside the vocabulary"):
        exported(**{**given, "input_ids": given["input_ids"] + 60})


def compiled():
    """Every case, each in one graph."""
    for options, given in CASES.values():
        torch._dynamo.reset()
        model = small(**options)
        whole = torch.compile(model, fullgraph=True, backend="eager")
        with torch.no_grad():
            assert error(whole(**given, use_cache=False).logits, model(**given).logits) < 1e-5


def test_a_model_compiles_into_one_graph():
    """In a process of its own: the shape checks of the tests cannot be compiled."""
    done = warm.run(program="from tests import test_traced\ntest_traced.compiled()")
    assert done.returncode == 0, done.stderr
