"""The bundled model "stories": its text, its training, its card.

    python -m recipes.stories prepare                 # write the text, from a folder of data sets
    liquidlm train --config recipes/stories.toml --out runs/stories
    python -m recipes.stories ship runs/stories       # write the model to liquidlm/pretrained/stories

The text has two parts: two samples of TinyStories (Eldan & Li 2023, arXiv 2305.07759; CDLA-Sharing 1.0), and
English novels in the public domain with simple language. Of every twenty stories, one is validation text and
the next is test text. Duplicate stories are removed. Then each story has three times the weight of a novel.
"""

import json
import random
from pathlib import Path
from typing import Annotated

import torch
import typer

from benchmarks.texts import FOLDER, stories
from liquidlm.inference.checkpoints import checkpoints, newest_undamaged
from liquidlm.inference.evaluate import evaluate
from liquidlm.inference.generate import Sampling, read, write
from liquidlm.inference.saving import load_model, save_model
from liquidlm.model.pretrained import LiquidTextGenerationModel
from liquidlm.pretrained import STORIES
from liquidlm.runtime.folders import write_folder
from liquidlm.text.corpus import read_documents
from liquidlm.text.tokenization import tokenize_documents
from liquidlm.text.tokenizer import LEDTokenizerWrapper
from liquidlm.training.progress import read_curve
from liquidlm.training.run_folder import CURVE
from liquidlm.training.trainer_state import TrainerState

CARD = Path(__file__).with_name("stories-card.md")
TEXT = Path("runs/stories-text")
TIMES = 3
"""Number of copies of each story in the training text; each novel has one."""
SHIPPED = Path(__file__).parents[1] / "liquidlm" / "pretrained" / STORIES
NOVELS = {
    "Barclay_Postern_1911": "Barclay, Through the Postern Gate",
    "Burnett_Garden_1911": "Burnett, The Secret Garden",
    "Burnett_Lord_1886": "Burnett, Little Lord Fauntleroy",
    "Doyle_Lost_1912": "Doyle, The Lost World",
    "Ford_Girl_1907": "Ford, An English Girl",
    "Haggard_She_1887": "Haggard, She",
    "Lee_Brown_1884": "Lee, Miss Brown",
    "Morris_Wood_1894": "Morris, The Wood beyond the World",
    "Stevenson_Catriona_1893": "Stevenson, Catriona",
    "Stevenson_Treasure_1883": "Stevenson, Treasure Island",
}
"""Files of novels-en, with author and title."""
HELD_OUT_NOVEL = "Doyle_Hound_1902.txt"
PROMPTS = ["Once upon a time", "Tom and his dog went to the park.", "The old man looked at the sea"]
app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__)


@app.command()
def prepare(out: Path = TEXT) -> None:
    """Write train.jsonl, valid.jsonl and test.jsonl, with one document per line."""
    parts = stories()
    novels = read_documents([FOLDER / "novels-en" / "train" / f"{name}.txt" for name in NOVELS])
    parts["train"] = [*parts["train"] * TIMES, *novels]
    random.Random(0).shuffle(parts["train"])
    out.mkdir(parents=True, exist_ok=True)
    for name, documents in parts.items():
        lines = [json.dumps({"text": document.text}, ensure_ascii=False) + "\n" for document in documents]
        (out / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")
        print(f"{name}: {len(documents):,} documents, {sum(len(d.text.encode()) for d in documents):,} bytes")


@app.command()
def ship(run: Path, out: Annotated[Path, typer.Option()] = SHIPPED) -> None:
    """Write the trained model in float16, with a model card of figures and samples."""
    model, tokenizer = load_model(run)
    model.half().float()  # the figures are those of the float16 weights
    card = CARD.read_text(encoding="utf-8").format(
        novels="\n".join(f"- {novel}" for novel in NOVELS.values()),
        **_facts(run),
        **_figures(model, tokenizer),
        samples="\n\n".join(_quoted(sample(model, tokenizer, prompt)) for prompt in PROMPTS),
    )

    def fill(folder: Path) -> None:
        save_model(folder, model.half(), tokenizer)
        (folder / "README.md").write_text(card, encoding="utf-8")

    write_folder(out, fill)
    print(card)


def _facts(run: Path) -> dict[str, int | float]:
    """Steps, tokens, passes, hours and dropout of a run, from its newest checkpoint and its curve."""
    last = TrainerState.read(newest_undamaged(checkpoints(run))[0])
    tokens = last.step * last.settings.batch_size * last.settings.context
    return {
        "steps": last.step,
        "tokens": tokens,
        "millions": tokens / 1e6,
        "passes": max(entry.get("passes", 0.0) for entry in read_curve(run / CURVE)),
        "hours": last.seconds / 3600,
        "dropout": last.settings.dropout,
    }


def _figures(model: LiquidTextGenerationModel, tokenizer: LEDTokenizerWrapper) -> dict[str, str]:
    """Number of parameters, bits per byte of the test texts, and share of tokens that survive the flow."""
    documents = {
        "stories": list(read_documents(TEXT / "test.jsonl")),
        "novel": list(read_documents(FOLDER / "novels-en" / "valid" / HELD_OUT_NOVEL)),
    }
    figures = {
        "parameters": f"{sum(p.numel() for p in model.parameters()):,}",
        "survival": f"{model.embedding.round_trip_survival():.2%}",
    }
    for name, texts in documents.items():
        result = evaluate(
            model, tokenize_documents(texts, tokenizer), eos_token_id=tokenizer.eos_token_id, bf16=False
        )
        figures[f"{name}_bits"] = f"{result.bits_per_byte:.3f}"
        figures[f"{name}_bytes"] = f"{result.bytes:,}"
    return figures


def sample(model: LiquidTextGenerationModel, tokenizer: LEDTokenizerWrapper, prompt: str) -> str:
    """Text that the model writes after a prompt: seed 1, at most 200 tokens, as on the command line."""
    ids = torch.tensor([[tokenizer.bos_token_id, *tokenizer.encode(prompt).tolist()]])
    state = model.new_state()
    logits, stop = read(model, ids, state), [tokenizer.eos_token_id]
    tokens = [
        int(token) for token in write(model, logits, state, Sampling(seed=1), 200, context=ids, stop=stop)
    ]
    return prompt + tokenizer.decode([token for token in tokens if token not in stop])


def _quoted(text: str) -> str:
    return "\n".join(f"> {line}".rstrip() for line in text.splitlines())


if __name__ == "__main__":
    app()
