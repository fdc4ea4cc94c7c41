"""The page of the experiment, universality.html."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from ...drawing.inline import inline
from ...features.matching.matches import HIGH
from ...html.page import render
from ...store.files import write_whole
from ...thresholds import FEATURES_INSIDE, NEAR_ZERO

if TYPE_CHECKING:
    from .result import Universality

CAPTIONS = {
    "figure3": "The paper's figure 3. (a) How well each feature is matched: in another architecture, in another seed of the model, in another "
    "seed of the autoencoder, and neurons with neurons. (b) For each feature, the MPPC in another architecture minus that in the seed "
    "variant: the effect of the architecture. (c) The share of each layer's features whose best match is in each layer of the other model.",
    "figure8": "The paper's figure 8 (appendix B): MPPC by layer.",
    "figure9": "The paper's figure 9 (appendix C): MPPC in both directions, since it is not symmetric.",
    "figure10": "The paper's figure 10 (appendix C): as figure 3(c), in the other direction.",
    "figure11": "The paper's figure 11 (appendix D): as figure 3, with another model.",
    "figure5": "The paper's figure 5: MPPC by a feature's complexity and monosemanticity score.",
}


def write_page(study: Universality, folder: Path) -> Path:
    """Write universality.html into ``folder`` and return its path.

    >>> import tempfile
    >>> import numpy as np, pandas as pd
    >>> from circuitry.studies.experiment.result import Compared, Universality
    >>> table = pd.DataFrame([[0, 0, 0.9, 0, 1, 5, 5, 0.1]], columns=["layer_a", "feature_a", "mppc", "layer_b", "feature_b", "count_a", "count_b", "null"])
    >>> compared = Compared("A", "B", table, table, np.array([1.0]), np.array([1.0]))
    >>> write_page(Universality({"architecture": compared}, {"models": ["A", "B"]}), Path(tempfile.mkdtemp())).name
    'universality.html'
    """
    target = folder / "universality.html"
    write_whole(target, render("universality.html", package=__package__, **_contents(study, folder)))
    return target


def _contents(study: Universality, folder: Path) -> dict[str, Any]:
    """The values for the template."""
    figures = [
        (name, Markup(inline(figure)), CAPTIONS[name.split("-")[0]], (folder / "figures" / f"{name}.svg").exists())
        for name, figure in study.figures().items()
    ]
    return {
        "record": study.record,
        "rows": study.frame.to_dict("records"),
        "marginal": study.marginal.to_dict("records"),
        "saes": study.saes.to_dict("records"),
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
