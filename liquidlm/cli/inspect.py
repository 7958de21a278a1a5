"""`liquidlm inspect`: a page or a plot of what a model computes on a transcript."""

from pathlib import Path
from typing import Annotated

import typer

from ..errors import LiquidError
from ..inference.model_folders import check_model
from ..inference.reading_file import kept_reading
from ..runtime.files import probe
from ..text.paths import find_sources
from ..text.reading_facts import ReadingFacts
from . import reading_options as reading
from .arguments import Folder
from .model_imports import import_models

Transcript = Annotated[
    Path,
    typer.Argument(metavar="FILE", help="Text with times, as for `train`. Only the first document is used."),
]
Out = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="The page (.html) or the plot (.png). [default: FILE.html, here]"),
]
First = Annotated[int, typer.Option("--from", help="Number of the first event to draw.")]
Events = Annotated[int, typer.Option(help="Number of events to draw.")]


def inspect(
    context: typer.Context,
    folder: Folder,
    file: Transcript,
    out: Out = None,
    first: First = 0,
    events: Events = 40,
    time_format: reading.TimeFormat = None,
    time_zone: reading.TimeZone = None,
    year: reading.Year = None,
    time_field: reading.TimeField = None,
    text_field: reading.TextField = None,
    late: reading.Late = None,
    encoding: reading.Encoding = None,
    errors: reading.Errors = None,
) -> None:
    """Show what a model computes on a transcript, as a page.

    The page lists the events with the surprise of their text and gap, and tints surprising words. Below are,
    over time, the predicted and the real next gap, what is left of each head's memory, what the reads attend
    to, and the time constants of the blocks where they change.

        liquidlm inspect runs/apollo flight.jsonl --from 200
    """
    if first < 0 or events < 2:
        raise LiquidError("--from must be at least 0 and --events at least 2")
    out = out or Path(f"{file.stem}.html")
    if (kind := out.suffix.lower()) not in (".html", ".png"):
        raise LiquidError(f"--out {out}: the name must end in .html (a page) or .png (a plot)")
    found_folder = check_model(folder, times=True)
    options = reading.reading_options(context, kept_reading(found_folder))
    find_sources([file], timestamps=True)
    probe(out)
    import_models()
    from ..inference.anatomy_figure import draw_png
    from ..inference.anatomy_page import write_page
    from ..inference.inspection import examine
    from ..inference.saving import load_language_model
    from ..text.corpus import read_documents

    model, tokenizer = load_language_model(found_folder)
    facts: list[ReadingFacts] = []
    documents = read_documents(file, timestamps=True, options=options, found=facts.append)
    document, _ = next(documents), next(documents, None)  # notes come at the end of a file
    reading.say_notes(facts)
    found = examine(model, tokenizer, document, first, events)
    print(
        draw_png(found, out) if kind == ".png" else write_page(found, out, f"{file.name}, read by {folder}")
    )
