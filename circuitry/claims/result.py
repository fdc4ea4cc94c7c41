"""The verdicts on the claims of a file: as text, as HTML, as plain data, and as an exit code."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from html import escape
from pathlib import Path
from typing import Any

from ..store.files import write_whole
from .judging import Check, Part
from .kinds import KINDS
from .values import Claim, Quantity, Verdict

_EXIT = {Verdict.HOLDS: 0, Verdict.FAILS: 1, Verdict.OPEN: 2}
_WIDE = max(map(len, Verdict))


@dataclass(frozen=True)
class Checked:
    """A claim with its verdict, and the checks behind it: one for each seed."""

    claim: Claim
    verdict: Verdict
    checks: tuple[Check, ...]

    def numbers(self) -> list[str]:
        """The numbers behind the verdict, a line for each part: estimate, interval, bound and number of examples.

        >>> from circuitry.claims import check
        >>> text = "claims: [{text: It does, model: bundled:mamba, task: {name: induction, examples: 32}, accuracy: top-1, at_least: 0.5}]"
        >>> check(text).checked[0].numbers()
        ['accuracy 1 (0.891 to 1), at least 0.5: holds; 32 examples']
        """
        if len(self.checks) == 1:
            return _lines(self.claim, self.checks[0])
        counts = Counter(check.verdict for check in self.checks)
        said = ", ".join(f"{verdict} in {counts[verdict]}" for verdict in Verdict if counts[verdict])
        worst = [check for check in self.checks if check.verdict is not Verdict.HOLDS][:3] or self.checks[:1]
        assert self.claim.seeds
        lines = [f"{said} of {len(self.checks)} seeds; at least {self.claim.seeds.holding} are claimed"]
        return lines + [f"seed {check.seed}: {line}" for check in worst for line in _lines(self.claim, check)]


@dataclass(frozen=True)
class CheckedClaims:
    """The verdicts on all claims, in the order of the file. ``weights`` are the digests of the models by name."""

    checked: tuple[Checked, ...]
    weights: Mapping[str, str] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)

    @property
    def verdicts(self) -> list[str]:
        """The verdicts as texts.

        >>> CheckedClaims(()).verdicts
        []
        """
        return [str(one.verdict) for one in self.checked]

    @property
    def code(self) -> int:
        """The exit code of ``circuitry check``: 0 if all hold, 1 if one does not, 2 if none does not and one cannot be decided.

        >>> CheckedClaims(()).code
        0
        """
        seen = {one.verdict for one in self.checked}
        return next((_EXIT[verdict] for verdict in (Verdict.FAILS, Verdict.OPEN) if verdict in seen), 0)

    def summary(self) -> str:
        """How many hold, in one line.

        >>> CheckedClaims(()).summary()
        '0 of 0 claims hold'
        """
        counts = Counter(one.verdict for one in self.checked)
        total = len(self.checked)
        line = f"{counts[Verdict.HOLDS]} of {total} claim{'s' * (total != 1)} hold{'s' * (total == 1)}"
        failed, undecided = counts[Verdict.FAILS], counts[Verdict.OPEN]
        rest = [f"{failed} {'does' if failed == 1 else 'do'} not hold"] if failed else []
        rest += [f"{undecided} cannot be decided"] if undecided else []
        return "; ".join([line, *rest])

    def text(self) -> str:
        """Every claim with its verdict and numbers.

        >>> CheckedClaims(()).text()
        '0 of 0 claims hold'
        """
        lines = []
        for one in self.checked:
            lines.append(f"{one.verdict:<{_WIDE}}  {one.claim.text}")
            lines += [f"{'':<{_WIDE}}  {line}" for number in one.numbers() for line in number.splitlines()]
        return "\n".join([*lines, self.summary()])

    def __repr__(self) -> str:
        return self.text()

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{escape(one.verdict)}</td><td style='text-align:left'>{escape(one.claim.text)}</td>"
            f"<td style='text-align:left'>{'<br>'.join(map(escape, one.numbers()))}</td></tr>"
            for one in self.checked
        )
        head = "<tr><th>verdict</th><th>claim</th><th>numbers</th></tr>"
        return f"<table>{head}{rows}</table><p>{escape(self.summary())}</p>"

    def data(self) -> dict[str, Any]:
        """Everything as plain data: what ``--json`` writes. A number that could not be measured is null.

        >>> sorted(CheckedClaims(()).data())
        ['claims', 'counts', 'versions', 'weights']
        """
        return {
            "counts": {str(verdict): self.verdicts.count(verdict) for verdict in Verdict},
            "claims": [_data(one) for one in self.checked],
            "weights": dict(self.weights),
            "versions": dict(self.versions),
        }

    def to_json(self, path: str | Path) -> None:
        """Write ``data`` as JSON.

        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "verdicts.json"
        >>> CheckedClaims(()).to_json(file)
        >>> json.loads(file.read_text())["claims"]
        []
        """
        write_whole(Path(path), json.dumps(self.data(), indent=1))


def _lines(claim: Claim, check: Check) -> list[str]:
    if check.reason:
        return [check.reason]
    named = [part for part in check.parts if not part.other]
    lines = [_line(claim, part) for part in _worst(named)]
    if others := [part for part in check.parts if part.other]:
        lines += [f"of {len(others)} other cell{'s' * (len(others) != 1)}: {_line(claim, part)}" for part in _worst(others, 1)]
    return lines + ([check.note] if check.note else [])


def _worst(parts: list[Part], most: int = 3) -> list[Part]:
    """The parts that decide, at most so many: those that do not hold, then the undecided, then those nearest to their bound."""
    order = [Verdict.FAILS, Verdict.OPEN, Verdict.HOLDS]
    return sorted(parts, key=lambda part: (order.index(part.verdict), _room(part)))[:most]


def _room(part: Part) -> float:
    """How far the interval stays from the bound."""
    low, high, bound = part.estimate.low, part.estimate.high, part.bound
    rooms = [low - bound.at_least] if bound.at_least is not None else []
    rooms += [bound.at_most - high] if bound.at_most is not None else []
    return -math.inf if any(map(math.isnan, rooms)) else min(rooms)


def _line(claim: Claim, part: Part) -> str:
    estimate, words = part.estimate, KINDS[claim.quantity.kind].words
    said = f"{part.cell}: " if part.cell else ""
    number = f"{words} {_number(estimate.value)} ({_number(estimate.low)} to {_number(estimate.high)})"
    if math.isnan(estimate.low):
        why = "one example has no interval" if estimate.examples < 2 else "the whole input has no clear effect"
        number = f"{words} {_number(estimate.value)}, and {why}"
    count = f"{estimate.examples} example{'s' * (estimate.examples != 1)}"
    return f"{said}{number}, {part.bound}: {part.verdict}; {count}"


def _number(value: float) -> str:
    return "--" if math.isnan(value) else f"{value + 0.0:.3g}"


def _data(one: Checked) -> dict[str, Any]:
    claim = one.claim
    return {
        "text": claim.text,
        "line": claim.line,
        "verdict": str(one.verdict),
        "confidence": claim.confidence,
        "quantity": _quantity(claim.quantity),
        **({"minus": _quantity(claim.minus)} if claim.minus else {}),
        **({"seeds": asdict(claim.seeds)} if claim.seeds else {}),
        **({"source": asdict(claim.source)} if claim.source else {}),
        "checks": [
            {
                "seed": check.seed,
                "verdict": str(check.verdict),
                **({"reason": check.reason} if check.reason else {}),
                **({"note": check.note} if check.note else {}),
                "numbers": [_part(part) for part in check.parts],
            }
            for check in one.checks
        ],
    }


def _quantity(quantity: Quantity) -> dict[str, Any]:
    task = {"name": quantity.task.name, "options": dict(quantity.task.options), "seed": quantity.task.seed}
    return {
        "kind": quantity.kind,
        "what": quantity.what,
        "cell": {axis: list(values) for axis, values in quantity.cell.items()},
        "model": asdict(quantity.model),
        "task": task | ({"examples": quantity.task.examples} if quantity.task.examples else {}),
        "options": dict(quantity.options),
    }


def _part(part: Part) -> dict[str, Any]:
    numbers = {name: value if math.isfinite(value) else None for name, value in asdict(part.estimate).items()}
    return {"cell": part.cell, "other": part.other, **numbers, **asdict(part.bound), "verdict": str(part.verdict)}
