"""Tables of several paths, of which some may be without any effect: the suite leaves these out and says so.

Which paths these are depends on the model. A query of layer 0 sees one token only, and a window may be shorter than the prompt.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ..errors import PathError
from ..paths.labelled import labelled
from ..results.table import PatchingTable
from .study import Study


def patch_possible(
    study: Study, title: str, axis: str, paths: Mapping[Any, str], *, task: Mapping[str, Any] | None = None, **axes: Any
) -> PatchingTable | None:
    """``Study.patch`` of labelled paths without those that cannot have an effect, which ``provenance["skipped"]`` lists.

    None if that is all of them; then ``study.left_out`` has the reason.

    >>> import circuitry as ct
    >>> study = Study(ct.load("bundled:gpt_neox"), ct.task("induction", distance=8, examples=2))
    >>> paths = {layer: f"head[{layer},0].q @ B -> logits freezing head" for layer in (0, 1)}
    >>> patch_possible(study, "Queries", "layer", paths), len(study.left_out)
    (None, 1)
    """
    try:
        return study.patch(title, labelled(axis, paths), task=task, **axes)
    except PathError:
        refused = {label: study.refusal(path, task=task, **axes) for label, path in paths.items()}
    rest = {label: path for label, path in paths.items() if not refused[label]}
    if not rest:
        study.left_out.append(f"{title} ({next(iter(refused.values()))})")
        return None
    table = study.patch(title, labelled(axis, rest), task=task, **axes)
    table.provenance["skipped"] += [f"{ {axis: label} }: {reason}" for label, reason in refused.items() if reason]
    return table


def possible_set(
    study: Study, path: Callable[[list[Any]], str], members: Iterable[Any], *, task: Mapping[str, Any] | None = None, **axes: Any
) -> str:
    """The path of a set without the members that make it impossible; "" if none is left. The first members have precedence.

    >>> import circuitry as ct
    >>> study = Study(ct.load("bundled:gpt_neox"), ct.task("induction", distance=8, examples=2))
    >>> possible_set(study, lambda heads: f"({', '.join(heads)}) -> logits freezing head", ["head[0,1].q", "head[1,0].q", "head[1,2].q"])
    '(head[1,0].q, head[1,2].q) -> logits freezing head'
    """

    def refused(chosen: list[Any]) -> str:
        return study.refusal(path(chosen), task=task, **axes)

    alone, kept = [member for member in members if not refused([member])], list[Any]()
    if len(alone) > 1 and refused(alone):  # each is possible in some cell, but in no cell all of them
        for member in alone:
            kept += [] if refused([*kept, member]) else [member]
    return path(kept or alone) if alone else ""
