"""The built-in text: the documentation inside Python, real English that needs no download."""

import ast
import os
import sysconfig
import warnings
from collections.abc import Iterator
from pathlib import Path

from ..errors import LiquidError
from .corpus import Document

Definition = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
PARTS = ("body", "handlers", "orelse", "finalbody")
"""Where a statement holds other statements."""

MIN_CHARACTERS = 200
"""Characters of a document, at least; shorter ones are headings."""
MIN_TOTAL = 100_000
"""Characters of all documents, at least; with fewer there is too little to learn from."""
SKIPPED = {"test", "tests", "idlelib", "turtledemo", "site-packages", "dist-packages", "pydoc_data"}
"""Folders that are left out: tests, demos, installed packages, and the topics, which are read separately."""


def builtin_documents() -> Iterator[Document]:
    """The documentation inside this Python, about 2 MB of English.

    First the language reference of ``help()``, a document per topic. Then the docstrings of the standard
    library, a document per module: each docstring under the name of what it describes, in the order of the
    source. The sources are parsed, not imported. Tests, demos, installed packages and documents under 200
    characters are left out. The text depends on the version of Python.

    Raises:
        LiquidError: less than 100 KB was found. Some distributions leave out sources and topics.
    """
    documents = [d for d in [*_topics(), *_module_docstrings()] if len(d.text) >= MIN_CHARACTERS]
    found = sum(len(document.text) for document in documents)
    if found < MIN_TOTAL:
        raise LiquidError(
            f"this Python has only {found:,} characters of documentation, too little to train on;"
            " give your own text files, or use a Python installed with its standard library's sources"
        )
    return iter(documents)


def _topics() -> Iterator[Document]:
    """The topics of ``help()``, the longest first.

    Many topics are sections of longer ones. A topic is left out if half of its paragraphs were there before,
    because the same text must not be in the training text and in the held-out text.
    """
    try:
        from pydoc_data.topics import topics
    except ImportError:  # in a separate package on Debian
        return
    seen: set[str] = set()
    for name, text in sorted(topics.items(), key=lambda item: (-len(item[1]), item[0])):
        paragraphs = {" ".join(paragraph.split()) for paragraph in text.split("\n\n")}
        if len(paragraphs & seen) < len(paragraphs) / 2:
            seen |= paragraphs
            yield Document(text, f"pydoc topic {name}")


def _module_docstrings() -> Iterator[Document]:
    """The docstrings of each module of the standard library."""
    root = Path(sysconfig.get_path("stdlib"))
    for relative in sorted(_sources(root)):
        try:
            with warnings.catch_warnings(action="ignore"):  # about invalid escapes
                module = ast.parse((root / relative).read_bytes())
        except (OSError, SyntaxError, ValueError):
            continue
        name = ".".join(relative.with_suffix("").parts).removesuffix(".__init__")
        yield Document("\n\n".join(_docstrings(module, name)) + "\n", name)


def _sources(root: Path) -> Iterator[Path]:
    """The sources under a folder, as paths from it. The folders that are left out are not entered."""
    for folder, folders, files in os.walk(root):
        folders[:] = [name for name in folders if name not in SKIPPED]
        for name in files:
            if name.endswith(".py"):
                yield Path(folder, name).relative_to(root)


def _docstrings(node: ast.AST, name: str) -> Iterator[str]:
    """The docstrings of a module, class or function and of what it defines, each under its dotted name."""
    if isinstance(node, ast.Module | Definition) and (docstring := ast.get_docstring(node)):
        yield f"{name}\n\n{docstring}"
    for child in (child for part in PARTS for child in getattr(node, part, ())):
        if isinstance(child, Definition):
            yield from _docstrings(child, f"{name}.{child.name}")
        else:  # definitions under if, try, with
            yield from _docstrings(child, name)
