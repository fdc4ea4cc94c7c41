"""``python -m circuitry``: the command line."""

from .cli import main

main()
