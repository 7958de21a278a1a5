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

import typer

from benchmarks.texts import FOLDER, stories
from liquidlm.pretrained import STORIES
from liquidlm.text.corpus import read_documents
from recipes.shipping import Recipe

TEXT = Path("runs/stories-text")
TIMES = 3
"""Number of copies of each story in the training text; each novel has one."""
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
def ship(run: Path, out: Annotated[Path | None, typer.Option()] = None) -> None:
    """Write the trained model in int8, with a model card of figures and samples."""
    held_out = {
        "stories": list(read_documents(TEXT / "test.jsonl")),
        "novel": list(read_documents(FOLDER / "novels-en" / "valid" / HELD_OUT_NOVEL)),
    }
    novels = "\n".join(f"- {novel}" for novel in NOVELS.values())
    card = Path(__file__).with_name("stories-card.md")
    Recipe(STORIES, card, PROMPTS, {"novels": novels}).ship(run, held_out, out)


if __name__ == "__main__":
    app()
