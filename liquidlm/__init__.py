"""Continuous-time language models."""
