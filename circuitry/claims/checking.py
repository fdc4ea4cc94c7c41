"""The call that most users need: from a claims file to verdicts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from tqdm.auto import tqdm

from ..patching.provenance import versions
from .cache import Cache, default_folder
from .judging import judge
from .measuring import key, measure
from .reading import parse_claims, read
from .result import Checked, CheckedClaims
from .values import Claim, Claims, Quantity

if TYPE_CHECKING:
    from ..models.model import Model


def check(
    claims: str | PathLike[str] | Claims | Sequence[Mapping[str, Any]],
    *,
    cache: str | PathLike[str] | bool = False,
    seed: int | None = None,
    models: Mapping[str, Model] | None = None,
    device: str | None = None,
    progress: bool | None = None,
) -> CheckedClaims:
    """Check claims: measure what they are about, and decide whether each holds.

    Args:
        claims: a claims file, the text of one, a list of claims as dictionaries with the keys of a file, or ``Claims``.
        cache: a folder that keeps measurements by their identity; True: the platform's; False: none is kept.
        seed: fresh prompts for all claims, instead of those of the seeds in the file.
        models: loaded models by the name that the claims give them; others are loaded.
        device: where models are loaded, the CPU by default.
        progress: show a bar; by default where stderr is a terminal.

    A model that cannot be loaded, or a path that cannot be patched, makes a claim undecided, and the result has the reason. Raises
    CircuitryError for a file that is not a claims file, with the line.

    >>> claim = {"text": "Layer 3 has most of the effect.", "model": "bundled:mamba", "task": {"name": "induction", "examples": 32},
    ...          "effect": "ssm_state[3] @ B+3 -> logits freezing ssm_state", "at_least": 0.5}
    >>> check([claim]).verdicts
    ['holds']
    """
    listed = _claims(claims).claims
    seeded = [claim if seed is None else _with_seed(claim, seed) for claim in listed]
    runs = [[_with_seed(claim, each) for each in _seeds(claim)] for claim in seeded]
    quantities = [quantity for claims_of in runs for claim in claims_of for quantity in _quantities(claim)]
    with tqdm(
        total=len(set(map(key, quantities))), unit="path", leave=False, disable=None if progress is None else not progress
    ) as bar:

        def done(count: int, what: str) -> None:
            bar.set_description(what[:60])
            bar.update(count)

        measured = measure(quantities, Cache(_folder(cache)), models=models, device=device, done=done)
    checked = []
    for claim, claims_of in zip(seeded, runs, strict=True):
        checks = tuple(judge(each, measured) for each in claims_of)
        verdict = claim.seeds.decide(one.verdict for one in checks) if claim.seeds else checks[0].verdict
        checked.append(Checked(claim, verdict, checks))
    return CheckedClaims(tuple(checked), measured.weights, versions())


def _claims(claims: str | PathLike[str] | Claims | Sequence[Mapping[str, Any]]) -> Claims:
    if isinstance(claims, Claims):
        return claims
    if isinstance(claims, str) and "\n" not in claims and "claims:" not in claims:
        return read(claims)
    if isinstance(claims, str):
        return parse_claims(claims)
    if isinstance(claims, PathLike):
        return read(Path(claims))
    return parse_claims(yaml.safe_dump({"claims": [dict(claim) for claim in claims]}, sort_keys=False))


def _folder(cache: str | PathLike[str] | bool) -> Path | None:
    if isinstance(cache, bool):
        return default_folder() if cache else None
    return Path(cache)


def _quantities(claim: Claim) -> list[Quantity]:
    return [quantity for quantity in (claim.quantity, claim.minus) if quantity]


def _seeds(claim: Claim) -> range:
    first = claim.quantity.task.seed
    return range(first, first + (claim.seeds.count if claim.seeds else 1))


def _with_seed(claim: Claim, seed: int) -> Claim:
    """The same claim on other prompts. Two sides with the same seed keep one, since they may be compared in pairs."""
    shift = seed - claim.quantity.task.seed
    minus = claim.minus and claim.minus.with_seed(claim.minus.task.seed + shift)
    return replace(claim, quantity=claim.quantity.with_seed(seed), minus=minus)
