"""What matches of features, trained autoencoders and sweeps show in a notebook."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from ..html.formats import percent
from ..html.output import Format, caption, details, facts, frame, heading, table

if TYPE_CHECKING:
    from .activations.corpus import Corpus
    from .activations.stored import ActivationStore
    from .activations.stream import Activations
    from .matching.matches import Matches
    from .matching.store import FeatureActs
    from .sae.swept import Sweep
    from .sae.trained import Trained

_THREE: Format = "{:.3f}".format


def of_matches(matches: Matches) -> Iterator[Markup]:
    """The summary of both directions, and the best matches.

    >>> import pandas as pd
    >>> from circuitry.features.matching.matches import Matches
    >>> rows = pd.DataFrame({"layer_a": [0], "feature_a": [7], "mppc": [0.98], "null": [0.1]})
    >>> "0.980" in "".join(of_matches(Matches(rows, rows, {})))
    True
    """
    yield heading("matched features", "MPPC: the greatest correlation with any feature of the other side")
    summary = matches.summary().rename_axis("direction").reset_index()
    formats = {"mean": _THREE, "median": _THREE, "null": _THREE, "above .95": percent, "near null": percent}
    yield frame(summary, formats)
    best = matches.forward.sort_values("mppc", ascending=False, kind="stable", na_position="last")
    yield details("the best matches of the first side", frame(best, {"mppc": _THREE, "null": _THREE}))


def of_trained(trained: Trained) -> Iterator[Markup]:
    """A row for each autoencoder, and the last report of its training.

    >>> import numpy as np
    >>> import circuitry as ct
    >>> from circuitry.features import SAE, Trained
    >>> from circuitry.features.sae import SAEConfig
    >>> ">mlp[0]</td>" in "".join(of_trained(Trained({ct.Node("mlp", (0,)): SAE(SAEConfig(4, 16))}, np.zeros((0, 6)), 8)))
    True
    """
    yield heading("trained autoencoders", trained.folder or "")
    rows = [[str(node), sae.config.kind, sae.config.width, sae.config.features] for node, sae in trained.items()]
    yield table(["node", "kind", "width", "latents"], rows)
    if len(trained.log):
        yield details("the last report of each", frame(trained.last))


def of_sweep(sweep: Sweep) -> Iterator[Markup]:
    """A row for every training and node.

    >>> from pathlib import Path
    >>> import pandas as pd
    >>> from circuitry.features import Sweep
    >>> "2.5" in "".join(of_sweep(Sweep({}, pd.DataFrame({"l0": [2.5]}), Path("sweep"))))
    True
    """
    yield heading(f"{len(sweep)} trainings")
    yield frame(sweep.frame)


def of_corpus(corpus: Corpus) -> Iterator[Markup]:
    """How large a corpus is, and where it is from.

    >>> import numpy as np
    >>> from circuitry.features import Corpus
    >>> text = Corpus(np.array([0, 5], np.int32), np.array([0, 2]), np.array([True, False]), "two ids", "")
    >>> "two ids" in "".join(of_corpus(text))
    True
    """
    yield heading("corpus", corpus.source)
    yield facts(
        [
            ("documents", f"{len(corpus):,}"),
            ("tokens", f"{len(corpus.ids):,}"),
            ("used", f"{corpus.tokens:,}"),
            ("digest", corpus.digest),
        ]
    )


def of_activations(given: Activations | ActivationStore) -> Iterator[Markup]:
    """Of which nodes and which text activations are, and where they are stored if they are.

    >>> import circuitry as ct
    >>> from circuitry.features import activations
    >>> "11 tokens" in "".join(of_activations(activations(ct.load("bundled:mamba"), "resid[4]", ["Twenty characters or more."])))
    True
    """
    yield heading("activations", getattr(given, "folder", ""))
    yield table(["node", "numbers at a token"], [[str(node), width] for node, width in given.widths.items()])
    yield caption(f"at {given.corpus.tokens:,} tokens of {given.corpus.source}")


def of_acts(acts: FeatureActs) -> Iterator[Markup]:
    """Whose features are stored, and where.

    >>> import tempfile
    >>> import numpy as np
    >>> from circuitry.features import FeatureActs
    >>> "<dd>3</dd>" in "".join(of_acts(FeatureActs.write(tempfile.mkdtemp(), [np.eye(3)], features=3)))
    True
    """
    yield heading(acts.name, acts.folder)
    known: dict[str, Any] = {key: acts.index.get(key, "") for key in ("model", "node", "layer")}
    yield facts([("features", f"{acts.features:,}"), ("tokens", f"{acts.tokens:,}"), *known.items()])
