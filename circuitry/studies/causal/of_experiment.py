"""The same for what ``experiment`` left in its folder: its models, autoencoders and matches, with both skylines."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any

from ...features.matching.matches import Matches
from ...features.sae.trained import Trained
from ...models.model import Model
from ...prompting.task import Task
from ...store.files import slug
from ..experiment.plan import dictionaries
from ..experiment.result import ARCHITECTURE, MODEL_SEED, SAE_SEED
from .result import Causal
from .run import causal
from .sides import Skyline


def causal_of(
    folder: str | PathLike[str],
    models: Sequence[Model],
    task: Task,
    *,
    seed_variant: Model | None = None,
    seed: int = 0,
    **options: Any,
) -> Causal:
    """Effects of the features that ``experiment`` matched, with model seed and SAE seed as skylines.

    ``folder`` is its run folder (``result.record["folder"]``), where this run gets a folder too; ``models``, ``seed_variant`` and
    ``seed`` are what it was given. ``options`` go to ``causal``. Raises CircuitryError as it does, and for a folder without these.
    """
    path, sets = Path(folder), dictionaries(models, seed_variant, seed)
    sides: dict[str, Skyline] = {
        name: (sets[name].model, Trained.load(path / "saes" / sets[name].name), Matches.load(path / "matches" / slug(name)))
        for name in (ARCHITECTURE, MODEL_SEED, SAE_SEED)
        if name in sets
    }
    model, saes, matches = sides.pop(ARCHITECTURE)
    first = Trained.load(path / "saes" / sets[""].name)
    return causal(sets[""].model, model, matches, task, saes_a=first, saes_b=saes, skylines=sides, out=path, seed=seed, **options)
