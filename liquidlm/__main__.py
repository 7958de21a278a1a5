"""python -m liquidlm: the command line."""

from .cli import main

main()
