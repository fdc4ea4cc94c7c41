"""The paper's experiments on its models or on others, and each published number beside the measured one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import pandas as pd

from ...errors import CircuitryError, expected, several
from ...models.loading import load
from ...progress import together
from ...store.files import write_csv
from ..experiment.plan import Settings
from ..experiment.run import experiment
from . import measure
from .published import Number, published

PARTS = ("tables", "features")
"""Tables 1 to 4 (appendix G), and the numbers of section 4.4."""
PASS, DIFFERS, MISSING = "pass", "differs", "not measured"


@dataclass(frozen=True)
class Replication:
    """Measured numbers by the names of the published ones; ``models`` are those used, ``why`` says of a part why it was not measured."""

    measured: Mapping[str, float]
    models: tuple[str, ...]
    why: Mapping[str, str]

    @property
    def of_paper(self) -> bool:
        """Whether these are the paper's models."""
        paper: list[str] = published().paper["models"]
        return list(self.models) == paper

    def verdict(self, number: Number) -> str:
        """``pass``, ``differs`` or ``not measured``."""
        if number.name not in self.measured:
            return MISSING
        return PASS if number.passes(self.measured[number.name]) else DIFFERS

    @property
    def frame(self) -> pd.DataFrame:
        """A row for every published number: name, place in the paper, value, rule, measured value (NaN if there is none), verdict."""
        rows = [
            (n.name, n.where, n.value, n.rule.text(), self.measured.get(n.name, float("nan")), self.verdict(n))
            for n in published().numbers
        ]
        return pd.DataFrame(rows, columns=["number", "where", "published", "rule", "measured", "verdict"])

    def text(self) -> str:
        """Every measured number, for a terminal, and how many there are of each verdict.

        >>> found = Replication({"mean MPPC, another architecture": 0.46}, ("bundled:gpt_neox", "bundled:mamba"), {})
        >>> print(found.text().splitlines()[6])
        differs  mean MPPC, another architecture: published 0.74, measured 0.46 (section 4.4, page 6)
        """
        names = " and ".join(self.models)
        lines = [f"the paper's numbers, on {names}" if self.of_paper else _EXPECTED.format(names=names)]
        rules = {number.rule.name: number.rule for number in published().numbers}
        lines.append("a number passes if it is close to the published one, or above it where the paper says more than:")
        lines += [f"  {name}: {rule.text()}" for name, rule in rules.items()]
        for number in published().numbers:
            if number.name in self.measured:
                value = f"{'more than ' if number.bound else ''}{number.value:g}"
                lines.append(
                    f"{self.verdict(number):<7}  {number.name}: published {value}, measured {self.measured[number.name]:.3g} ({number.where})"
                )
        counts = self.frame["verdict"].value_counts()
        lines.append(", ".join(f"{counts[verdict]} {verdict}" for verdict in (PASS, DIFFERS, MISSING) if verdict in counts))
        return "\n".join([*lines, *(f"{part}: not measured: {reason}" for part, reason in self.why.items())])


_ARGUMENTS = ("texts", "scored", "dtype", "fresh")
"""Arguments of the experiment that are not fields of its settings."""
_EXPECTED = (
    "the paper's numbers, on {names}: these are not the paper's models, so numbers are expected to differ; "
    "a small model that differs says nothing against the paper"
)


@together()
def replicate(
    models: Sequence[str] | None = None,
    *,
    seed_variant: str | None = None,
    only: Iterable[str] = PARTS,
    out: str | PathLike[str] = "runs",
    examples: int = 128,
    distances: Iterable[int] | None = None,
    device: str = "cpu",
    progress: bool = True,
    say: Callable[[str], None] = lambda _: None,
    **settings: Any,
) -> Replication:
    """Measure the numbers that the paper publishes, and compare each with it under the rules of ``published.toml``.

    Args:
        models: a Transformer and a Mamba, in this order; None for the paper's models, with its seed variant, text and settings.
        seed_variant: the first model with another seed; without it the numbers that need one are not measured.
        only: "tables" (Tables 1 to 4, on the second model) and "features" (section 4.4).
        out: folder for the run and ``replication.csv``. The same call resumes.
        examples, distances: prompts of each cell of the tables, and the distances measured; the paper's by default.
        settings: of the experiment on features, with ``texts``, as for ``experiment``; they replace the paper's.

    If the paper's models or text cannot be downloaded, that part is not measured, and the result says why. Raises CircuitryError
    for mistakes in the arguments, and for given models that cannot be loaded.

    >>> replicate(["bundled:mamba"])
    Traceback (most recent call last):
    circuitry.errors.CircuitryError: expected two models, a Transformer and a Mamba, got ['bundled:mamba']
    """
    names = tuple(published().paper["models"] if models is None else several("models", models))
    if len(names) != 2:
        raise CircuitryError(expected("two models, a Transformer and a Mamba", list(names)))
    parts = list(several("only", only))
    if unknown := [part for part in parts if part not in PARTS]:
        raise CircuitryError(expected(" or ".join(PARTS), unknown[0]))
    if models is None:
        paper = published().paper
        seed_variant = seed_variant or paper["seed_variant"]
        settings = {"texts": paper["texts"], **paper["settings"], **settings}
    Settings.of(**{name: value for name, value in settings.items() if name not in _ARGUMENTS})  # refuses a mistake now
    measured: dict[str, float] = {}
    why: dict[str, str] = {}

    def tables() -> dict[str, float]:
        return measure.tables(load(names[1], device=device), examples=examples, distances=distances, say=say)

    def features() -> dict[str, float]:
        options: dict[str, Any] = {"out": out, "device": device, "progress": progress, "say": say, "neurons": False}
        return measure.features(experiment(names, seed_variant=seed_variant, **{**options, **settings}))

    for part, run in (("tables", tables), ("features", features)):
        if part in parts:
            try:
                measured |= run()
            except CircuitryError as error:
                if models is not None:
                    raise
                why[part] = str(error)
    result = Replication(measured, names, why)
    write_csv(result.frame, Path(out) / "replication.csv", index=False)
    return result
