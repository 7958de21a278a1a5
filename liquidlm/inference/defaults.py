"""Defaults that the command line shows in its help. This file imports nothing, so that the help is fast."""

THRESHOLD = 4.0
"""A line of a log stands out if its score is this many standard deviations above the mean."""
