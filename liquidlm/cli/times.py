"""`liquidlm times`: what the times of a file are, before a model is trained on it."""

import json
import sys
from typing import Annotated

import typer

from ..errors import LiquidError, printable
from . import reading_options as reading
from .arguments import AsJson

Files = Annotated[
    list[str],
    typer.Argument(
        metavar="FILE...", help="Text with times, as for `train --timestamps`; - for standard input."
    ),
]
Events = Annotated[
    bool, typer.Option("--events", help="Print each event as a line of JSON: `time` in seconds, `text`.")
]


def times(
    context: typer.Context,
    files: Files,
    events: Events = False,
    as_json: AsJson = False,
    time_format: reading.TimeFormat = None,
    time_zone: reading.TimeZone = None,
    year: reading.Year = None,
    time_field: reading.TimeField = None,
    text_field: reading.TextField = None,
    late: reading.Late = None,
    encoding: reading.Encoding = None,
    errors: reading.Errors = None,
) -> None:
    """Show how `train --timestamps` reads the times of a file.

    The command prints the kind of times, the first and the last time, the number of events, lines without a
    time, late lines, the step of the clock, and how long the gaps are. It needs no model.

        liquidlm times server.log

        journalctl -o json | liquidlm times -
    """
    from ..text.corpus import read_events_of
    from ..text.paths import find_sources
    from ..text.reading_facts import ReadingFacts
    from ..text.times_report import TimesReport
    from .times_text import report_text

    options = reading.reading_options(context)
    failed = False
    for source in find_sources(files, timestamps=True):
        report = TimesReport(ReadingFacts())
        try:
            for document in read_events_of(source, options, report.facts):
                for event in report.collect(document):
                    if events:
                        print(json.dumps({"time": event.time, "text": event.text}, ensure_ascii=not _utf8()))
            if not report.facts.events:
                raise LiquidError(f"{source.name}: empty, there is no text in it; give a file with text")
        except LiquidError as error:
            failed = True
            sys.stdout.flush()
            print(printable(f"error: {error}"), file=sys.stderr)
            continue
        if events:
            for note in report.facts.notes():
                print(printable(f"{report.facts.name}: {note}"), file=sys.stderr)
        else:
            print(json.dumps(report.as_dict()) if as_json else printable(report_text(report)))
    if failed:
        raise typer.Exit(2)


def _utf8() -> bool:
    return (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
