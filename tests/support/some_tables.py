"""Tables that tests write, print and draw."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from circuitry import PatchingTable

CAPTION = (
    "mean change of the logit ± standard error over 2 examples; tiny_50%, induction (distance 8); "
    "* q < 0.05 (sign flips and Johnson's t, false-discovery control over 6 cells); 2 examples cannot show anything at q < 0.05 over 6 cells"
)

CELLS = [{"layer": layer, "pos": pos} for layer in (0, 1) for pos in ("END", "A", "B+1")]

EFFECT = np.array([[1.0, 3.0], [0.0, -0.004], [-2.0, -4.0], [0.5, 0.5], [1e-3, 0.0], [10.0, 20.0]])

ABOUT: dict[str, Any] = {
    "path": "head[{layer},0] @ {pos} -> logits",
    "model": "tiny_50%",
    "task": "<task induction: distance=8>",
    "seed": 0,
}


def table(cells: list[dict[str, Any]] = CELLS, effect: Any = EFFECT, **provenance: Any) -> PatchingTable:
    effect = np.asarray(effect, float)
    examples = effect.shape[1]
    return PatchingTable.of(
        cells, effect, np.full(examples, 1.0), np.full(examples, 5.0), "change of the logit", {**ABOUT, **provenance}
    )


def layers(*means: float) -> PatchingTable:
    return table([{"layer": k} for k in range(len(means))], [[mean, mean] for mean in means])


NONE = table([{}], [[1.0, 2.0, 6.0]])

THREE = table(
    [{"layer": layer, "head": head, "pos": pos} for layer in (0, 1) for head in (0, 1) for pos in ("B", "A")],
    np.arange(16).reshape(8, 2),
)

EVERY = {"no axis": NONE, "one axis": layers(1, -2, 0), "two axes": table(), "three axes": THREE}

# --- files -----------------------------------------------------------------------------------------------------------------


RANDOM = pd.DataFrame(
    {"draw": [0, 0, 1, 1], "node": ["a", "a", "b", "b"], "example": [0, 1, 0, 1], "effect": [0.5, 1.0, -2.0, 0.0]}
)
