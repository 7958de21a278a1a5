"""The text that every Python carries ▶ documents: real English that needs no download."""

import ast
import sysconfig
import warnings
from collections.abc import Iterator
from pathlib import Path

from ..errors import LiquidError
from .corpus import Document

Definition = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef

BUILTIN_SHORTEST = 200  # characters; a shorter docstring collection is a heading, not a document
BUILTIN_LEAST = 100_000  # characters; with less there is nothing to learn from
# Tests, demos, other people's packages; pydoc_data holds the topics, which are read by themselves.
BUILTIN_SKIPPED = {"test", "tests", "idlelib", "turtledemo", "site-packages", "dist-packages", "pydoc_data"}


def builtin_documents() -> Iterator[Document]:
    """Real English that needs no download: the documentation inside this Python (about 2 MB).

    First the language reference of ``help()`` (`pydoc_data`, a document per topic), then the docstrings of
    the standard library, a document per module: each docstring in the order of the source, under the name
    of what it describes. The sources are parsed, never imported. Tests, demos, installed packages and
    documents shorter than 200 characters are left out. The text depends on the version of Python.

    Raises:
        LiquidError: less than 100 KB was found (some distributions strip sources and topics).
    """
    documents = [d for d in [*_topics(), *_module_docstrings()] if len(d.text) >= BUILTIN_SHORTEST]
    found = sum(len(document.text) for document in documents)
    if found < BUILTIN_LEAST:
        raise LiquidError(
            f"this Python carries only {found:,} characters of documentation, too little to train on;"
            " give your own text files, or use a Python installed with its standard library's sources"
        )
    return iter(documents)


def _topics() -> Iterator[Document]:
    try:
        from pydoc_data.topics import topics
    except ImportError:  # Debian keeps it in a package of its own
        return
    # Many topics are sections of longer ones. Longest first, and what is already there is passed over:
    # the same text must not stand in the training and the validation part.
    seen: set[str] = set()
    for name, text in sorted(topics.items(), key=lambda item: (-len(item[1]), item[0])):
        paragraphs = {" ".join(paragraph.split()) for paragraph in text.split("\n\n")}
        if len(paragraphs & seen) < len(paragraphs) / 2:
            seen |= paragraphs
            yield Document(text, f"pydoc topic {name}")


def _module_docstrings() -> Iterator[Document]:
    root = Path(sysconfig.get_path("stdlib"))
    for file in sorted(root.rglob("*.py")):
        relative = file.relative_to(root)
        if BUILTIN_SKIPPED.isdisjoint(relative.parts):
            try:
                with warnings.catch_warnings(action="ignore"):  # invalid escapes are not our concern
                    module = ast.parse(file.read_bytes())
            except (OSError, SyntaxError, ValueError):
                continue
            name = ".".join(relative.with_suffix("").parts).removesuffix(".__init__")
            yield Document("\n\n".join(_docstrings(module, name)) + "\n", name)


def _docstrings(node: ast.AST, name: str) -> Iterator[str]:
    """The docstrings of a module, class or function and of what it defines, each under its dotted name."""
    if isinstance(node, ast.Module | Definition) and (docstring := ast.get_docstring(node)):
        yield f"{name}\n\n{docstring}"
    for child in ast.iter_child_nodes(node):
        if isinstance(child, Definition):
            yield from _docstrings(child, f"{name}.{child.name}")
        elif isinstance(child, ast.stmt | ast.excepthandler):  # definitions under if, try, with
            yield from _docstrings(child, name)
