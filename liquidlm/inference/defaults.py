"""Defaults that the command line shows in its help. This file imports next to nothing: the help is fast."""

from typing import Literal

THRESHOLD = 4.0
"""A line of a log stands out if its score is this many standard deviations above the mean."""
WEIGHTS: Literal["float32", "bf16", "int8"] = "int8"
"""The type of the weights that write text. Bits per byte of the bundled model change by 0.04 %."""
