"""transformers' Trainer: evaluation, metrics, the best model, early stopping, predictions."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import randomise
from transformers import EarlyStoppingCallback, Trainer, TrainingArguments
from transformers.utils.generic import find_labels

from liquidlm import LiquidConfig, LiquidTextGenerationModel

pytest.importorskip("accelerate", reason="Trainer needs accelerate")
pytestmark = pytest.mark.filterwarnings("ignore:.*gradient_checkpointing.*:FutureWarning")  # an older name

TEXTS = torch.randint(3, 40, (6, 12), generator=torch.Generator().manual_seed(0))


def tiny(**options: Any) -> Any:
    torch.manual_seed(0)
    sizes = {"vocab_size": 40, "embedding_dim": 12, "latent_dim": 6, "hidden_size": 16, "ngram_rows": 20}
    config = LiquidConfig(**sizes, **({"num_hidden_layers": 2, "dropout_rate": 0.0} | options))
    return randomise(LiquidTextGenerationModel(config), 1, 0.2)


def collate(texts: list[torch.Tensor]) -> dict[str, torch.Tensor]:
    ids = torch.stack(texts)
    return {"input_ids": ids, "labels": ids}


def trainer(folder: Path, model: Any, arguments: dict[str, Any] | None = None, **options: Any) -> Trainer:
    base: dict[str, Any] = {"use_cpu": True, "report_to": [], "disable_tqdm": True, "max_steps": 4}
    base |= {"per_device_train_batch_size": 2, "per_device_eval_batch_size": 3, "save_strategy": "no"}
    given = TrainingArguments(str(folder), **(base | (arguments or {})))
    data = {"train_dataset": list(TEXTS), "eval_dataset": list(TEXTS), "data_collator": collate}
    return Trainer(model, given, **(data | options))


@torch.no_grad()
def by_hand(model: Any) -> tuple[float, np.ndarray]:
    """Nats per token, and all logits."""
    logits = model.eval()(TEXTS).logits
    return torch.nn.functional.cross_entropy(logits[:, :-1].mT, TEXTS[:, 1:]).item(), logits.numpy()


def accuracy(found: Any) -> dict[str, float]:
    return {"right": float((found.predictions[:, :-1].argmax(-1) == found.label_ids[:, 1:]).mean())}


def test_labels_are_what_trainer_waits_for() -> None:
    assert find_labels(LiquidTextGenerationModel) == ["labels"]


@pytest.mark.parametrize("adapted", [False, True])
def test_evaluate_and_predict(tmp_path: Path, adapted: bool) -> None:
    """The loss, a metric and the logits are those computed by hand, through PEFT too."""
    model = tiny()
    if adapted:
        peft = pytest.importorskip("peft", reason="the extra 'dev' is not installed")
        model = peft.get_peft_model(model, peft.LoraConfig(r=2, target_modules="all-linear"))
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.1) if parameter.requires_grad else None
    loss, logits = by_hand(model)
    own = trainer(tmp_path, model, compute_metrics=accuracy)
    assert own.label_names == ["labels"]
    found = own.evaluate()
    assert found["eval_loss"] == pytest.approx(loss, abs=1e-5)
    assert found["eval_right"] == pytest.approx((logits[:, :-1].argmax(-1) == TEXTS[:, 1:].numpy()).mean())
    predicted: Any = own.predict(list(TEXTS))
    assert predicted.metrics["test_loss"] == pytest.approx(loss, abs=1e-5)
    assert np.abs(predicted.predictions - logits).max() < 1e-5
    assert np.array_equal(predicted.label_ids, TEXTS.numpy())


def test_the_best_model_is_kept_and_training_stops_early(tmp_path: Path) -> None:
    arguments = {"eval_strategy": "steps", "eval_steps": 1, "save_strategy": "steps", "save_steps": 1}
    arguments |= {"load_best_model_at_end": True, "max_steps": 20, "learning_rate": 0.05}  # away from it
    own = trainer(tmp_path, tiny(), arguments, callbacks=[EarlyStoppingCallback(1)])
    own.train()
    losses = [entry["eval_loss"] for entry in own.state.log_history if "eval_loss" in entry]
    assert own.state.global_step == len(losses) == 2 and losses[0] < losses[1]
    assert own.state.best_metric == losses[0]
    assert by_hand(own.model)[0] == pytest.approx(losses[0], abs=1e-5)


def test_labels_are_counted_and_smoothed_as_they_are_shifted(tmp_path: Path) -> None:
    """A gradient step of plain SGD, over texts of which the first token is no target."""
    for smoothing in (0.0, 0.5):
        arguments = {"max_steps": 1, "optim": "sgd", "learning_rate": 0.1, "lr_scheduler_type": "constant"}
        arguments |= {"per_device_train_batch_size": 6, "max_grad_norm": 0.0}
        own = trainer(tmp_path, tiny(flow_loss_weight=0.0), arguments | {"label_smoothing_factor": smoothing})
        own.train()
        model = tiny(flow_loss_weight=0.0)
        log_p = model(TEXTS).logits[:, :-1].log_softmax(-1)
        right = -log_p.gather(-1, TEXTS[:, 1:, None]).mean()
        ((1 - smoothing) * right - smoothing * log_p.mean()).backward()
        for mine, (name, theirs) in zip(own.model.parameters(), model.named_parameters(), strict=True):
            expected = theirs - 0.1 * (0 if theirs.grad is None else theirs.grad)
            assert torch.allclose(mine.cpu(), expected, atol=1e-5), name


def test_labels_that_are_shifted_already(tmp_path: Path) -> None:
    """As the parallelism of sequences gives them."""

    def shifted(texts: list[torch.Tensor]) -> dict[str, torch.Tensor]:
        ids = torch.stack(texts)
        return {"input_ids": ids, "shift_labels": torch.nn.functional.pad(ids[:, 1:], (0, 1), value=-100)}

    model = tiny()
    loss = by_hand(model)[0]
    own = trainer(tmp_path, model, {"label_names": ["shift_labels"]}, data_collator=shifted)
    assert own.evaluate()["eval_loss"] == pytest.approx(loss, abs=1e-5)
