"""The tools around transformers, offline: packed batches, the Trainer, adapters."""

import importlib.util

import pytest
import torch
import torch.nn.functional as F
from helpers import error, randomise
from small_model import SIZES, SMALL
from transformers import DataCollatorWithFlattening, Trainer, TrainingArguments

from liquidlm.errors import LiquidError
from liquidlm.model.config import LiquidConfig
from liquidlm.model.pretrained import LiquidTextGenerationModel
from liquidlm.model.step import LiquidStep


def tiny(**options):
    """Four layers, of which the second has a memory; random parameters."""
    torch.manual_seed(0)
    return randomise(LiquidTextGenerationModel(LiquidConfig(**(SIZES | SMALL | options))))


def documents(*lengths):
    generator = torch.Generator().manual_seed(1)
    return [torch.randint(3, 64, (length,), generator=generator) for length in lengths]


# ---- packing


@pytest.mark.parametrize(
    "marks",
    [
        {"return_position_ids": True},
        {"return_position_ids": False, "return_seq_idx": True},
        {"return_position_ids": True, "return_seq_idx": True, "return_flash_attn_kwargs": True},
    ],
    ids=["position_ids", "seq_idx", "all"],
)
def test_packed_documents_are_the_documents_alone(marks):
    """Logits, loss and every gradient of one flattened row, against each document by itself."""
    texts = documents(1, 13, 2, 40, 8, 9)
    batch = DataCollatorWithFlattening(**marks)([{"input_ids": text} for text in texts])
    assert batch["input_ids"].shape == (1, 73)
    packed, alone = (tiny(flow_loss_weight=0.0).double().eval() for _ in range(2))
    logits = packed(**{k: v for k, v in batch.items() if k != "labels"}).logits
    assert error(logits[0], torch.cat([alone(text[None]).logits[0] for text in texts])) < 1e-10

    packed.train(), alone.train()
    loss = packed(**batch).loss
    loss.backward()
    total = 0.0
    for text in texts[1:]:  # nothing is asked of one token
        part = alone(text[None], labels=text[None]).loss * (len(text) - 1) / sum(len(t) - 1 for t in texts)
        part.backward()
        total += part.item()
    assert abs(loss.item() - total) < 1e-10
    for (name, mine), theirs in zip(packed.named_parameters(), alone.parameters(), strict=True):
        assert (mine.grad is None) == (theirs.grad is None), name
        assert mine.grad is None or error(mine.grad, theirs.grad) < 1e-9, name


# ---- Trainer


@pytest.mark.skipif(importlib.util.find_spec("accelerate") is None, reason="Trainer needs accelerate")
def test_trainer_with_packed_batches_and_activation_checkpointing_stops_and_resumes(tmp_path):
    examples = [{"input_ids": text.tolist()} for text in documents(*range(5, 45))]

    def trainer(steps, recompute):
        options = {
            "use_cpu": True,
            "report_to": [],
            "disable_tqdm": True,
            "logging_steps": 1,
            "save_steps": 3,
        }
        options |= {"gradient_checkpointing": recompute, "max_grad_norm": 0.0, "learning_rate": 1e-3}
        arguments = TrainingArguments(
            tmp_path / str(recompute), max_steps=steps, per_device_train_batch_size=4, **options
        )
        collator = DataCollatorWithFlattening(return_seq_idx=True)
        return Trainer(tiny().float(), arguments, data_collator=collator, train_dataset=examples)

    def losses(done):
        return [entry["loss"] for entry in done.state.log_history if "loss" in entry]

    whole, recomputed, resumed = trainer(6, False), trainer(6, True), trainer(6, True)
    whole.train(), recomputed.train()
    assert recomputed.model.gradient_checkpointing and not whole.model.gradient_checkpointing
    assert losses(recomputed) == pytest.approx(losses(whole), abs=1e-5) and len(losses(whole)) == 6
    resumed.train(resume_from_checkpoint=str(tmp_path / "True" / "checkpoint-3"))
    assert losses(resumed) == pytest.approx(losses(whole), abs=1e-5)
    for mine, theirs in zip(resumed.model.parameters(), whole.model.parameters(), strict=True):
        assert torch.allclose(mine, theirs, atol=1e-5)


# ---- adapters

pytestmark = pytest.mark.filterwarnings("ignore:.*gradient_checkpointing:FutureWarning")  # the older name


@pytest.fixture
def peft():
    return pytest.importorskip("peft", reason="the extra 'dev' is not installed")


@pytest.mark.parametrize("target", ["all-linear", ["qkv", "out", "synapse", "up", "down"]], ids=str)
def test_lora_learns_is_saved_and_merges(peft, tmp_path, target):
    base = tiny().float()
    before = {name: value.clone() for name, value in base.state_dict().items()}
    adapted = peft.get_peft_model(base, peft.LoraConfig(r=4, target_modules=target, task_type="CAUSAL_LM"))
    trained = [name for name, parameter in adapted.named_parameters() if parameter.requires_grad]
    assert trained and all("lora_" in name for name in trained)
    ids = torch.stack(documents(24, 24, 24))
    optimiser = torch.optim.AdamW([p for p in adapted.parameters() if p.requires_grad], lr=0.02)
    losses = []
    for _ in range(30):
        loss = adapted(ids, labels=ids).loss
        loss.backward()
        assert all(p.grad is not None for n, p in adapted.named_parameters() if "lora_B" in n)
        optimiser.step()
        optimiser.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]
    adapted.eval()
    expected = adapted(ids).logits
    with pytest.raises(LiquidError, match="merge"):
        LiquidStep(base)
    written = adapted.generate(ids[:, :8], max_new_tokens=5, do_sample=False)

    adapted.save_pretrained(tmp_path)
    assert (tmp_path / "adapter_model.safetensors").is_file()
    again = peft.PeftModel.from_pretrained(tiny().float(), tmp_path).eval()
    assert error(again(ids).logits, expected) < 1e-6
    merged = adapted.merge_and_unload()
    assert error(merged(ids).logits, expected) < 1e-5
    assert torch.equal(merged.generate(ids[:, :8], max_new_tokens=5, do_sample=False), written)
    state = merged(ids[:, :-1], use_cache=True).past_key_values
    assert error(LiquidStep(merged)(ids[:, -1], state), expected[:, -1]) < 1e-4
    changed = [name for name, value in merged.state_dict().items() if not torch.equal(value, before[name])]
    assert changed and all(name.startswith("blocks.") or target == "all-linear" for name in changed)


@pytest.mark.parametrize("way", ["target_modules", "modules_to_save"])
def test_an_adapted_output_layer_has_the_loss_of_its_logits(peft, way):
    options = {"target_modules": ["qkv"], way: ["output_proj"]}
    adapted = peft.get_peft_model(tiny().float(), peft.LoraConfig(r=2, **options)).eval()
    learned = [parameter for parameter in adapted.parameters() if parameter.requires_grad]
    with torch.no_grad():
        for parameter in learned:
            parameter.add_(0.1 * torch.randn_like(parameter))
    ids = torch.stack(documents(9, 9))
    out = adapted(ids, labels=ids)
    loss = F.cross_entropy(out.logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten())
    assert error(out.loss, loss) < 1e-6
    mine, theirs = (
        torch.autograd.grad(each, learned, retain_graph=True, allow_unused=True) for each in (out.loss, loss)
    )
    assert [g is None for g in mine] == [g is None for g in theirs]
    assert all(error(a, b) < 1e-5 for a, b in zip(mine, theirs, strict=True) if b is not None)


def test_embeddings_in_place_of_ids_are_refused(peft):
    model = tiny().float().eval()
    ids = torch.stack(documents(9))
    rows = model.get_input_embeddings()(ids)
    prompt = peft.get_peft_model(
        tiny().float(), peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3, token_dim=12)
    )
    calls = [
        lambda: model(inputs_embeds=rows),
        lambda: model(ids, inputs_embeds=rows),
        lambda: model.base_model(inputs_embeds=rows),
        lambda: model.generate(inputs_embeds=rows, max_new_tokens=2),
        lambda: prompt(ids),
    ]
    for call in calls:
        with pytest.raises(LiquidError, match="input_ids, not inputs_embeds"):
            call()
    for body in (model, model.base_model):
        with pytest.raises(LiquidError, match="input_ids are missing"):
            body()


def test_neftune_is_noise_on_the_rows_of_the_table_in_training_alone(tmp_path):
    def one_step(alpha):
        trainer = Trainer(
            tiny(flow_loss_weight=0.1).float(),
            TrainingArguments(tmp_path, max_steps=1, neftune_noise_alpha=alpha, report_to=[], use_cpu=True),
            train_dataset=[{"input_ids": row, "labels": row} for row in torch.stack(documents(9, 9))],
        )
        before = trainer.evaluate([{"input_ids": ids, "labels": ids} for ids in documents(9)])["eval_loss"]
        return before, trainer.train().training_loss

    (plain, trained), (noisy, with_noise) = one_step(None), one_step(5.0)
    assert noisy == plain and abs(with_noise - trained) > 1e-4
