"""Planted anomalies in a log: how well surprise finds them, speed, memory.

    python -m benchmarks.surprise [--steps 1800] [--megabytes 1 10] [--tiny-megabytes 1 10 100]

The log of a made-up service (`service_log`). A small model is trained on 100,000 clean lines with their
times, and reads two other logs in which 2 % of the lines are anomalies of seven kinds: one to choose among
the forms of the baselines by (the score of ours was chosen on it too), and one that is reported. Area under
the ROC curve, of all anomalies, and of each kind beside the usual lines.

Beside ours, each in the best of its forms on the first log: bytes that zlib needs for a line after the 32 KB
before it, in all or per byte, as it is or with its digits masked; and 3-grams (Witten-Bell, learned from the
same lines; over fields between spaces, those that are rare with their digits masked, over words and what
stands between them, digits masked, or over characters), summed, per symbol or the largest. Both with and
without a word for the gap before the line. And 3-grams that are told by hand what ours must find: the time
since the last line that began with the same word.

"Learned online": a new model that learns the second log as it reads it (`watch --learn`), and has seen no
other.

Lines per second and memory are those of `liquidlm watch`, one thread, after so many megabytes of one log;
also with a tiny model of random weights, which reads more of it.
"""

import argparse
import contextlib
import itertools
import math
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float

from benchmarks.machine import add_results
from benchmarks.plots import redraw
from benchmarks.service_log import KINDS, Entry, service_log
from liquidlm import LiquidTextGenerationModel
from liquidlm.inference.defaults import FRESH_RATE
from liquidlm.inference.saving import load_model, save_model
from liquidlm.inference.surprise import Line, SurpriseReader
from liquidlm.runtime.folders import write_folder
from liquidlm.text.reading import ReadingOptions
from liquidlm.training.fresh import fresh_model
from liquidlm.training.learning_reader import LearningReader
from liquidlm.training.loop import train
from liquidlm.training.online import OnlineLearner
from liquidlm.training.settings import TrainSettings

NAME = "surprise"
TRAIN_LINES, CHOOSE_LINES, TEST_LINES = 100_000, 8_000, 16_000
OFTEN = 100
"""A field seen so many times in training is a word of its own, whatever its digits."""
RATE = 0.02
"""Share of lines that are anomalies."""
PARTS = ("ours", "online", "baselines", "watch")
Scores = Float[np.ndarray, " lines"]
Log = list[Entry]


def written(log: Log) -> bytes:
    return "".join(f"{entry.line}\n" for entry in log).encode()


def roc_area(scores: Scores, positive: Bool[np.ndarray, " lines"]) -> float:
    """P(score of a positive > of a negative), ties half: by the sum of ranks (Mann and Whitney)."""
    _, place, count = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(count) - (count - 1) / 2)[place]
    ones = int(positive.sum())
    return float((ranks[positive].sum() - ones * (ones + 1) / 2) / (ones * (len(scores) - ones)))


def areas(scores: Scores, log: Log) -> dict[str, float]:
    """Of all anomalies, and of each kind."""
    kinds = np.array([entry.kind for entry in log])
    usual, found = kinds == "", {}
    for name in ("all", *KINDS):
        kind = ~usual if name == "all" else kinds == name
        found[name] = roc_area(scores[usual | kind], kind[usual | kind])
    return found


# ---- ours


def learn(folder: Path, steps: int) -> None:
    """Train on the clean log into `folder`/run, unless there is a model."""
    if (folder / "run" / "config.json").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "train.log").write_bytes(written(service_log(TRAIN_LINES, 0)))
    settings = TrainSettings(
        paths=[str(folder / "train.log")], steps=steps, timestamps=True, tokenizer="bpe:600", size="tiny"
    )
    train(settings, folder / "run")


def ours(run: Path, log: Log) -> list[Line]:
    reader = SurpriseReader(*load_model(run))
    data = written(log)
    return [line for at in range(0, len(data), 8192) for line in reader.push(data[at : at + 8192])]


def online(log: Log) -> list[Line]:
    """Read by a model that begins with the log, and learns each line once."""
    data = written(log)
    model, tokenizer = fresh_model(data[:8192], ReadingOptions())
    reader = LearningReader(tokenizer, OnlineLearner(model, FRESH_RATE))
    return [line for at in range(0, len(data), 8192) for line in reader.push(data[at : at + 8192])]


def marked(lines: Sequence[Line], log: Log) -> dict[str, float]:
    """How far the marks can be trusted."""
    true = sum(bool(line.stands_out and entry.kind) for line, entry in zip(lines, log, strict=True))
    flagged, anomalies = sum(line.stands_out for line in lines), sum(bool(entry.kind) for entry in log)
    return {
        "precision": true / max(flagged, 1),
        "recall": true / anomalies,
        "false_per_usual_line": (flagged - true) / (len(log) - anomalies),
    }


def tiny(folder: Path) -> Path:
    """A folder with a model that is little more than its tokenizer, which is ours."""
    tokenizer = load_model(folder / "run")[1]
    sizes: dict[str, Any] = {"embedding_dim": 8, "latent_dim": 8, "hidden_size": 8, "num_hidden_layers": 2}
    model = LiquidTextGenerationModel(
        vocab_size=tokenizer.vocab_size, time_components=2, ngram_rows=64, **sizes
    )
    write_folder(folder / "tiny", lambda part: save_model(part, model, tokenizer))
    return folder / "tiny"


# ---- the baselines: what they are given of a line, and what they make of it

View = Callable[[Log], list[str]]
"""The lines as text, without their stamps."""


def texts(log: Log) -> list[str]:
    return [entry.text for entry in log]


def gap_word(seconds: float) -> str:
    """A letter for the gap, one per factor of √2."""
    return chr(ord("Ā") + round(2 * math.log2(max(seconds, 0.001) * 1000)))


def with_gap(log: Log) -> list[str]:
    gaps = [0.0, *(b.time - a.time for a, b in itertools.pairwise(log))]
    return [f"{gap_word(gap)} {entry.text}" for gap, entry in zip(gaps, log, strict=True)]


def with_own_gap(log: Log) -> list[str]:
    """After its first word, the time since the last line that began with it."""
    last: dict[str, float] = {}
    shown = []
    for entry in log:
        word, _, rest = entry.text.partition(" ")
        shown.append(f"{word} {gap_word(entry.time - last.get(word, entry.time))} {rest}")
        last[word] = entry.time
    return shown


Cut = Callable[[str], list[str]]
"""A line's symbols."""


def masked(line: str) -> str:
    return re.sub(r"\d", "0", line)


def words(train: Sequence[str]) -> Cut:
    return lambda line: re.findall(r"\w+|\W", masked(line))


def fields(train: Sequence[str]) -> Cut:
    counts = Counter(field for line in train for field in line.split())
    return lambda line: [field if counts[field] >= OFTEN else masked(field) for field in line.split()]


def characters(train: Sequence[str]) -> Cut:
    return list


class NGrams:
    """p(x | u) = (c(u x) + n(u) p(x | u′)) / (c(u) + n(u)), u′ being u without its first symbol and n(u) the
    number of different symbols after u; at last 1 over the number of symbols, and one for all not seen."""

    def __init__(self, symbols: Sequence[str], order: int = 3):
        self.order, self.vocabulary = order, len(set(symbols)) + 1
        self.counts: defaultdict[tuple[str, ...], Counter[str]] = defaultdict(Counter)
        for at, symbol in enumerate(symbols):
            for length in range(min(order, at + 1)):
                self.counts[tuple(symbols[at - length : at])][symbol] += 1
        self.totals = {context: sum(after.values()) for context, after in self.counts.items()}

    def bits(self, symbols: Sequence[str], begin: int) -> float:
        """−log₂ p of the symbol at `begin`, given those before."""
        p, symbol = 1 / self.vocabulary, symbols[begin]
        for length in range(min(self.order, begin + 1)):
            context = tuple(symbols[begin - length : begin])
            if context in self.counts:
                after = self.counts[context]
                p = (after[symbol] + len(after) * p) / (self.totals[context] + len(after))
        return -math.log2(p)


def ngram_scores(
    train: Log, logs: Sequence[Log], view: View, kind: Callable[[Sequence[str]], Cut]
) -> Iterator[tuple[str, list[Scores]]]:
    """By what is made of a line's bits: the scores of each log."""
    cut = kind(view(train))
    model = NGrams([symbol for line in view(train) for symbol in (*cut(line), "\n")])
    found = []
    for log in logs:
        bits, context = [], ["\n"]
        for line in view(log):
            symbols = [*context, *cut(line), "\n"]
            bits.append([model.bits(symbols, at) for at in range(len(context), len(symbols))])
            context = symbols[-2:]
        found.append(bits)
    for name, summary in (("sum", sum), ("mean", np.mean), ("largest", max)):
        yield name, [np.array([float(summary(line)) for line in bits]) for bits in found]


def zlib_scores(train: Log, logs: Sequence[Log], view: View) -> Iterator[tuple[str, list[Scores]]]:
    """By what is made of them: bytes of each line, with the 32 KB before it known."""
    found, lengths = [], []
    for log in logs:
        window, sizes, own = "\n".join([*view(train[-2000:]), ""]).encode()[-32768:], [], []
        for line in view(log):
            data = f"{line}\n".encode()
            deflate = zlib.compressobj(9, zlib.DEFLATED, -15, 9, zdict=window)
            sizes.append(len(deflate.compress(data) + deflate.flush()))
            own.append(len(data))
            window = (window + data)[-32768:]
        found.append(np.array(sizes, dtype=float))
        lengths.append(np.array(own))
    yield "sum", found
    yield "mean", [sizes / own for sizes, own in zip(found, lengths, strict=True)]


class Form(NamedTuple):
    """A baseline in one of its forms, and its scores on the log to choose by and on the one reported."""

    name: str
    choose: Scores
    test: Scores


def baselines(train: Log, choose: Log, test: Log) -> dict[str, list[Form]]:
    logs, plain = (choose, test), {"": texts, ", gaps": with_gap}
    found: dict[str, list[Form]] = {"zlib": [], "3-grams": [], "3-grams, clocks by hand": []}
    for clock, view in plain.items():
        for digits in (True, False):
            shown: View = view if digits else lambda log, view=view: [masked(line) for line in view(log)]
            for how, scores in zlib_scores(train, logs, shown):
                found["zlib"].append(Form(f"{how}{clock}{'' if digits else ', masked'}", *scores))
    cuts = {"fields": fields, "words": words, "characters": characters}
    for (clock, view), (of, cut) in itertools.product(
        {**plain, ", own gaps": with_own_gap}.items(), cuts.items()
    ):
        section = "3-grams, clocks by hand" if view is with_own_gap else "3-grams"
        for how, scores in ngram_scores(train, logs, view, cut):
            found[section].append(Form(f"{of}, {how}{clock}", *scores))
            print(f"{section}: {found[section][-1].name}", file=sys.stderr, flush=True)
    return found


# ---- speed and memory


def memory(process: int) -> tuple[int, int]:
    """Bytes that a process has now, and has had at most. (Linux.)"""
    status = Path(f"/proc/{process}/status").read_text(encoding="utf-8")
    now, most = (re.search(rf"{name}:\s+(\d+) kB", status) for name in ("VmRSS", "VmHWM"))
    assert now
    assert most
    return 1024 * int(now[1]), 1024 * int(most[1])


def watch(run: Path, megabytes: Sequence[int]) -> dict[str, dict[str, float]]:
    """`liquidlm watch`, fed one log: figures after so many megabytes of it."""
    child = subprocess.Popen(
        [sys.executable, "-m", "liquidlm", "watch", str(run)],
        cwd=Path(__file__).parents[1],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert child.stdin
    assert child.stdout
    longest = max(megabytes) * 1_000_000
    with tempfile.TemporaryFile() as log:
        log.write(written(service_log(longest // 50, 3)))
        log.seek(0)
        ends = {size: log.read(size * 1_000_000).count(b"\n") for size in megabytes if not log.seek(0)}
        log.seek(0)

        def feed(source: Any = log, to: Any = child.stdin) -> None:
            with contextlib.suppress(BrokenPipeError):  # when all is measured
                while data := source.read(1 << 16):
                    to.write(data)
                to.close()

        threading.Thread(target=feed, daemon=True).start()
        found, begin = {}, 0.0
        for number, _ in enumerate(child.stdout):
            if number == 0:
                begin = time.perf_counter()  # the model is loaded
            for size, end in ends.items():
                if number == end:
                    now, most = memory(child.pid)
                    seconds = time.perf_counter() - begin
                    found[f"{size} MB"] = {
                        "lines": end,
                        "lines_per_second": end / seconds,
                        "memory_bytes": now,
                        "peak_memory_bytes": most,
                    }
                    print(size, found[f"{size} MB"], file=sys.stderr, flush=True)
            if number >= max(ends.values()):
                break
        child.kill()
        child.wait()
    return found


# ---- figures


def table(found: dict[str, dict[str, Any]]) -> str:
    lines = [f"{'':30}" + "".join(f"{name:>20}" for name in found)]
    for kind in ("all", *KINDS):
        lines.append(f"{kind:30}" + "".join(f"{figures[kind]:20.4f}" for figures in found.values()))
    return "\n".join([*lines, f"{'':30}" + "".join(f"{f.get('form', ''):>20}" for f in found.values())])


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog=NAME, description=__doc__)
    parser.add_argument("--steps", type=int, default=1800)
    parser.add_argument("--megabytes", type=int, nargs="*", default=[1, 10])
    parser.add_argument("--tiny-megabytes", type=int, nargs="*", default=[1, 10, 100])
    parser.add_argument(
        "--folder", type=Path, default=Path("runs") / NAME, help="for the log and the model; it is kept"
    )
    parser.add_argument(
        "--parts", nargs="+", choices=PARTS, default=PARTS, help="what is computed; the rest stays as it is"
    )
    given = parser.parse_args(argv)
    torch.set_num_threads(1)
    learn(given.folder, given.steps)
    run = given.folder / "run"
    clean = service_log(TRAIN_LINES, 0)
    choose, test = service_log(CHOOSE_LINES, 1, RATE), service_log(TEST_LINES, 2, RATE)
    found: dict[str, dict[str, Any]] = {}
    if "ours" in given.parts:
        lines = ours(run, test)
        found["ours"] = areas(np.array([line.score for line in lines]), test)
        found["ours, bits alone"] = areas(np.array([line.bits for line in lines]), test)
        add_results(NAME, "marks", "ours", marked(lines, test))
    if "online" in given.parts:
        lines = online(test)
        found["learned online"] = areas(np.array([line.score for line in lines]), test)
        half = len(lines) // 2
        late = areas(np.array([line.score for line in lines[half:]]), test[half:])
        found["learned online, second half"] = late
    if "baselines" in given.parts:
        for name, forms in baselines(clean, choose, test).items():
            best = max(forms, key=lambda form: areas(form.choose, choose)["all"])
            found[name] = {**areas(best.test, test), "form": best.name}
    for name, figures in found.items():
        add_results(NAME, "areas", name, figures)
    print(table(found))
    redraw(NAME)
    if "watch" not in given.parts:
        return
    for name, model, sizes in (
        ("ours", run, given.megabytes),
        ("tiny", tiny(given.folder), given.tiny_megabytes),
    ):
        for size, figures in (watch(model, sizes) if sizes else {}).items():
            add_results(NAME, "watch", f"{name}, {size}", figures)


if __name__ == "__main__":
    main()
