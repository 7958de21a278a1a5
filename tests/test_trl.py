"""TRL's trainers: they run, and their losses are those computed by hand."""

import copy
import importlib.util

import pytest
import torch
import torch.nn.functional as F
from datasets import Dataset
from helpers import randomise

from liquidlm import LEDTokenizerWrapper, LiquidConfig, LiquidTextGenerationModel

if importlib.util.find_spec("trl") is None:
    pytest.skip("needs trl", allow_module_level=True)

from trl import DPOConfig, DPOTrainer, GRPOConfig, GRPOTrainer, SFTConfig, SFTTrainer

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")  # names that TRL still uses

TOKENIZER = LEDTokenizerWrapper.bytes().backend
TEXTS = ["the cat sat on the mat", "a dog", "rain in the morning, sun at noon"]
COMMON = {
    "per_device_train_batch_size": 3,
    "max_steps": 2,
    "logging_steps": 1,
    "report_to": [],
    "use_cpu": True,
    "bf16": False,
    "save_strategy": "no",
    "disable_tqdm": True,
    "learning_rate": 1e-3,
    "activation_checkpointing": False,
}


def tiny(**options):
    torch.manual_seed(0)
    sizes = {"embedding_dim": 12, "latent_dim": 6, "hidden_size": 16, "ngram_rows": 20, "flow_hidden_dim": 8}
    config = LiquidConfig(
        vocab_size=len(TOKENIZER), **sizes, num_hidden_layers=2, dropout_rate=0.0, **options
    )
    return randomise(LiquidTextGenerationModel(config), 1, 0.2)


def log_p(model, ids, first):
    """ln p of each token of a text from position `first` on."""
    with torch.no_grad():
        scores = model.eval()(ids[None]).logits[0, :-1].log_softmax(-1)
    return scores.gather(1, ids[1:, None])[first - 1 :, 0]


def logged(trainer, name):
    return next(entry[name] for entry in trainer.state.log_history if name in entry)


OPTIONS = pytest.mark.parametrize("options", [{}, {"time_components": 2}], ids=["text", "time head"])


def train(trainer, model, before):
    """Its steps, in which most of the weights move from what they were."""
    trainer.train()
    moved = zip(model.parameters(), before.parameters(), strict=True)
    assert sum(not torch.equal(mine, theirs) for mine, theirs in moved) > 20


@OPTIONS
@pytest.mark.parametrize("recompute", [False, True], ids=["kept", "recomputed"])
def test_sft(tmp_path, options, recompute):
    """The mean of −ln p over all tokens but the first of each text, without the flow's term."""
    model, before = tiny(**options), tiny(**options)
    settings = SFTConfig(tmp_path, **(COMMON | {"activation_checkpointing": recompute}), max_length=64)
    data = Dataset.from_dict({"text": TEXTS})
    trainer = SFTTrainer(model, settings, train_dataset=data, processing_class=TOKENIZER)
    read = [torch.tensor(row["input_ids"]) for row in trainer.train_dataset]
    train(trainer, model, before)
    own = -torch.cat([log_p(before, ids, 1) for ids in read]).mean()
    assert abs(logged(trainer, "loss") - own) < 1e-3


@OPTIONS
def test_dpo(tmp_path, options):
    """−ln σ(β(ln π(chosen)/π_ref(chosen) − ln π(rejected)/π_ref(rejected))), against another model."""
    model, before = tiny(**options), tiny(**options)
    reference = randomise(tiny(**options), 2, 0.2)
    settings = DPOConfig(tmp_path, **COMMON, beta=0.5, max_length=64)
    rows = {"prompt": ["the cat", "a"], "chosen": [" sat", " dog"], "rejected": [" flew away", " x"]}
    trainer = DPOTrainer(
        model,
        copy.deepcopy(reference),
        settings,
        train_dataset=Dataset.from_dict(rows),
        processing_class=TOKENIZER,
    )
    train(trainer, model, before)
    losses = []
    for row in trainer.train_dataset:
        prompt, ratios = row["prompt_ids"], []
        for answer in (row["chosen_ids"], row["rejected_ids"]):
            ids = torch.tensor([*prompt, *answer])
            ratios.append((log_p(before, ids, len(prompt)) - log_p(reference, ids, len(prompt))).sum())
        losses.append(-F.logsigmoid(0.5 * (ratios[0] - ratios[1])))
    assert abs(logged(trainer, "loss") - torch.stack(losses).mean()) < 1e-3


@OPTIONS
def test_grpo(tmp_path, options):
    """At a step's beginning ratios are 1 and advantages add up to 0: what is left is β times the divergence
    e^d − d − 1, d = ln π_ref − ln π of each token written, meaned over tokens, then over texts."""
    written, before = [], tiny(**options, eos_token_id=None)
    model = tiny(**options, eos_token_id=None)
    reference = randomise(tiny(**options, eos_token_id=None), 2, 0.2)
    reference.save_pretrained(tmp_path / "reference")
    model.config._name_or_path = str(tmp_path / "reference")  # where the trainer looks for it

    def reward(completion_ids, **_):
        written.extend(completion_ids)
        return [float(sum(ids) % 7) for ids in completion_ids]

    settings = GRPOConfig(
        tmp_path,
        **(COMMON | {"per_device_train_batch_size": 4}),
        num_generations=4,
        max_completion_length=5,
        beta=0.3,
        loss_type="grpo",
    )
    data = Dataset.from_dict({"prompt": ["the cat", "the cat"]})
    trainer = GRPOTrainer(model, reward, settings, train_dataset=data, processing_class=TOKENIZER)
    train(trainer, model, before)
    prompt, divergences = TOKENIZER.encode("the cat"), []
    for answer in written[:4]:
        ids = torch.tensor([*prompt, *answer])
        d = log_p(reference, ids, len(prompt)) - log_p(before, ids, len(prompt))
        assert len(d) == 5
        divergences.append((d.exp() - d - 1).mean())
    expected = 0.3 * torch.stack(divergences).mean()
    assert expected > 0.1 and abs(logged(trainer, "loss") - expected) < 1e-3 * expected
