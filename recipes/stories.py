"""The model of stories that comes with the package, from its text to its card.

    python -m recipes.stories prepare                 # the text, from a folder of data sets
    liquidlm train --config recipes/stories.toml --out runs/stories
    python -m recipes.stories ship runs/stories       # into liquidlm/pretrained/stories

Its text: two samples of TinyStories (Eldan & Li 2023; CDLA-Sharing 1.0), of which every twentieth story is
held out to choose by and the next to judge by, and English novels in the public domain that are told
simply. A story that comes twice is taken once; then all are told three times as often as the novels.
"""

import json
import random
from pathlib import Path
from typing import Annotated

import torch
import typer

from benchmarks.texts import FOLDER, stories
from liquidlm.inference.checkpoints import checkpoints, newest_whole
from liquidlm.inference.evaluate import evaluate
from liquidlm.inference.generate import Sampling, read, write
from liquidlm.inference.saving import load_model, save_model
from liquidlm.model.pretrained import LiquidTextGenerationModel
from liquidlm.pretrained import STORIES
from liquidlm.runtime.folders import write_folder
from liquidlm.text.corpus import read_documents
from liquidlm.text.tokenization import tokenize_documents
from liquidlm.text.tokenizer import LEDTokenizerWrapper
from liquidlm.training.trainer_state import TrainerState

CARD = Path(__file__).with_name("stories-card.md")
TEXT = Path("runs/stories-text")
TIMES = 3
"""How often a story is told for each time that a novel is."""
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
"""Files of novels-en, and what they are."""
HELD_OUT_NOVEL = "Doyle_Hound_1902.txt"
PROMPTS = ["Once upon a time", "Tom and his dog went to the park.", "The old man looked at the sea"]
app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__)


@app.command()
def prepare(out: Path = TEXT) -> None:
    """Write train.jsonl, valid.jsonl and test.jsonl, a document per line."""
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
    """Write the trained model in float16, with a card of its figures and samples."""
    model, tokenizer = load_model(run)
    model.half().float()  # what is shipped is what is judged
    card = CARD.read_text(encoding="utf-8").format(
        novels="; ".join(NOVELS.values()),
        **_facts(run),
        **_figures(model, tokenizer),
        samples="\n\n".join(_quoted(sample(model, tokenizer, prompt)) for prompt in PROMPTS),
    )

    def fill(folder: Path) -> None:
        save_model(folder, model.half(), tokenizer)
        (folder / "README.md").write_text(card, encoding="utf-8")

    write_folder(out, fill)
    print(card)


def _facts(run: Path) -> dict[str, str]:
    """How the run went, from its newest checkpoint and its curve."""
    last = TrainerState.read(newest_whole(checkpoints(run))[0])
    tokens = last.step * last.settings.batch_size * last.settings.context
    return {
        "steps": f"{last.step:,}",
        "tokens": f"{tokens / 1e6:.1f}",
        "hours": f"{last.seconds / 3600:.1f}",
        "dropout": str(last.settings.dropout),
    }


def _figures(model: LiquidTextGenerationModel, tokenizer: LEDTokenizerWrapper) -> dict[str, str]:
    """Parameters, bits per byte of the held-out texts, tokens that survive the flow."""
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
    """What the command line writes with seed 1, up to 200 tokens."""
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
