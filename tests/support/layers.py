"""The order of the packages, from the bottom up."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "circuitry"

# From the bottom up. What stands in one row knows nothing of its neighbours, nor of any row after it. Results are values that
# running fills in: a table or a picture does not know how its numbers were made. What is not listed (the command line, the
# package's face, universality) stands on top, and nothing that is listed may import it.
LAYERS = (
    {"errors", "thresholds", "colours", "progress"},
    {"blame"},
    {"content"},
    {"store", "html"},
    {"team"},
    {"paths"},
    {"architecture", "prompting"},
    {"drawing", "compiled", "native", "autoencoders"},
    {"planning", "models", "results"},
    {"executing", "reports"},
    {"patching", "explorer"},
    {"discovery"},
    {"benchmarks"},
    {"evidence"},
    {"suites", "features"},
    {"studies"},
    {"universality", "claims"},
)
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}
LIGHT = ("circuitry", "circuitry.paths", "circuitry.architecture", "circuitry.prompting", "circuitry.planning")
HEAVY = ("torch", "transformers", "nnsight", "matplotlib", "pandas")


def heavy_after_importing(*modules: str) -> list[str]:
    """Which heavy packages a fresh interpreter has loaded after importing these modules."""
    code = f"import sys, {', '.join(modules)}; print(*[m for m in {HEAVY} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    return done.stdout.split()
