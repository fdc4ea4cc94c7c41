"""universality.html: the experiment as one page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from ...features.matching.matches import HIGH
from ...reports.inline import inline
from ...reports.page import render
from ...store.files import write_whole
from ...thresholds import FEATURES_INSIDE, NEAR_ZERO

if TYPE_CHECKING:
    from .result import Universality

CAPTIONS = {
    "figure3": "The paper's figure 3. (a) How well each feature is matched: in another architecture, in another seed of the model, in another "
    "seed of the autoencoder, and neurons with neurons. (b) Feature by feature, the MPPC in another architecture less that in the seed "
    "variant: what the architecture adds. (c) Of each layer's features, the share whose best match is in each layer of the other model.",
    "figure8": "The paper's figure 8 (appendix B): MPPC by layer.",
    "figure9": "The paper's figure 9 (appendix C): MPPC is not symmetric, so here are both directions.",
    "figure10": "The paper's figure 10 (appendix C): as figure 3(c), in the other direction.",
    "figure11": "The paper's figure 11 (appendix D): as figure 3, with another model.",
    "figure5": "The paper's figure 5: MPPC by a feature's complexity and monosemanticity score.",
}


def write_page(found: Universality, folder: Path) -> Path:
    """Write universality.html into ``folder``; its path.

    >>> import tempfile
    >>> import numpy as np, pandas as pd
    >>> from circuitry.studies.experiment.result import Compared, Universality
    >>> table = pd.DataFrame([[0, 0, 0.9, 0, 1, 5, 5, 0.1]], columns=["layer_a", "feature_a", "mppc", "layer_b", "feature_b", "count_a", "count_b", "null"])
    >>> one = Compared("A", "B", table, table, np.array([1.0]), np.array([1.0]))
    >>> write_page(Universality({"architecture": one}, {"models": ["A", "B"]}), Path(tempfile.mkdtemp())).name
    'universality.html'
    """
    target = folder / "universality.html"
    write_whole(target, render("universality.html", **_contents(found, folder)))
    return target


def _contents(found: Universality, folder: Path) -> dict[str, Any]:
    """What the template is given."""
    figures = [
        (name, Markup(inline(figure)), CAPTIONS[name.split("-")[0]], (folder / "figures" / f"{name}.svg").exists())
        for name, figure in found.figures().items()
    ]
    return {
        "found": found,
        "record": found.record,
        "rows": found.frame.to_dict("records"),
        "marginal": found.marginal.to_dict("records"),
        "saes": found.saes.to_dict("records"),
        "figures": figures,
        "matched": {
            name: f"matched/{name}.html"
            for name in ("features", "uninterpretable")
            if (folder / "matched" / f"{name}.html").exists()
        },
        "high": HIGH,
        "level": FEATURES_INSIDE,
        "near_zero": NEAR_ZERO,
    }
