"""The Spanish model "cuentos": its text, its training, its card.

    python -m recipes.cuentos prepare                 # write the text, from a folder of data sets
    liquidlm train --config recipes/cuentos.toml --out runs/cuentos
    python -m recipes.cuentos ship runs/cuentos       # write the model to liquidlm/pretrained/cuentos

The text has three parts: short stories by Spanish authors (cligs/textbox, CC BY 4.0 markup), Spanish novels
(ELTeC-spa, CC BY 4.0 markup) and American novels in Spanish (cligs/conha19). All of it is in the public
domain. One book of stories and one novel are validation text, one more of each is test text.
"""

import json
import random
import re
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.texts import FOLDER
from liquidlm.text.corpus import Document, read_documents
from recipes.shipping import Recipe, SpanishNumber

TEXT = Path("runs/cuentos-text")
HELD_OUT = {
    "valid": ["cuentos-es/Miro_Amigos-ce0027.txt", "novels-es/valid/SPA2009_PerezGaldos_Marianela.txt"],
    "test": [
        "cuentos-es/Bazan_interiores-ce0017.txt",
        "novels-es/test/SPA4002_MiroGabriel_LasCerezasDelCementerio.txt",
    ],
}
"""Books that the training text does not have. All other books of novels-es/valid and novels-es/test are left
out, too."""


PROMPTS = ["Había una vez", "Era una noche de invierno", "El viejo miró al mar"]
app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__)


def joined(text: str) -> str:
    """Text in which words in italics stand in their line again: "hijo de la\nsiñá\nSerafina" is one line."""
    return re.sub(r"(?<=[a-záéíóúüñ,])\n(?=\S)", " ", text).replace(" ,", ",").replace(" .", ".")


@app.command()
def prepare() -> None:
    """Write the parts of the training text, and the held-out texts, with one document per line."""
    held_out = {(FOLDER / name).resolve() for names in HELD_OUT.values() for name in names}
    tales = [path for path in sorted((FOLDER / "cuentos-es").glob("*.txt")) if path.resolve() not in held_out]
    documents = list(read_documents(tales))
    spanish = read_documents(str(FOLDER / "novels-es" / "train" / "*.txt"))
    american = read_documents(str(FOLDER / "novels-es-americas" / "*.txt"))
    parts = {
        "tales": [*documents, *(Document(joined(text.text), text.source) for text in documents)],
        "novels": list(spanish),
        "americas": list(american),
        **{part: list(read_documents([FOLDER / name for name in names])) for part, names in HELD_OUT.items()},
    }
    TEXT.mkdir(parents=True, exist_ok=True)
    for name, texts in parts.items():
        random.Random(0).shuffle(texts)
        lines = [json.dumps({"text": text.text}, ensure_ascii=False) + "\n" for text in texts]
        (TEXT / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")
        print(f"{name}: {len(texts):,} documents, {sum(len(text.text.encode()) for text in texts):,} bytes")


@app.command()
def ship(run: Path, out: Annotated[Path | None, typer.Option()] = None) -> None:
    """Write the trained model in int8, with a model card of figures and samples."""
    tales, novel = (list(read_documents(FOLDER / name)) for name in HELD_OUT["test"])
    card = Path(__file__).with_name("cuentos-card.md")
    Recipe("cuentos", card, PROMPTS, {}, SpanishNumber).ship(run, {"stories": tales, "novel": novel}, out)


if __name__ == "__main__":
    app()
