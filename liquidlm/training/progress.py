"""Progress of a training run: lines or a bar, the curve as JSONL and PNG, and TensorBoard if asked for."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from torch import Tensor

from ..errors import LiquidError, install
from ..runtime.files import write_file, write_text
from ..runtime.write_errors import cannot_write
from .run_folder import CURVE

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

QUIET = 10.0
"""Seconds between two lines of progress, if the output is not a terminal."""
PATIENCE = 2.0
"""Seconds after which work before the run is named, if the output is not a terminal."""


class Report:
    """Prints and records the progress of one run; a context manager.

    Args:
        folder: folder for `curve.jsonl` and `curve.png`.
        step: step that a resumed run starts from; later points of the curve are deleted.
        tensorboard: also write `folder/tensorboard`.

    Raises:
        LiquidError: the folder cannot be written, or TensorBoard is not installed.
    """

    def __init__(self, folder: Path, step: int = 0, tensorboard: bool = False):
        self.folder, self.console = folder, Console(stderr=True, highlight=False)
        self.file = folder / CURVE
        self.entries = [entry for entry in read_curve(self.file) if entry["step"] <= step]
        write_text(self.file, "".join(json.dumps(entry) + "\n" for entry in self.entries))
        self.writer = _summary_writer(folder / "tensorboard") if tensorboard else None
        self.bar = Progress(
            TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), console=self.console
        )
        self.task = self.bar.add_task("", total=1.0)
        self.last_line = 0.0

    def __enter__(self) -> "Report":
        if self.console.is_terminal:
            self.bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.bar.stop()
        if self.writer is not None:
            self.writer.close()

    def say(self, text: str) -> None:
        """Print one line above the bar."""
        self.console.print(text, markup=False, soft_wrap=True)

    def progress(self, entry: dict[str, int | float], done: float) -> None:
        """Show the progress of the run.

        Args:
            entry: a point of the curve.
            done: the fraction of the run that is done.
        """
        left = entry["seconds"] * (1 - done) / done if done > 0 else 0.0
        loss, rate = entry["train_bits_per_byte"], entry["tokens_per_second"]
        text = (
            f"step {entry['step']:,}  {text_read(entry['passes'])}  {rate:,.0f} tokens/s"
            f"  training loss {loss:.3f} bits/byte  {_clock(left)} left"
        )
        if self.console.is_terminal:
            self.bar.update(self.task, completed=done, description=text)
        elif time.monotonic() - self.last_line > QUIET:
            self.last_line = time.monotonic()
            self.say(f"{100 * done:3.0f} %  {text}")

    def record(self, entry: dict[str, int | float]) -> None:
        """Add a point to the curve, in `curve.jsonl` and in TensorBoard."""
        self.entries.append(entry)
        try:
            with self.file.open("a", encoding="utf-8", newline="") as stream:
                stream.write(json.dumps(entry) + "\n")
        except OSError as error:
            raise cannot_write(self.file, error) from error
        if self.writer is not None:
            for name, value in entry.items():
                self.writer.add_scalar(name, value, int(entry["step"]))

    def watch(self, step: int, numbers: dict[str, float], spread: dict[str, Tensor] | None = None) -> None:
        """Write figures for TensorBoard: `numbers` as curves, `spread` as histograms."""
        if self.writer is not None:
            for name, value in numbers.items():
                self.writer.add_scalar(name, value, step)
            for name, values in (spread or {}).items():
                self.writer.add_histogram(name, values, step)

    def plot(self) -> Path:
        """Draw the curve so far into `curve.png`."""
        return plot_curve(self.entries, self.folder / "curve.png")


class SilentReport:
    """A report that does nothing, for all processes but the first."""

    def __enter__(self) -> "SilentReport":
        return self

    def __exit__(self, *error: object) -> None: ...

    def say(self, text: str) -> None:
        """Print nothing."""

    def progress(self, entry: dict[str, int | float], done: float) -> None:
        """Show nothing."""

    def record(self, entry: dict[str, int | float]) -> None:
        """Record nothing."""

    def watch(self, step: int, numbers: dict[str, float], spread: dict[str, Tensor] | None = None) -> None:
        """Write nothing."""

    def plot(self) -> None:
        """Draw nothing."""


@contextmanager
def progress_bar(what: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """A progress bar for work before the run; a context manager. The bar disappears at the end. Where there
    is not a terminal, the name of the work is printed once it has taken PATIENCE seconds.

    Args:
        what: name of the work.
        total: number of characters. None: unknown; the bar shows the number so far.

    Yields:
        a function to call with each number of characters done.
    """
    known = (BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    columns = known if total is not None else (TextColumn("{task.completed:,} characters"),)
    columns, console = (TextColumn("{task.description}"), *columns), Console(stderr=True)
    begin, said = time.perf_counter(), console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=total)

        def advance(amount: int) -> None:
            nonlocal said
            bar.advance(task, amount)
            if not said and time.perf_counter() - begin > PATIENCE:
                said = True
                console.print(f"{what} …", highlight=False)

        yield advance


def text_read(passes: float) -> str:
    """How much of the text was read: a percentage in the first pass, then the number of passes.

    >>> text_read(0.25), text_read(3.14)
    ('25 % of the text', '3.1 passes')
    """
    return f"{100 * passes:.0f} % of the text" if passes < 1 else f"{passes:.1f} passes"


def read_curve(file: Path) -> list[dict[str, int | float]]:
    """The points of a `curve.jsonl`, without a last line that an interruption left incomplete."""
    entries: list[dict[str, int | float]] = []
    if file.exists():
        for line in file.read_text(encoding="utf-8").splitlines():
            try:
                entries.append(json.loads(line))
            except ValueError:
                break
    return entries


def plot_curve(entries: list[dict[str, int | float]], file: Path) -> Path:
    """Draw training loss and held-out loss, in bits per byte, against time, into a PNG file."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axis = plt.subplots(figsize=(7, 4), layout="constrained")
    for name, label, colour in (
        ("train_bits_per_byte", "training loss (moving average, about 20 steps)", "#9db8d2"),
        ("valid_bits_per_byte", "held-out loss (sample of the held-out text)", "#1f4e79"),
    ):
        points = [(entry["seconds"] / 60, entry[name]) for entry in entries if name in entry]
        if points:
            axis.plot(
                *zip(*points, strict=True), label=label, color=colour, marker="o" if len(points) < 40 else ""
            )
    axis.set(xlabel="minutes of training", ylabel="loss (bits per byte, lower is better)")
    axis.grid(alpha=0.3)
    if axis.lines:
        axis.legend()
    try:
        return write_file(file, lambda part: figure.savefig(part, format="png", dpi=130))
    finally:
        plt.close(figure)


def _summary_writer(folder: Path) -> "SummaryWriter":
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise LiquidError(f"--tensorboard needs more packages; {install('tensorboard')}") from error
    return SummaryWriter(str(folder))


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{seconds:02}" if minutes >= 60 else f"{minutes}:{seconds:02}"
