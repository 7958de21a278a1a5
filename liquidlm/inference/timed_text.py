"""A prompt with times ▶ tokens with times, and text as it comes ▶ the same with a time before every line."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float64, Int
from torch import Tensor

from ..errors import LiquidError
from ..model.language_model import LiquidTextGenerationModel
from ..nn.state import LiquidCache
from ..text.clocks import LARGEST_TIME, LAST_DATE, find_stamp, format_stamp, is_dated
from ..text.event_files import TextEvent, read_events
from ..text.tokenizer import LEDTokenizerWrapper


class TimedToken(NamedTuple):
    """A token and when; None where nobody said."""

    token: int
    time: float | None


class Prompt(NamedTuple):
    """What is read before the writing.

    Attributes:
        ids, times: of its tokens; no times without timestamps.
        shown: as it is printed.
        lines: what goes on to print the lines' times; None without.
    """

    ids: Int[Tensor, "1 t"]
    times: Float64[Tensor, "1 t"] | None
    shown: str
    lines: "TimedLines | None"

    def tokens(self) -> list[TimedToken]:
        times = [None] * self.ids.shape[1] if self.times is None else self.times[0].tolist()
        return [TimedToken(token, time) for token, time in zip(self.ids[0].tolist(), times, strict=True)]


def timed_prompt(
    prompt: str,
    tokenizer: LEDTokenizerWrapper,
    pending: Sequence[TimedToken] = (),
    goes_on: LiquidCache | None = None,
    after: float | None = None,
) -> Prompt:
    """With the times before its lines (see `prompt_events`), after `pending`, by default `<s>`, and what
    the state `goes_on` has read."""
    pending, now = pending or [TimedToken(tokenizer.bos_token_id, None)], None
    if goes_on is not None:
        now = max([float(goes_on.last_time[0]), *(told.time for told in pending if told.time is not None)])
    events = prompt_events(prompt, now, after)
    begins = now if now is not None else events[0].time if events else 0.0
    every = [(told.token, begins) for told in pending]
    encoded = tokenizer.encode_all([event.text for event in events])
    for event, run in zip(events, encoded, strict=True):
        every += [(token, event.time) for token in run.tolist()]
    ids, times = zip(*every, strict=True)
    lines = TimedLines()
    shown = "".join(lines.push(event.text, event.time) for event in events)
    return Prompt(torch.tensor([ids]), torch.tensor([times], dtype=torch.float64), shown, lines)


def check_times(model: LiquidTextGenerationModel, folder: str | Path) -> None:
    """LiquidError if the model knows no times."""
    if model.time_head is None:
        raise LiquidError(f"{folder} knows no times: train a model with --timestamps for that")


class TimedLines:
    """Text as it comes ▶ the same with its time before every line."""

    def __init__(self):
        self.fresh, self.dated = True, None

    def push(self, text: str, time: float) -> str:
        """`text`, which is at this time."""
        shown = []
        if self.dated is None:
            self.dated = is_dated(time)  # and so are all that follow: a reader looks for one kind of time
        for line in text.splitlines(keepends=True):
            begins = self.fresh and line.strip("\r\n")
            shown.append(f"{format_stamp(time, self.dated)} {line}" if begins else line)
            self.fresh = line.endswith("\n")
        return "".join(shown)


def prompt_events(prompt: str, now: float | None, after: float | None) -> list[TextEvent]:
    """A prompt as events: at the times before its lines, or all `now` (0) where it has none; and a line break
    `after` it. What has times and goes on from something, at `now`, begins with a line break.

    Raises:
        LiquidError: some lines have times, and the first has none, or one before `now`.
    """
    lines = prompt.split("\n")  # no other breaks: a text may have them within a line
    if any(find_stamp(line) for line in lines):
        (read,) = read_events(lines, ".txt", "the prompt")
        events = [TextEvent(time, f"\n{text}") for time, text in read]
        if now is None:
            events[0] = TextEvent(events[0].time, events[0].text[1:])
        elif events[0].time < now:
            raise LiquidError(
                f"the prompt begins at {format_stamp(events[0].time)}, and what it goes on from ends at"
                f" {format_stamp(now)}"
            )
    else:
        events = [TextEvent(now or 0.0, prompt)] if prompt else []
    if after is not None:
        last = events[-1].time if events else now or 0.0
        farthest = LAST_DATE if is_dated(events[0].time if events else last) else LARGEST_TIME
        if last + after > farthest:
            raise LiquidError(
                f"{after:.15g} seconds after {format_stamp(last)} there are no times: the last is"
                f" {format_stamp(farthest)}"
            )
        events.append(TextEvent(last + after, "\n"))
    return events
