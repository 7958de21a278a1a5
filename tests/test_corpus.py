import gzip
import io
import json
import os
import string
import sys
import sysconfig
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest

from liquidlm.errors import LiquidError
from liquidlm.text.builtin import builtin_documents
from liquidlm.text.corpus import Document, read_documents
from liquidlm.text.held_out import portions, split_points, survey


def texts(paths):
    return [document.text for document in read_documents(paths)]


def failure(paths):
    """The one line that reading `paths` fails with."""
    with pytest.raises(LiquidError) as error:
        list(read_documents(paths))
    assert "\n" not in str(error.value)
    return str(error.value)


# ---- read_documents


def test_a_file_is_one_document_kept_exactly(tmp_path):
    file = tmp_path / "a.txt"
    file.write_bytes("¿Qué?\r\n\ttwo lines \n".encode())
    assert list(read_documents([file])) == [Document("¿Qué?\r\n\ttwo lines \n", str(file))]
    assert texts(str(file)) == texts([str(file)])  # a single path will do


def test_the_byte_order_mark_is_no_text(tmp_path):
    (tmp_path / "a.txt").write_bytes("\ufeffhola".encode())
    (tmp_path / "b.jsonl").write_bytes(("\ufeff" + json.dumps({"text": "line"})).encode())
    assert texts([tmp_path]) == ["hola", "line"]


def test_a_folder_is_searched_in_sorted_order_for_text_files(tmp_path):
    for name in ("b/z.rst", "b/a.MD", "a.txt", "c.txt", "skip.py", "d.json", ".hidden.txt", ".git/x.txt"):
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(name)
    (tmp_path / "e.txt.gz").write_bytes(gzip.compress(b"packed", mtime=0))
    (tmp_path / "f.jsonl.gz").write_bytes(gzip.compress(b'{"text": "one"}\n{"text": "two"}\n'))
    assert texts([tmp_path]) == ["a.txt", "b/a.MD", "b/z.rst", "c.txt", "packed", "one", "two"]


def test_globs_order_of_arguments_and_each_file_once(tmp_path):
    for name in ("x/b.txt", "x/a.txt", "y/c.log"):
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(name)
    assert texts([tmp_path / "y" / "*.log", tmp_path / "**" / "*.txt"]) == ["y/c.log", "x/a.txt", "x/b.txt"]
    assert texts([tmp_path / "x" / "b.txt", tmp_path / "x", tmp_path / "x" / "*"]) == ["x/b.txt", "x/a.txt"]
    (tmp_path / "odd[1].txt").write_text("a name, not a pattern")
    assert texts([tmp_path / "odd[1].txt"]) == ["a name, not a pattern"]


def test_each_line_of_jsonl_is_a_document(tmp_path):
    file = tmp_path / "a.jsonl"
    file.write_text('{"text": "uno\\nñ", "id": 1}\n\n{"text": ""}\r\n{"text": "dos"}')
    assert texts([file]) == ["uno\nñ", "dos"]


def test_standard_input_is_one_document(monkeypatch):
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(b"piped\ntext")))
    assert list(read_documents(["-"])) == [Document("piped\ntext", "standard input")]
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(b"")))
    assert failure(["-"]).startswith("standard input: empty")


def test_one_file_is_open_at_a_time(tmp_path):
    (tmp_path / "a.txt").write_text("fine")
    (tmp_path / "b.txt").write_bytes(b"\xff")
    documents = read_documents([tmp_path])
    assert next(documents).text == "fine"
    with pytest.raises(LiquidError):
        next(documents)


def test_missing_paths_are_named_before_anything_is_read(tmp_path):
    (tmp_path / "a.txt").write_text("a")
    for path in (tmp_path / "no.txt", tmp_path / "*.rst"):
        with pytest.raises(LiquidError, match="no such file") as error:
            read_documents([tmp_path / "a.txt", path])
        assert str(path) in str(error.value)
    with pytest.raises(LiquidError, match="no text given"):
        read_documents([])


def test_broken_links_are_missing_files(tmp_path):
    (tmp_path / "a.txt").symlink_to(tmp_path / "gone.txt")
    assert "no such file" in failure([tmp_path / "a.txt"])
    assert "no such file" in failure([tmp_path / "*"])


def test_a_folder_without_text(tmp_path):
    (tmp_path / "a.png").write_bytes(b"\x89PNG")
    assert "no text file" in failure([tmp_path]) and str(tmp_path) in failure([tmp_path])


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.txt", b"", "empty"),
        ("a.txt", b" \n\t\n", "empty"),
        ("a.jsonl", b"\n\n", "empty"),
        ("a.txt.gz", gzip.compress(b"", mtime=0), "empty"),
        ("a.txt", b"a\0b\0\0c\0d", "NUL byte at byte 1"),
        ("a.bin", b"\xc3\xb1o\xf1o", "not UTF-8 text: 0xf1 at byte 3"),
        ("a.txt", "hola".encode("utf-16-le"), "utf-16-le text, not UTF-8"),
        ("a.txt.gz", b"not gzip at all", "gzip"),
        ("a.txt.gz", gzip.compress(b"some text" * 99, mtime=0)[:-9], "gzip"),
        ("a.txt.gz", gzip.compress(b"some text", mtime=0)[:12] + b"\xff\xff\xff\xff\xff\xff\xff\xff", "gzip"),
        ("a.jsonl", b'{"text": "a"}\n{"text": \n', "line 2: not JSON"),
        ("a.jsonl", b"[" * 100_000, "line 1: not JSON"),
        ("a.jsonl", b'{"text": "a"}\n\n{"body": "b"}\n', 'line 3.*"text"'),
        ("a.jsonl", b'{"text": 7}', 'line 1.*"text"'),
        ("a.jsonl", b'["text"]', 'line 1.*"text"'),
        ("a.jsonl", b'{"text": "a"}\n{"text": "\xff"}\n', "not UTF-8 text: 0xff at byte 24"),
        ("a.jsonl", b'{"text": "ab\\ud800"}', "line 1.*surrogate.*character 2"),
    ],
)
def test_bad_files_are_named_with_what_is_wrong(tmp_path, name, data, message):
    file = tmp_path / name
    file.write_bytes(data)
    line = failure([file])
    assert line.startswith(str(file))
    with pytest.raises(LiquidError, match=message):
        list(read_documents(file))


def test_an_unreadable_file(tmp_path, monkeypatch):
    file = tmp_path / "a.txt"
    file.write_text("secret")

    def denied(*_arguments):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", denied)  # mode bits do not stop root
    assert failure([file]) == f"{file}: cannot be read (Permission denied)"


# ---- builtin_documents


@pytest.fixture(scope="module")
def builtin():
    return list(builtin_documents())


def test_builtin_documents_are_megabytes_of_distinct_documentation(builtin):
    assert sum(len(document.text) for document in builtin) > 1_000_000
    assert min(len(document.text) for document in builtin) >= 200
    assert len({document.text for document in builtin}) == len(builtin)
    assert len({document.source for document in builtin}) == len(builtin)
    assert not any(d.source.startswith(("test.", "idlelib", "site-packages")) for d in builtin)
    "".join(document.text for document in builtin).encode()  # no half characters


def test_builtin_documents_hold_docstrings_in_order_under_their_names(builtin):
    text = next(document.text for document in builtin if document.source == "json.decoder")
    assert text.startswith(
        "json.decoder\n\nImplementation of JSONDecoder\n\njson.decoder.JSONDecodeError\n\nSub"
    )
    # Indentation is taken away, and methods follow their class.
    assert text.index("\n\njson.decoder.JSONDecoder\n\nSimple JSON") < text.index(
        "\njson.decoder.JSONDecoder.decode\n\nR"
    )


def test_no_topic_is_a_section_of_another(builtin):
    topics = [d.text.split("\n\n") for d in builtin if d.source.startswith("pydoc topic")]
    if not topics:
        pytest.skip("this Python has no pydoc topics")
    for index, topic in enumerate(topics):
        others = {" ".join(p.split()) for other in topics[:index] for p in other}
        assert sum(" ".join(p.split()) in others for p in topic) < 0.6 * len(topic)


def stripped_python(monkeypatch, stdlib):
    monkeypatch.setitem(sys.modules, "pydoc_data.topics", None)  # importing it fails
    monkeypatch.setattr(sysconfig, "get_path", lambda _name: str(stdlib))


def test_builtin_documents_of_a_python_without_topics(tmp_path, monkeypatch):
    (tmp_path / "test").mkdir()
    english = "A sentence of documentation. " * 5_000
    (tmp_path / "test" / "test_a.py").write_text(f'"""{english}"""')
    (tmp_path / "b.py").write_text(
        "import nowhere\n"
        "if True:\n"
        "    class A:\n"
        f"        '''{english}\n\n            Indented.\n        '''\n"
        "        async def f(self):\n            r'''Invalid: \\d'''\n            def g(): 'Inner.'\n"
        "def h(): '\\d is a bad escape'\n"
    )
    (tmp_path / "bad.py").write_text("def (:")
    (tmp_path / "nul.py").write_bytes(b"x = '\0'")
    stripped_python(monkeypatch, tmp_path)
    (document,) = builtin_documents()
    assert document.source == "b"
    assert document.text.startswith("b.A\n\nA sentence")
    assert document.text.endswith(
        "\nIndented.\n\nb.A.f\n\nInvalid: \\d\n\nb.A.f.g\n\nInner.\n\nb.h\n\n\\d is a bad escape\n"
    )


def test_builtin_documents_where_there_are_none(tmp_path, monkeypatch):
    stripped_python(monkeypatch, tmp_path / "python.zip")
    with pytest.raises(LiquidError, match="0 characters of documentation"):
        builtin_documents()


# ---- split_points and portions


def split_documents(documents, valid_fraction=0.1, seed=0):
    points = split_points([len(document.text) for document in documents], valid_fraction, seed)
    return tuple(list(portions(documents, points, held_out)) for held_out in (False, True))


def joined(documents):
    return "".join(document.text for document in documents)


@pytest.mark.parametrize("length", [1_115_394, 100, 19, 2])
def test_one_document_is_split_as_nanogpt_does(length):
    text = (string.printable * (length // 100 + 1))[:length]
    (train,), (valid,) = split_documents([Document(text, "a")])
    assert train.text == text[: int(length * 0.9)] and train.text + valid.text == text
    assert train.source == valid.source == "a"


def test_a_few_documents_give_the_end_of_each():
    documents = [Document(str(i) * (10 * i + 20), f"{i}") for i in range(9)]
    train, valid = split_documents(documents, 0.2, seed=3)
    assert [len(d.text) for d in train] == [int(len(d.text) * 0.8) for d in documents]
    assert [a.text + b.text for a, b in zip(train, valid, strict=True)] == [d.text for d in documents]


@pytest.mark.parametrize("fraction", [0.01, 0.1, 0.5, 0.95])
@pytest.mark.parametrize("lengths", [[50] * 10, list(range(1, 40)), [10_000, *[30] * 30], [1] * 9 + [10**6]])
@pytest.mark.parametrize("seed", range(3))
def test_many_documents_are_held_out_whole(lengths, fraction, seed):
    documents = [Document("x" * length, str(i)) for i, length in enumerate(lengths)]
    train, valid = split_documents(documents, fraction, seed)
    assert train and valid
    assert sorted(train + valid, key=documents.index) == documents  # disjoint, together everything
    assert [train, valid] == [sorted(part, key=documents.index) for part in (train, valid)]
    room = fraction * sum(lengths) - len(joined(valid))
    if room >= 0:  # within the fraction, and nothing more would fit
        assert all(len(document.text) > room for document in train)
    else:  # no document fits: the shortest one
        assert [len(document.text) for document in valid] == [min(lengths)]


def test_the_seed_chooses_the_documents():
    documents = [Document("x" * 20, str(i)) for i in range(50)]
    held_out = [tuple(d.source for d in split_documents(documents, 0.1, seed)[1]) for seed in (0, 0, 1, 2)]
    assert len(held_out[0]) == 5 and held_out[0] == held_out[1]
    assert len(set(held_out)) == 3


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, float("nan")])
def test_bad_fractions(fraction):
    with pytest.raises(LiquidError, match="valid_fraction"):
        split_documents([Document("some text", "a")], fraction)


@pytest.mark.parametrize("text", [[], [""], ["x"], ["", "y"]])
def test_too_little_text_to_split(text):
    with pytest.raises(LiquidError, match="too little text"):
        split_documents([Document(t, "a") for t in text])


# ---- documents in parts

LONG = "\ufeffAn old man, señor, looked at the sea.\n\n  Then  he slept… 🙂 " * 400


@pytest.mark.parametrize("longest", [1, 7, 64, 1000, 10**6])
def test_parts_are_the_document_whatever_their_size(tmp_path, longest):
    (tmp_path / "a.txt").write_text(LONG)
    (tmp_path / "b.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in (LONG, "short")))
    whole = list(read_documents(tmp_path))
    joined_again = []
    for part in read_documents(tmp_path, longest):
        assert len(part.text) <= 2 * longest or longest == 1
        if part.continues:
            joined_again[-1] += part.text
        else:
            joined_again.append(part.text)
    assert joined_again == [document.text for document in whole]
    assert list(survey(read_documents(tmp_path, longest)).lengths) == [len(d.text) for d in whole]


def test_parts_are_cut_before_white_space_after_a_word(tmp_path):
    (tmp_path / "a.txt").write_text("some words of text, \n no cut after white space " * 100)
    texts = [part.text for part in read_documents(tmp_path / "a.txt", 50)]
    assert len(texts) > 30
    for before, after in pairwise(texts):
        assert after[0] in " \n" and not before[-1].isspace()


def test_what_precedes_the_text_is_kept_and_blank_files_are_refused_in_parts_too(tmp_path):
    (tmp_path / "a.txt").write_text(" " * 100 + "x")
    assert "".join(part.text for part in read_documents(tmp_path / "a.txt", 10)) == " " * 100 + "x"
    (tmp_path / "a.txt").write_text(" \n" * 100)
    with pytest.raises(LiquidError, match="empty"):
        list(read_documents(tmp_path / "a.txt", 10))


@pytest.mark.parametrize("longest", [1, 3, 50, None])
@pytest.mark.parametrize("place", [0, 1, 49, 50, 199])
def test_bytes_that_are_not_text_are_named_by_their_place_in_parts_too(tmp_path, longest, place):
    (tmp_path / "a.txt").write_bytes(b"a" * place + b"\xff" + b"b" * (199 - place))
    with pytest.raises(LiquidError, match=f"0xff at byte {place}"):
        list(read_documents(tmp_path / "a.txt", longest))
    (tmp_path / "a.txt").write_bytes(b"a" * place + "é".encode()[:1])  # an incomplete character
    with pytest.raises(LiquidError, match=f"0xc3 at byte {place}"):
        list(read_documents(tmp_path / "a.txt", longest))


def test_the_digest_is_of_the_texts_and_their_bounds(tmp_path):
    def digest(*texts):
        return survey(Document(text, "a") for text in texts).digest

    assert digest("ab", "c") == digest("ab", "c") != digest("a", "bc") != digest("abc")
    parts = [Document("a", "x"), Document("b", "x", continues=True), Document("c", "y")]
    assert survey(parts).digest == digest("ab", "c")


@pytest.mark.parametrize("documents", [1, 5, 30])
@pytest.mark.parametrize("longest", [3, 40])
def test_portions_of_parts_are_those_of_the_whole(tmp_path, documents, longest):
    texts = [f"document {i} says " + "word " * (3 * i + 2) for i in range(documents)]
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in texts))
    whole = list(read_documents(tmp_path))
    points = split_points([len(text) for text in texts], 0.3, seed=1)
    for held_out in (False, True):
        found = []
        for part in portions(read_documents(tmp_path, longest), points, held_out):
            if part.continues:
                found[-1] += part.text
            else:
                found.append(part.text)
        assert found == [part.text for part in portions(whole, points, held_out)]


def test_a_part_that_begins_at_an_event_has_it_once() -> None:
    document = Document("abcdef", "x", marks=((0, 1.0), (2, 5.0), (4, 9.0)))
    assert document.part(2, 6).marks == ((0, 5.0), (2, 9.0))
    assert document.part(1, 4).marks == ((0, 1.0), (1, 5.0)) and document.part(1, 4).text == "bcd"


def test_an_empty_file_of_a_folder_is_left_out_and_named(tmp_path):
    for name, text in (("a.txt", "text"), ("b.txt", ""), ("c.txt", " \n"), ("d.jsonl", "\n")):
        (tmp_path / name).write_text(text)
    for given in (tmp_path, tmp_path / "*"):
        empty = []
        assert [document.text for document in read_documents(given, left_out=empty.append)] == ["text"]
        assert [Path(name).name for name in empty] == ["b.txt", "c.txt", "d.jsonl"]
    with pytest.raises(LiquidError, match=r"b\.txt: empty, there is no text"):
        list(read_documents([tmp_path, tmp_path / "b.txt"]))
    (tmp_path / "a.txt").unlink()
    with pytest.raises(LiquidError, match=r"b\.txt: empty, and so is every other file"):
        list(read_documents(tmp_path))


def test_a_file_is_read_once_whatever_its_names(tmp_path):
    (tmp_path / "a.txt").write_text("text")
    (tmp_path / "hard.txt").hardlink_to(tmp_path / "a.txt")
    (tmp_path / "soft.txt").symlink_to(tmp_path / "a.txt")
    (tmp_path / "same.txt").write_text("text")  # another file
    found = [Path(document.source).name for document in read_documents([tmp_path, tmp_path / "soft.txt"])]
    assert found == ["a.txt", "same.txt"]


def test_one_is_not_many():
    with pytest.raises(LiquidError, match="1 document with 1 character: too little text"):
        split_points([1])


def test_a_pipe_that_a_pattern_matches_is_passed_over(tmp_path):
    (tmp_path / "a.txt").write_text("text")
    os.mkfifo(tmp_path / "b.txt")
    for given in (tmp_path, tmp_path / "*.txt"):
        assert [document.text for document in read_documents(given)] == ["text"]
