"""The bundled model "stories": its text, its training, its card.

    python -m recipes.stories prepare                 # write the text, from a folder of data sets
    liquidlm train --config recipes/stories.toml --out runs/stories
    python -m recipes.stories ship runs/stories       # write the model to liquidlm/pretrained/stories

The text has three parts: TinyStories (Eldan & Li 2023, arXiv 2305.07759; CDLA-Sharing 1.0), tales for
children (FairytaleQA, Apache 2.0; African Storybook, CC BY), and books for children in the public domain. Of
every twenty stories of TinyStories, one is validation text and the next is test text. No story is in the text
twice.
"""

import itertools
import json
import random
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.texts import FOLDER, stories
from liquidlm.pretrained import STORIES
from liquidlm.text.corpus import Document, read_documents
from recipes.shipping import Recipe

TEXT = Path("runs/stories-text")
BOOKS = [
    "AbbieFarwellBrown_TheChristmasAngel",
    "Aesop_Aesop'sFables",
    "AnnaSewell_BlackBeauty",
    "BeatrixPotter_GreatBigTreasuryofBeatrixPotter",
    "CarloCollodi_TheAdventuresofPinocchio",
    "EdithNesbit_FiveChildrenandIt",
    "EdithNesbit_TheBookofDragons",
    "EdithNesbit_TheRailwayChildren",
    "GeorgeMacDonald_ThePrincessandtheGoblin",
    "HansChristianAndersen_Andersen'sFairyTales",
    "HansChristianAndersen_TheLittleMermaid",
    "HowardPyle_TheMerryAdventuresofRobinHood",
    "JamesStephens_IrishFairyTales",
    "JohannaSpyri_Heidi",
    "KennethGrahame_TheWindintheWillows",
    "LouisaMayAlcott_AnOld-FashionedGirl",
    "LouisaMayAlcott_LittleMen",
    "LouisaMayAlcott_LittleWomen",
    "LucyMaudMontgomery_AnneofGreenGables",
    "LucyMaudMontgomery_AnneofAvonlea",
    "LucyMaudMontgomery_ChristmasStories",
    "LucyMaudMontgomery_EmilyofNewMoon",
    "MarkTwain_TheAdventuresofTomSawyer",
    "MarkTwain_ThePrinceandthePauper",
    "OscarWilde_TheHappyPrince&OtherTales",
    "TheBrothersGrimm_Grimms'FairyTales",
]
"""Files of classics-en: author and title."""
NOVELS = ["Burnett_Garden_1911", "Burnett_Lord_1886", "Stevenson_Treasure_1883"]
"""Files of novels-en: author, a word of the title, year."""
SHORTEST = 150
"""Characters of a story; the third sample has pieces of stories that are shorter."""
HELD_OUT_NOVEL = "Doyle_Hound_1902.txt"
PROMPTS = ["Once upon a time", "Tom and his dog went to the park.", "The old man looked at the sea"]
app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__)


def more_stories(known: Iterable[Document]) -> Iterator[Document]:
    """The stories of the third sample that are not known; two stories that begin alike are taken for one."""
    sample = (FOLDER / "tinystories" / "smallgpt_tiny_stories.txt").read_text(encoding="utf-8")
    seen = {beginning(document.text) for document in known}
    for number, story in enumerate(re.split(r"(?<!\n)\n(?!\n)", sample)):
        if len(story) >= SHORTEST and beginning(story) not in seen:
            yield Document(story, f"story {number} of the third sample")


def beginning(story: str) -> str:
    """The first sixty letters of a story, without signs."""
    return " ".join(re.findall(r"\w+", story.lower()))[:60]


@app.command()
def prepare(out: Path = TEXT) -> None:
    """Write the parts of the training text, valid.jsonl and test.jsonl, with one document per line."""
    parts = stories()
    parts["train"] += list(more_stories(itertools.chain(*parts.values())))
    books = [FOLDER / "classics-en" / f"{name}.txt" for name in BOOKS]
    novels = [FOLDER / "novels-en" / "train" / f"{name}.txt" for name in NOVELS]
    parts |= {
        "stories": parts.pop("train"),
        "tales": list(read_documents(FOLDER / "tales-en.jsonl")),
        "books": list(read_documents([*books, *novels])),
    }
    out.mkdir(parents=True, exist_ok=True)
    for name, documents in parts.items():
        random.Random(0).shuffle(documents)
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
    card = Path(__file__).with_name("stories-card.md")
    Recipe(STORIES, card, PROMPTS, {}).ship(run, held_out, out)


if __name__ == "__main__":
    app()
