"""Defaults that the command line shows in its help. This file imports next to nothing: the help is fast."""

from typing import Literal

ALARMS = 5.0
"""The number of lines that are marked in a usual day of a log."""
WEIGHTS: Literal["float32", "bf16", "int8"] = "int8"
"""The type of the weights that write text. Bits per byte of the bundled model change by 0.04 %."""
FRESH_RATE, TRAINED_RATE = 0.02, 0.005
"""Peak learning rates of `watch --learn`: of a new model, and of one that was trained."""
ADAPT_RATE = 0.0001
"""Peak learning rate of `eval --adapt`. At ten times this rate the bundled model gets worse."""
