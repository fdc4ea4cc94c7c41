"""Ways to break freezing and the suffix executor, each with an experiment in which that must show."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from circuitry.architecture import Graph, Place
from circuitry.executing.suffix import guarded
from circuitry.paths import Node
from support.agreement import apart, model, planned, ragged

Breaks = Callable[[pytest.MonkeyPatch], None]
Mutants = dict[str, tuple[Breaks, str, str]]
"""By name: what breaks it, the kind of model and the path."""

PROMPTS = ragged(3)
EXACT, SEEN = 1e-10, 1e-6


def drop_freezing_place(patch: pytest.MonkeyPatch, dropped: int) -> None:
    """Freeze a state through two of the three places that write it."""
    freezing_places = Graph.freezing_places

    def fewer(self: Graph, node: Node) -> list[Place]:
        places = freezing_places(self, node)
        assert len(places) == 3
        return places[:dropped] + places[dropped + 1 :]

    patch.setattr(Graph, "freezing_places", fewer)


def into(mutants: Mutants) -> Callable[[str, str], Callable[[Breaks], Breaks]]:
    """A decorator that adds a mutant, given the kind of model and the path."""

    def mutant(kind: str, path: str) -> Callable[[Breaks], Breaks]:
        def add(breaks: Breaks) -> Breaks:
            mutants[breaks.__name__] = breaks, kind, path
            return breaks

        return add

    return mutant


def wrap(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, change: Callable[..., Any]) -> None:
    """``change`` is given what the function really returns, and its arguments."""
    real = getattr(owner, name)
    monkeypatch.setattr(owner, name, lambda *args: change(real(*args), *args))


def check_noticed(breaks: Breaks, kind: str, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The comparison with the reference must notice, without the guards."""
    monkeypatch.setattr(guarded, "guards_of", lambda *_: iter(()))
    assert error(kind, path) < EXACT
    breaks(monkeypatch)
    assert not error(kind, path) < SEEN


def error(kind: str, path: str) -> float:
    """How far the executor is from the reference."""
    return apart(model(kind), planned(model(kind), [path], PROMPTS), PROMPTS, ("logit", "foil_logit"))
