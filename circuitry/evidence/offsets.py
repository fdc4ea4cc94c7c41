"""The off-by-one detector: how many tokens after a token a model writes what it later needs of it (paper section 6.3).

For each layer of what carries information along the text, the detector measures where the token is written: into a state-space
model's scan input, or into the values of all attention heads, at the token and at each position after it. Later positions read
both, and in both all other layers are frozen, so that a share at B+1 means the same in a Mamba and in a Transformer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from ..architecture.graph import Graph
from ..errors import CircuitryError, TaskError, expected, no_effect, suggest
from ..prompting.prompts import Prompts
from ..prompting.task import Task
from ..results.skewness import ENOUGH
from ..results.table import PatchingTable
from ..thresholds import SIGNIFICANT, WRITE_FLOOR
from .offsets_result import Offsets, Verdict
from .write_profile import Floats, Measured, Profile, in_words, kind_of, least_examples, measure, position_name, rows

if TYPE_CHECKING:
    from ..models.model import Model

APART = 0.25
"""A verdict says what the effects of all cells add up to where that differs from the whole effect by more than this part of it."""


def off_by_one(
    models: Model | Sequence[Model],
    task: Task,
    token: str | None = None,
    *,
    reach: int = 4,
    resamples: int = 2000,
    level: float = 0.95,
    seed: int = 0,
    say: Callable[[str], None] = lambda _: None,
    **options: Any,
) -> Offsets:
    """At which position, counted from a token, each model writes what it needs of that token.

    Args:
        models: one model or several: seeds of one architecture, or different ones.
        task: its corruption must change ``token`` and nothing else.
        token: a position's name; by default the one that the corruption changes.
        reach: the last position looked at, in tokens after ``token``; all must lie before END.
        resamples: bootstrap resamples of the examples, drawn with ``seed``, for intervals at ``level``.
        say: told what runs next. ``options`` go to ``patch``: metric, direction, executor ...

    Raises CircuitryError where the task changes other tokens, the text is too short, or the examples are too few for any result.

    >>> import circuitry as ct
    >>> task = ct.task("induction", distance=8, examples=12)
    >>> off_by_one(ct.load("bundled:gpt_neox"), task).models[0].kind
    'on the token'
    """
    _check_options(options)
    chosen = list(models) if isinstance(models, Sequence) else [models]
    _check_numbers(len(chosen), reach, resamples, level)
    _check_different(chosen)
    name, tables = token or "", dict[str, PatchingTable]()
    found, verdicts = list[dict[str, Any]](), list[Verdict]()
    for label, model in zip(_labels(chosen), chosen, strict=True):
        prompts = task.prompts(model.vocabulary)
        name = changed_token(task, prompts, token)
        _check_room(prompts, name, reach)
        say(f"{label}: where {name} is written")
        positions = [position_name(name, n) for n in range(reach + 1)]
        tables[label] = table = _table(model, task, positions, options)
        layers, effects, whole = arrays(table, positions)
        _check_examples(effects)
        measured = measure(effects, whole, resamples=resamples, level=level, seed=seed)
        found += rows(label, model.graph.name, layers, measured)
        verdicts += _verdicts(label, model.graph.name, name, layers, measured)
    provenance = {"task": task.record, "reach": reach, "resamples": resamples, "level": level, "seed": seed}
    return Offsets(name, pd.DataFrame(found), tuple(verdicts), tables, provenance)


def paths(graph: Graph) -> dict[str, list[int]]:
    """The paths that measure where each kind of layer writes, at an open position, with the layers that have it.

    A state is patched at what is written to it, attention at the values of all heads of a layer at once; every other state and
    head is held. Raises CircuitryError for an architecture with neither.

    >>> import circuitry as ct
    >>> list(paths(ct.graph("mamba")))
    ['ssm_in[{layer}] @ {position} -> logits freezing ssm_state except ssm_state[{layer}]']
    >>> paths(ct.graph("gpt2", layer=2, head=2))
    {'(head[{layer},0].v @ {position}, head[{layer},1].v @ {position}) -> logits freezing head': [0, 1]}
    """
    states, heads = ([family.name for family in graph.by_role(role)] for role in ("state", "head"))
    frozen, made = ", ".join([*states, *heads]), dict[str, list[int]]()
    for state, write in zip(states, (family.name for family in graph.by_role("write_input")), strict=True):
        path = f"{write}[{{layer}}] @ {{position}} -> logits freezing {frozen} except {state}[{{layer}}]"
        made[path] = _layers(graph, state)
    for head in heads:
        numbers = sorted({int(str(node.indices[1])) for node in graph.nodes(head)})
        values = ", ".join(f"{head}[{{layer}},{n}].v @ {{position}}" for n in numbers)
        made[f"({values}) -> logits freezing {frozen}"] = _layers(graph, head)
    if not made:
        raise CircuitryError(
            f"{graph.name} has neither states nor attention heads, so nothing carries information along the text"
        )
    return made


def _layers(graph: Graph, family: str) -> list[int]:
    return sorted({int(str(node.indices[0])) for node in graph.nodes(family)})


def _table(model: Model, task: Task, positions: list[str], options: Mapping[str, Any]) -> PatchingTable:
    """Effects by layer and position, whatever the layers are."""
    from ..executing.open import executor
    from ..patching.experiment import patch

    given = {"lint": "prompts", "executor": executor(progress=False), "baseline": 0, **options}
    made = [
        patch(model, task, path, axes={"layer": layers, "position": positions}, **given)
        for path, layers in paths(model.graph).items()
    ]
    frame = pd.concat([table.frame for table in made], ignore_index=True)
    by_path = {str(table.provenance["path"]): table.provenance["path_data"][""] for table in made}
    provenance = {**made[0].provenance, "path": "; ".join(by_path), "path_data": by_path}
    return PatchingTable(frame, ("layer", "position"), made[0].unit, provenance)


def arrays(table: PatchingTable, positions: Sequence[str]) -> tuple[list[int], Floats, Floats]:
    """Layers, effects [layer, offset, example] and the whole effect [example]; zero where a cell can have no effect.

    ``positions`` are those of the offsets: one at which no layer can have an effect is not in the table.

    >>> import numpy as np
    >>> cells = [{"layer": n, "position": p} for n in (0, 1) for p in ("B", "B+1")]
    >>> made = arrays(PatchingTable.of(cells, np.arange(12.0).reshape(4, 3), np.zeros(3), np.ones(3), "logit"), ["B", "B+1", "B+2"])
    >>> made[0], made[1].shape, made[2].tolist()
    ([0, 1], (2, 3, 3), [1.0, 1.0, 1.0])
    """
    frame = table.frame
    layers = list(dict.fromkeys(frame["layer"]))
    wide = frame.pivot(index=["layer", "position"], columns="example", values="effect")
    wide = wide.reindex(pd.MultiIndex.from_product([sorted(layers), list(positions)]), fill_value=0.0)
    first = frame.drop_duplicates("example").sort_values("example")
    whole = (first["source"] - first["base"]).to_numpy(float)
    return sorted(layers), wide.to_numpy(float).reshape(len(layers), len(positions), -1), whole


def changed_token(task: Task, prompts: Prompts, token: str | None) -> str:
    """The one position the task's corruption changes. Raises TaskError where it changes more, or another than ``token``.

    >>> import circuitry as ct
    >>> from circuitry.models import Vocabulary
    >>> task = ct.task("induction", distance=8, examples=2, corruption="A")
    >>> changed_token(task, task.prompts(Vocabulary.of(None, 40)), "B")
    Traceback (most recent call last):
    circuitry.errors.TaskError: B's write position shows only if B alone is corrupted, and the task corrupts A; try corruption='B'
    """
    if not prompts.changed:
        raise TaskError(f"{task!r} does not name the token that it corrupts, so its write position cannot be measured")
    wanted, changed = token or prompts.changed[0], prompts.changed
    if wanted not in prompts.where:
        raise TaskError(f"task {task.name!r} names no position {wanted!r}; {suggest(wanted, prompts.where)}")
    if changed != (wanted,):
        hint = f"; try corruption={wanted!r}" if "corruption" in task.options else ""
        raise TaskError(
            f"{wanted}'s write position shows only if {wanted} alone is corrupted, and the task corrupts {', '.join(changed)}{hint}"
        )
    return wanted


def _labels(models: Sequence[Model]) -> Iterator[str]:
    """The models' names, numbered where one comes again."""
    seen: Counter[str] = Counter()
    for model in models:
        seen[model.name] += 1
        yield model.name if seen[model.name] == 1 else f"{model.name} #{seen[model.name]}"


def _check_options(options: Mapping[str, Any]) -> None:
    """Refuse options of ``patch`` that the detector sets itself, or makes no use of."""
    if options.get("baseline", 0) != 0:
        why = "a verdict compares positions with each other and with the whole effect, not with random nodes"
        raise no_effect("baseline", options["baseline"], why, "leave baseline out")
    if mine := [name for name in ("axes",) if name in options]:
        raise CircuitryError(f"{mine[0]}= is the detector's own: it looks at every layer, from the token to reach; leave it out")
    if isinstance(options.get("metric"), list | tuple):
        raise CircuitryError(f"the detector measures one metric, got {options['metric']!r}; name one")


def _check_numbers(models: int, reach: int, resamples: int, level: float) -> None:
    if not models:
        raise CircuitryError(expected("a model or a list of models", []))
    if reach < 1:
        raise CircuitryError(f"reach must be at least 1, got {reach}")
    if resamples < 100:
        raise CircuitryError(f"resamples must be at least 100, got {resamples}; 2000 is usual")
    if not 0.5 <= level < 1:
        raise CircuitryError(f"level must be at least 0.5 and below 1, got {level}; 0.95 is usual")


def _check_different(models: Sequence[Model]) -> None:
    """What holds in n of m models says nothing where one of them is counted twice."""
    prints = [model.fingerprint for model in models] if len(models) > 1 else []
    if twice := [model.name for model, own in zip(models, prints, strict=False) if prints.count(own) > 1]:
        raise CircuitryError(f"{' and '.join(twice)} have the same weights; each model is counted once, so give it once")


def _check_room(prompts: Prompts, token: str, reach: int) -> None:
    """All positions looked at lie before END: there, the answer is read off and nothing needs to be kept."""
    room = int((prompts.where["END"] - prompts.where[token]).min()) - 1
    if room < reach:
        instead = f"reach={room} or a longer text" if room >= 1 else "a longer text"
        raise TaskError(f"{position_name(token, reach)} does not lie before END in every example; try {instead}")


def _check_examples(effects: Floats) -> None:
    layers, offsets, examples = effects.shape
    if examples < (least := least_examples(layers * offsets)):
        raise TaskError(
            f"{examples} examples cannot show anything at q < {SIGNIFICANT} over {layers * offsets} cells; try examples={least}"
        )
    if (seen := effects.size + examples) < ENOUGH:
        raise TaskError(
            f"{seen} effects, {examples} examples of {layers * offsets} cells and of the whole, are too few to tell how skewed they are; "
            f"examples={-(-ENOUGH // (layers * offsets + 1))} is enough"
        )


def _verdicts(label: str, architecture: str, token: str, layers: list[int], found: Measured) -> Iterator[Verdict]:
    """The whole model first, then its layers."""
    last = position_name(token, found.mean.shape[1] - 1)
    nothing = f"no position from {token} to {last} has {WRITE_FLOOR:.0%} of the whole effect at q < {SIGNIFICANT}"
    if not found.there:
        clear, why = ("no ", f"p = {found.whole_p:.2g}")
        if found.whole_p < SIGNIFICANT:
            clear, why = ("no clear ", "too few examples for effects this skewed")
        nothing = f"corrupting {token} has {clear}effect on what is measured ({why})"
    named: list[tuple[int | str, str, Profile | None]] = [("all", label, found.model)]
    named += [(n, f"{label}, layer {n}", one) for n, one in zip(layers, found.layers, strict=True)]
    for layer, name, one in named:
        kind = kind_of(one)
        if one is None:
            yield Verdict(label, architecture, layer, kind, (), (), (), (), 0.0, f"{name}: none: {nothing}")
        else:
            words = in_words(token, one, found.part if layer == "all" else None) + _middle(token, one)
            if layer == "all" and abs(found.mean.sum() - 1) > APART:
                words += f"; effects add up to {found.mean.sum():.0%} of the whole effect"
            yield Verdict(
                label, architecture, layer, kind, one.at, one.open, one.peak, one.centre, one.weight, f"{name}: {kind}: {words}"
            )


def _middle(token: str, one: Profile) -> str:
    """Where several offsets may carry the token: which has most, and where the middle lies."""
    if one.meaningless or (len(one.at) == 1 and not one.open):
        return ""
    middle, low, high = one.centre
    return (
        f"; most at {' or '.join(position_name(token, n) for n in one.peak)}, mean offset {middle:.2f} ({low:.2f} to {high:.2f})"
    )
