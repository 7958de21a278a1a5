"""lm-eval's tasks on a model of ours, offline: what it finds is what we find."""

import json
import math
from pathlib import Path

import pytest
import torch
from helpers import randomise
from serving import NAME, served

from liquidlm.inference.evaluate import evaluate
from liquidlm.model.config import LiquidConfig
from liquidlm.model.pretrained import LiquidTextGenerationModel
from liquidlm.text.corpus import Document
from liquidlm.text.tokenization import tokenize_documents
from liquidlm.text.tokenizer import LEDTokenizerWrapper

pytest.importorskip("lm_eval")
pytestmark = pytest.mark.filterwarnings("ignore")

TEXTS = ["Zoë drank coffee ☕ and read. " * 3, "The rain in Spain stays mainly in the plain.", "x"]
QUESTIONS = [
    {"question": "The sky is", "choices": [" blue", " a kind of cheese"], "label": 0},
    {"question": "Two and two make", "choices": [" five", " four"], "label": 1},
]
PERPLEXITY = """
task: local_perplexity
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{text}}"
metric_list:
  - metric: bits_per_byte
"""
CHOICE = """
task: local_choice
output_type: multiple_choice
doc_to_text: "{{question}}"
doc_to_choice: "{{choices}}"
doc_to_target: "{{label}}"
target_delimiter: ""
metric_list:
  - metric: acc
"""


@pytest.fixture(scope="module")
def model() -> LiquidTextGenerationModel:
    torch.manual_seed(0)
    sizes = {"vocab_size": 300, "embedding_dim": 12, "latent_dim": 8, "hidden_size": 16, "num_heads": 2}
    return randomise(LiquidTextGenerationModel(LiquidConfig(**sizes))).eval()


@pytest.fixture(scope="module")
def tokenizer() -> LEDTokenizerWrapper:
    return LEDTokenizerWrapper.train(TEXTS * 5, 300)


def in_process(model, tokenizer, **options):
    """The model for lm-eval."""
    from lm_eval.models.huggingface import HFLM

    return HFLM(pretrained=model, tokenizer=tokenizer.backend, max_length=512, batch_size=2, **options)


def of_server(port: int, tokenizer, folder: Path):
    """The same, behind a server."""
    from lm_eval.models.openai_completions import LocalCompletionsAPI

    tokenizer.save_pretrained(folder)
    address = f"http://127.0.0.1:{port}/v1/completions"
    return LocalCompletionsAPI(model=NAME, base_url=address, tokenizer=str(folder), batch_size=2)


def results(name: str, task: str, rows: list[dict], folder: Path, tested) -> dict:
    """What lm-eval finds on a task made of these rows."""
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    data = folder / "data.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    source = {"dataset_path": "json", "test_split": "test"}
    source["dataset_kwargs"] = {"data_files": {"test": str(data)}}
    lines = [f"{key}: {json.dumps(value)}" for key, value in source.items()]
    (folder / f"{name}.yaml").write_text("\n".join([task, *lines]))
    tasks = TaskManager(include_path=str(folder), include_defaults=False)
    return simple_evaluate(
        model=tested, tasks=[name], task_manager=tasks, bootstrap_iters=0, log_samples=True
    )


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def port(model, tokenizer):
    with served(model, tokenizer=tokenizer) as port:
        yield port


@pytest.mark.parametrize("where", ["here", "server"])
def test_bits_per_byte_are_ours(model, tokenizer, port, where, tmp_path: Path) -> None:
    """A perplexity task begins every text with <s> itself, so that the tokenizer must not."""
    rows = [{"text": text} for text in TEXTS]
    here = where == "here"
    tested = (
        in_process(model, tokenizer, add_bos_token=False) if here else of_server(port, tokenizer, tmp_path)
    )
    found = results("local_perplexity", PERPLEXITY, rows, tmp_path, tested)
    theirs = found["results"]["local_perplexity"]["bits_per_byte,none"]
    corpus = tokenize_documents([Document(text, str(i)) for i, text in enumerate(TEXTS)], tokenizer)
    ours = evaluate(model, corpus, eos_token_id=tokenizer.eos_token_id).bits_per_byte
    print(theirs, ours)
    assert ours > 1 and theirs == pytest.approx(ours, rel=1e-5)


@pytest.mark.parametrize("where", ["here", "server"])
def test_choices_are_weighed_by_their_probability(model, tokenizer, port, where, tmp_path: Path) -> None:
    tested = in_process(model, tokenizer) if where == "here" else of_server(port, tokenizer, tmp_path)
    found = results("local_choice", CHOICE, QUESTIONS, tmp_path, tested)
    right = 0
    for sample in sorted(found["samples"]["local_choice"], key=lambda sample: sample["doc_id"]):
        row = QUESTIONS[sample["doc_id"]]
        expected = []
        for choice in row["choices"]:
            context = tokenizer.encode(row["question"]).tolist()
            whole = [tokenizer.bos_token_id, *tokenizer.encode(row["question"] + choice).tolist()]
            log_p = model(torch.tensor([whole])).logits[0].log_softmax(-1)
            answer = range(len(context) + 1, len(whole))
            expected.append(sum(log_p[i - 1, whole[i]].item() for i in answer))
        theirs = [float(answer[0][0]) for answer in sample["resps"]]
        print(theirs, expected)
        assert theirs == pytest.approx(expected, rel=1e-5)
        right += math.isclose(max(expected), expected[row["label"]])
    assert found["results"]["local_choice"]["acc,none"] == pytest.approx(right / len(QUESTIONS))
