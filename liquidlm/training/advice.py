"""What the last lines of a run recommend, and why the training loss may be above the held-out loss."""

from collections.abc import Sequence
from enum import StrEnum

WORSE = 1.01
"""A held-out loss above its best times this is overfitting."""
FEW_PASSES = 2.0
"""With fewer passes over the text, more time is the first thing to try."""
CLOSE = 0.95
"""A training loss over this times the held-out loss is close to it: the text is not learned by heart."""

BUSY, SHORT = 0.5, 10.0
"""Less than this share of a core means that other programs had the machine; in this many seconds it shows."""


class NextStep(StrEnum):
    """What is most likely to improve a model."""

    MORE_TIME = "more time"
    LARGER_MODEL = "larger model"
    MORE_TEXT = "more text"


def next_step(held_out: Sequence[float], training: float, passes: float) -> NextStep:
    """A simple rule for what to try next. The first condition that holds decides:

    1. The last held-out loss is over 1.01 times the best one: the model overfits, give it more text.
    2. The text was read less than twice: train longer.
    3. The training loss is over 0.95 times the held-out loss: the model is too small to learn this text by
       heart, take a larger one.
    4. Otherwise it begins to learn the text by heart: give it more text.

    Args:
        held_out: held-out losses in the order of the run, in bits per byte.
        training: the training loss at the end, in bits per byte.
        passes: how often the text was read.

    >>> next_step([3.0, 2.0, 2.4], training=1.5, passes=9.0)
    <NextStep.MORE_TEXT: 'more text'>
    >>> next_step([3.0, 2.0], training=2.1, passes=0.4)
    <NextStep.MORE_TIME: 'more time'>
    """
    if held_out and held_out[-1] > WORSE * min(held_out):
        return NextStep.MORE_TEXT
    if passes < FEW_PASSES:
        return NextStep.MORE_TIME
    if held_out and training < CLOSE * held_out[-1]:
        return NextStep.MORE_TEXT
    return NextStep.LARGER_MODEL


def advice(
    held_out: Sequence[float], training: float, passes: float, longer: str, dropout: float = 0.0
) -> str:
    """The recommendation of `next_step` as one line for the user.

    Args:
        held_out, training, passes: see `next_step`.
        longer: the command that trains this run for longer.
        dropout: of this run. Only more than that is recommended.
    """
    step = next_step(held_out, training, passes)
    if step is NextStep.MORE_TIME:
        return f"Next: train longer. The text was read {passes:.1f} times. {longer}"
    if step is NextStep.LARGER_MODEL:
        return (
            f"Next: a larger model (--size). After {passes:.1f} passes over the text, the training loss is"
            " still close to the held-out loss. More time helps too."
        )
    worse = held_out[-1] > WORSE * min(held_out)
    what = (
        f"It overfits: the held-out loss rose from {min(held_out):.3f} to {held_out[-1]:.3f}."
        if worse
        else f"The training loss is below the held-out loss ({training:.3f}, {held_out[-1]:.3f})."
    )
    more = next((f" or --dropout {rate}," for rate in (0.1, 0.25) if rate > dropout), "")
    return f"Next: more text,{more} or --patience 3. {what}"


def busy(seconds: float, cpu_seconds: float, threads: int) -> str | None:
    """One line for a run on a CPU that got less than half of a core; None for another run.

    Args:
        seconds: of wall-clock time.
        cpu_seconds: of CPU time of all threads in it.
        threads: of the run.

    >>> busy(100.0, 180.0, threads=2) is None
    True
    """
    if seconds < SHORT or cpu_seconds > BUSY * seconds:
        return None
    hint = "" if threads == 1 else "; on a busy machine, OMP_NUM_THREADS=1 can be faster"
    return (
        f"note: the machine was busy: the run had {cpu_seconds / seconds:.1f} of a core on average, because"
        f" of other programs{hint}"
    )


def why_training_is_higher(dropout: float, cut: bool) -> str:
    """One line that explains a training loss above the held-out loss.

    Args:
        dropout: of the run.
        cut: whether training cuts long documents into spans, while held-out documents are read whole.
    """
    reasons = ["it is an average over the last 20 steps or so, with older weights"]
    if dropout:
        reasons.append("dropout is active in training only")
    if cut:
        reasons.append("training cuts long documents (--span), held-out documents keep all earlier tokens")
    return f"note: the training loss may be above the held-out loss: {'; '.join(reasons)}"
