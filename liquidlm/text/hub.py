"""Hugging Face data sets as documents: `hf:NAME?split=…&column=…&config=…&first=…&stream=1`."""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

from ..errors import LiquidError, first_line

PREFIX = "hf:"


class DatasetName(NamedTuple):
    """What `hf:NAME?…` says.

    Attributes:
        name: an id on the hub; or a folder that `save_to_disk` wrote or that holds data files (Parquet,
            Arrow, JSON, CSV, text).
        split, column, config: of the data set; "train", "text" and its only one by default.
        first: take no more documents than these.
        stream: read over the network as it is needed, and keep nothing of it on disk.
    """

    name: str
    split: str = "train"
    column: str = "text"
    config: str | None = None
    first: int | None = None
    stream: bool = False


def parse_name(path: str) -> DatasetName:
    """LiquidError for an option that there is not, or is no number where it should be."""
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
            f"{path}: after ? come {', '.join(known)}, as in hf:NAME?split=train&first=1000; first and stream"
            " are numbers"
        ) from error


def dataset_texts(path: str) -> Iterator[str]:
    """The texts of a data set, one after the other; no code of the data set's is run.

    Raises:
        LiquidError: the package `datasets` is not there, no such data set or split, no column of text.
    """
    given = parse_name(path)
    try:
        import datasets
    except ImportError as error:
        raise LiquidError(f"{path} needs the extra: pip install 'liquidlm[datasets]'") from error
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
            f"{path}: there is no {error} in this data set; name it with column= or split="
        ) from error
    except Exception as error:  # whatever network, hub and formats may answer
        raise LiquidError(f"{path} cannot be read: {first_line(error)}") from error
