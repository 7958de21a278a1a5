"""Logits in training mode: there where they cost little or are asked for, else an error that says so."""

import copy
import pickle
from typing import Any

import pytest
import torch
from helpers import error, randomise
from torch.nn.functional import cross_entropy
from torch.utils import _pytree

from liquidlm import LiquidConfig, LiquidError, LiquidOutput, LiquidTextGenerationModel

IDS = torch.randint(4, 32, (2, 9), generator=torch.Generator().manual_seed(0))
FEW, MANY = {"loss_chunk": 18}, {"loss_chunk": 17}  # so many as there are tokens, or one less


def tiny(**options: Any) -> Any:
    torch.manual_seed(0)
    sizes = {"vocab_size": 32, "embedding_dim": 12, "latent_dim": 6, "hidden_size": 16, "ngram_rows": 20}
    config = LiquidConfig(**sizes, num_hidden_layers=2, dropout_rate=0.0, **options)
    return randomise(LiquidTextGenerationModel(config), 1, 0.2).double().train()


def gradients(model: Any, logits: torch.Tensor) -> torch.Tensor:
    """Of a loss that is made of the logits."""
    found = torch.autograd.grad(
        cross_entropy(logits[:, :-1].mT, IDS[:, 1:]), list(model.parameters()), allow_unused=True
    )
    return torch.cat([grad.flatten() for grad in found if grad is not None])


@pytest.mark.parametrize(
    ("options", "asked"),
    [(FEW, {}), (MANY, {"skip_logits": False}), (MANY, {"logits_to_keep": 9}), (FEW, {"return_dict": False})],
    ids=str,
)
def test_logits_in_training_mode_are_logits(options: dict[str, int], asked: dict[str, Any]) -> None:
    """Of few tokens, or as asked for: their values and the gradients of a loss that is made of them."""
    model = tiny(**options)
    expected = model(IDS).logits
    output = model(IDS, labels=IDS, **asked)
    logits = output[1]
    assert (
        error(logits, expected) < 1e-12
        and error(gradients(model, logits), gradients(model, expected)) < 1e-12
    )
    assert asked or (output.logits is logits and output["logits"] is logits)


def test_some_of_the_logits() -> None:
    model = tiny(**MANY)
    expected = model(IDS).logits
    assert error(model(IDS, labels=IDS, logits_to_keep=3).logits, expected[:, -3:]) < 1e-12
    assert (
        error(model(IDS, labels=IDS, logits_to_keep=torch.tensor([1, 5])).logits, expected[:, [1, 5]]) < 1e-12
    )


USES = {
    "a slice": lambda out: out.logits[:, :-1],
    "by name": lambda out: out["logits"].float(),
    "get": lambda out: out.get("logits").argmax(-1),
    "the second": lambda out: out[1].shape,
    "a loss": lambda out: cross_entropy(out.logits, IDS),
    "a function of torch": lambda out: torch.softmax(out.logits, -1),
    "a temperature": lambda out: out.logits / 2.0,
    "its length": lambda out: len(out.logits),
    "an array": lambda out: __import__("numpy").asarray(out.logits),
}


@pytest.mark.parametrize("use", USES)
def test_logits_that_were_left_out_say_how_to_get_them(use: str) -> None:
    output = tiny(**MANY)(IDS, labels=IDS)
    output.loss.backward()
    with pytest.raises(LiquidError, match="skip_logits=False"):
        USES[use](output)


def test_the_logits_of_many_tokens_are_never_made(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny(**MANY)
    monkeypatch.setattr(model.output_proj, "forward", None)
    assert model(IDS, labels=IDS).loss.isfinite() and model.eval()(IDS, skip_logits=True).loss is None


def test_an_output_without_logits_goes_through_what_handles_outputs(as_users_run: None) -> None:
    """accelerate's conversion, torch's trees, DataParallel's gathering, a copy, a file, a print."""
    utils = pytest.importorskip("accelerate.utils", reason="the extra 'dev' is not installed")
    model = tiny(**MANY)
    output = model(IDS, labels=IDS)
    leaves, tree = _pytree.tree_flatten(output)
    several = type(output.logits)(map(id, zip(output.logits, output.logits, strict=True)))
    others = [
        utils.convert_outputs_to_fp32(model.forward)(IDS, labels=IDS),
        _pytree.tree_unflatten(leaves, tree),
        LiquidOutput({**output, "logits": several}),
        copy.deepcopy(LiquidOutput(logits=output.logits)),
        pickle.loads(pickle.dumps(LiquidOutput(logits=output.logits))),
    ]
    for other in others:
        with pytest.raises(LiquidError, match="skip_logits=False"):
            other.logits[:, :-1]
    assert "SkippedLogits" in repr(output)
