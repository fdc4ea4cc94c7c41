"""``python -m circuitry.cli``."""

from . import main

main()
