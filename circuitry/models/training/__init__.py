"""How the bundled models were made: ``python -m circuitry.models.training --help``."""
