"""Text with times: a prompt whose lines begin with times becomes tokens with times, and written text gets
a time before every line."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float64, Int
from torch import Tensor

from ..errors import LiquidError
from ..model.language_model import LiquidLanguageModel
from ..nn.state import LiquidCache
from ..text.clock.instants import LARGEST_TIME
from ..text.clock.stamps import LAST_DATE, find_stamp, format_stamp, is_dated
from ..text.event_files import TextEvent, stamped_events
from ..text.reading_facts import ReadingFacts
from ..text.tokenizer import LEDTokenizerWrapper
from .model_folders import no_times


class TimedToken(NamedTuple):
    """A token with its time; None without times."""

    token: int
    time: float | None


class Prompt(NamedTuple):
    """A tokenized prompt.

    Attributes:
        ids: its tokens.
        times: of the tokens; None without times.
        shown: its text, as it is printed.
        lines: prints times before the lines that follow; None without times.
    """

    ids: Int[Tensor, "1 t"]
    times: Float64[Tensor, "1 t"] | None
    shown: str
    lines: "TimedLines | None"

    def tokens(self) -> list[TimedToken]:
        """The tokens with their times."""
        times = [None] * self.ids.shape[1] if self.times is None else self.times[0].tolist()
        return [TimedToken(token, time) for token, time in zip(self.ids[0].tolist(), times, strict=True)]


def timed_prompt(
    prompt: str,
    tokenizer: LEDTokenizerWrapper,
    pending: Sequence[TimedToken] = (),
    goes_on: LiquidCache | None = None,
    after: float | None = None,
) -> Prompt:
    """Tokenize a prompt whose lines begin with times (see `prompt_events`).

    Args:
        prompt: the text.
        tokenizer: encodes it.
        pending: tokens before the prompt that the state has not read; by default `<s>`.
        goes_on: state of the text before the prompt; None without one.
        after: seconds between the prompt and the text that follows; None adds nothing.

    Raises:
        LiquidError: the times do not fit (see `prompt_events`).
    """
    pending, now = pending or [TimedToken(tokenizer.bos_token_id, None)], None
    if goes_on is not None:
        now = max([float(goes_on.last_time[0]), *(each.time for each in pending if each.time is not None)])
    events = prompt_events(prompt, now, after)
    begins = now if now is not None else events[0].time if events else 0.0
    return _tokenized([(each.token, begins) for each in pending], events, tokenizer, TimedLines())


def continued_prompt(
    prompt: str,
    tokenizer: LEDTokenizerWrapper,
    now: float,
    lines: "TimedLines",
    after: float | None = None,
) -> Prompt:
    """The same for a prompt after a text that is read to its end; it may have no tokens.

    Args:
        prompt: the text.
        tokenizer: encodes it.
        now: time of the text before, in seconds.
        lines: prints times before the lines that follow that text.
        after: as above.

    Raises:
        LiquidError: the times do not fit (see `prompt_events`).
    """
    return _tokenized([], prompt_events(prompt, now, after), tokenizer, lines)


def _tokenized(
    before: list[tuple[int, float]],
    events: Sequence[TextEvent],
    tokenizer: LEDTokenizerWrapper,
    lines: "TimedLines",
) -> Prompt:
    every = [*before]
    encoded = tokenizer.encode_all([event.text for event in events])
    for event, run in zip(events, encoded, strict=True):
        every += [(token, event.time) for token in run.tolist()]
    ids, times = [token for token, _ in every], [time for _, time in every]
    shown = "".join(lines.push(event.text, event.time) for event in events)
    return Prompt(
        torch.tensor([ids], dtype=torch.int64), torch.tensor([times], dtype=torch.float64), shown, lines
    )


def check_times(model: LiquidLanguageModel, folder: str | Path) -> None:
    """Check that a model was trained with times.

    Raises:
        LiquidError: it was not.
    """
    if model.time_head is None:
        raise no_times(folder)


class TimedLines:
    """Adds times to text that arrives in parts: every line that is not empty begins with its time.

    Example:
        >>> lines = TimedLines()
        >>> lines.push("one\\ntw", 1.0) + lines.push("o\\n", 2.0)
        '[00:00:01] one\\n[00:00:01] two\\n'

    Args:
        fresh: whether a line begins; False if the text before ended within one.
    """

    def __init__(self, fresh: bool = True):
        self.fresh, self.dated = fresh, None

    def push(self, text: str, time: float) -> str:
        """The next part of the text, with a time before every line that begins in it.

        Args:
            text: the next part.
            time: of this part, in seconds.
        """
        shown = []
        if self.dated is None:
            self.dated = is_dated(time)  # the first time decides for all: readers expect one kind of time
        for line in re.findall(r"[^\n]*\n|[^\n]+", text):  # at \n only, as readers do
            begins = self.fresh and line not in ("\n", "\r\n")
            shown.append(f"{format_stamp(time, self.dated)} {line}" if begins else line)
            self.fresh = line.endswith("\n")
        return "".join(shown)


def prompt_events(prompt: str, now: float | None, after: float | None) -> list[TextEvent]:
    """A prompt as events, one for each line with a time; without any, the prompt is one event at `now`.

    A prompt with times that follows other text begins with a line break. Times that go back within the prompt
    are taken as in a file (see `text.timeline`).

    Args:
        prompt: the text.
        now: time of the text before, in seconds; None without one.
        after: seconds from the last event to a final line break; None adds none.

    Raises:
        LiquidError: some lines have times and the first has none, its time is before `now`, or `after` leads
            beyond the last time that can be written.
    """
    lines = prompt.split("\n")  # at \n only: a line may contain other line breaks
    if any(find_stamp(line) for line in lines):
        events = [TextEvent(time, f"\n{text}") for time, text in _stamped(lines)]
        if now is None:
            events[0] = TextEvent(events[0].time, events[0].text[1:])
        elif events[0].time < now:
            raise LiquidError(
                f"the prompt begins at {format_stamp(events[0].time)}, before the end of the text before it:"
                f" begin at {format_stamp(now)} or later"
            )
    else:
        events = [TextEvent(now or 0.0, prompt)] if prompt else []
    if after is not None:
        last = events[-1].time if events else now or 0.0
        farthest = LAST_DATE if is_dated(events[0].time if events else last) else LARGEST_TIME
        if last + after > farthest:
            raise LiquidError(
                f"{after:.15g} seconds after {format_stamp(last)} is too late: the last possible time is"
                f" {format_stamp(farthest)}"
            )
        events.append(TextEvent(last + after, "\n"))
    return events


def _stamped(lines: list[str]) -> Iterator[TextEvent]:
    """The events of lines that begin with times of the first one's kind."""
    if (first := find_stamp(lines[0])) is None:
        raise LiquidError(
            "the prompt, line 1: no time at its beginning; a prompt with times must begin with one, such as"
            " [00:12:31]"
        )

    def find(line: str) -> TextEvent | None:
        found = find_stamp(line, first.kind)
        return None if found is None else TextEvent(found.time, line[found.end :])

    return stamped_events(lines, find, ReadingFacts("the prompt"))
