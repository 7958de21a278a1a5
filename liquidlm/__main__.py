"""python -m liquidlm: the command line."""

from .cli.main import main

main()
