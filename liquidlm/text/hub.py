"""Hugging Face data sets as documents: `hf:NAME?split=…&column=…&config=…&first=…&stream=1`."""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

from ..errors import LiquidError, first_line, install

PREFIX = "hf:"


class DatasetName(NamedTuple):
    """The parts of `hf:NAME?…`.

    Attributes:
        name: an id on the hub; or a folder that `save_to_disk` wrote, or one with data files (Parquet, Arrow,
            JSON, CSV, text).
        split: the split to read.
        column: the column with the text.
        config: the configuration, if the data set has several.
        first: read only the first N documents.
        stream: read over the network while training, and keep nothing on disk.
    """

    name: str
    split: str = "train"
    column: str = "text"
    config: str | None = None
    first: int | None = None
    stream: bool = False


def parse_name(path: str) -> DatasetName:
    """Parse `hf:NAME?…`.

    >>> parse_name("hf:roneneldan/TinyStories?split=validation&first=1000").first
    1000

    Raises:
        LiquidError: an option is unknown, or is not a number where it must be one.
    """
    name, _, query = path.removeprefix(PREFIX).partition("?")
    options: dict[str, Any] = dict(parse_qsl(query, keep_blank_values=True))
    known = DatasetName._fields[1:]
    try:
        for option in ("first", "stream"):
            if option in options:
                options[option] = int(options[option])
        if options.get("first", 1) < 1:
            raise ValueError
        return DatasetName(name, **{**options, "stream": bool(options.get("stream", 0))})
    except (TypeError, ValueError) as error:
        raise LiquidError(
            f"{path}: the options after ? are {', '.join(known)}, as in hf:NAME?split=train&first=1000;"
            " first and stream are numbers"
        ) from error


def dataset_texts(path: str) -> Iterator[str]:
    """The texts of a data set, one after the other. No code of the data set is run.

    Raises:
        LiquidError: the package `datasets` is not installed, the data set, split or column does not exist, or
            the column is not text.
    """
    given = parse_name(path)
    try:
        import datasets
    except ImportError as error:
        raise LiquidError(f"{path} needs more packages; {install('datasets')}") from error
    try:
        if any((Path(given.name) / f"dataset_{what}.json").exists() for what in ("info", "dict")):
            rows: Any = datasets.load_from_disk(given.name)
            rows = rows[given.split] if isinstance(rows, datasets.DatasetDict) else rows
        else:
            rows = datasets.load_dataset(given.name, given.config, split=given.split, streaming=given.stream)
        for row in itertools.islice(rows, given.first):
            text = row[given.column]
            if not isinstance(text, str):
                raise LiquidError(f"{path}: column {given.column!r} is not text but {type(text).__name__}")
            yield text
    except LiquidError:
        raise
    except KeyError as error:
        raise LiquidError(
            f"{path}: there is no {error} in this data set; choose another with column= or split="
        ) from error
    except Exception as error:  # network, hub and formats have many errors
        raise LiquidError(f"{path} cannot be read: {first_line(error)}") from error
