"""How the bundled models were made: ``python -m circuitry.training --help``."""
