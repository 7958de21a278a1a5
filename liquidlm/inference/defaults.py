"""Defaults that the command line shows in its help: importing them imports nothing."""

THRESHOLD = 4.0
"""A line of a log stands out whose score is this many standard deviations over the mean."""
