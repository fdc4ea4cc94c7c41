"""The off-by-one detector: how many tokens after a token a model writes the information about it (paper section 6.3).

For each layer, the detector patches the scan input (state-space models) or the values of all attention heads, at the token and
at each position after it. Later positions read both, and in both cases all other layers are frozen. So a share at B+1 means the
same in a Mamba and in a Transformer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from ..architecture.graph import Graph
from ..errors import CircuitryError, TaskError, expected, no_effect, suggest
from ..progress import together
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
"""A verdict mentions the sum of all effects if it differs from the whole effect by more than this fraction of it."""


@together()
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
    """Measure at which position, counted from a token, each model writes the information about that token.

    Args:
        models: one model or several: seeds of one architecture, or different architectures.
        task: its corruption must change ``token`` and nothing else.
        token: a named position; by default the one that the corruption changes.
        reach: the last position to measure, in tokens after ``token``; it must lie before END.
        resamples: bootstrap resamples of the examples, drawn with ``seed``, for intervals at ``level``.
        say: called with what runs next.
        options: passed to ``patch``: metric, direction, executor ...

    Raises CircuitryError if the task changes other tokens, the text is too short, or the examples are too few for any result.

    >>> import circuitry as ct
    >>> task = ct.task("induction", distance=8, examples=12)
    >>> off_by_one(ct.load("bundled:gpt_neox"), task).models[0].kind
    'on the token'
    """
    _check_options(options)
    chosen = list(models) if isinstance(models, Sequence) and not isinstance(models, str) else [models]
    _check_loaded(chosen)
    _check_numbers(len(chosen), reach, resamples, level)
    _check_different(chosen)
    name, tables = token or "", dict[str, PatchingTable]()
    records, verdicts = list[dict[str, Any]](), list[Verdict]()
    for label, model in zip(_labels(chosen), chosen, strict=True):
        prompts = task.prompts(model.vocabulary)
        name = changed_token(task, prompts, token)
        _check_room(prompts, name, reach)
        say(f"{label}: where {name} is written")
        positions = [position_name(name, n) for n in range(reach + 1)]
        tables[label] = table = _table(model, task, positions, options)
        layers, effects, whole_effect = arrays(table, positions)
        _check_examples(effects)
        measured = measure(effects, whole_effect, resamples=resamples, level=level, seed=seed)
        records += rows(label, model.graph.name, layers, measured)
        verdicts += _verdicts(label, model.graph.name, name, layers, measured)
    provenance = {"task": task.record, "reach": reach, "resamples": resamples, "level": level, "seed": seed}
    return Offsets(name, pd.DataFrame(records), tuple(verdicts), tables, provenance)


def paths(graph: Graph) -> dict[str, list[int]]:
    """The paths that measure where layers write, with an open position, and for each path the layers that it applies to.

    For states the scan input is patched, for attention the values of all heads of a layer at once. All other states and heads
    are frozen. Raises CircuitryError for an architecture with neither.

    >>> import circuitry as ct
    >>> list(paths(ct.graph("mamba")))
    ['ssm_in[{layer}] @ {position} -> logits freezing ssm_state except ssm_state[{layer}]']
    >>> paths(ct.graph("gpt2", layer=2, head=2))
    {'(head[{layer},0].v @ {position}, head[{layer},1].v @ {position}) -> logits freezing head': [0, 1]}
    """
    states, heads = ([family.name for family in graph.by_role(role)] for role in ("state", "head"))
    frozen, layers_by_path = ", ".join([*states, *heads]), dict[str, list[int]]()
    for state, write in zip(states, (family.name for family in graph.by_role("write_input")), strict=True):
        path = f"{write}[{{layer}}] @ {{position}} -> logits freezing {frozen} except {state}[{{layer}}]"
        layers_by_path[path] = _layers(graph, state)
    for head in heads:
        numbers = sorted({int(str(node.indices[1])) for node in graph.nodes(head)})
        values = ", ".join(f"{head}[{{layer}},{n}].v @ {{position}}" for n in numbers)
        layers_by_path[f"({values}) -> logits freezing {frozen}"] = _layers(graph, head)
    if not layers_by_path:
        raise CircuitryError(f"{graph.name} has neither states nor attention heads, so nothing moves information between tokens")
    return layers_by_path


def _layers(graph: Graph, family: str) -> list[int]:
    return sorted({int(str(node.indices[0])) for node in graph.nodes(family)})


def _table(model: Model, task: Task, positions: list[str], options: Mapping[str, Any]) -> PatchingTable:
    """Effects by layer and position, in one table for layers of all kinds."""
    from ..executing.open import executor
    from ..patching.experiment import patch

    arguments = {"lint": "prompts", "executor": executor(progress=False), "baseline": 0, **options}
    tables = [
        patch(model, task, path, axes={"layer": layers, "position": positions}, **arguments)
        for path, layers in paths(model.graph).items()
    ]
    frame = pd.concat([table.frame for table in tables], ignore_index=True)
    by_path = {str(table.provenance["path"]): table.provenance["path_data"][""] for table in tables}
    provenance = {**tables[0].provenance, "path": "; ".join(by_path), "path_data": by_path}
    return PatchingTable(frame, ("layer", "position"), tables[0].unit, provenance)


def arrays(table: PatchingTable, positions: Sequence[str]) -> tuple[list[int], Floats, Floats]:
    """Layers, effects [layer, offset, example] and the whole effect [example].

    ``positions`` are those of the offsets. Cells that cannot have an effect are missing from the table and are zero here.

    >>> import numpy as np
    >>> cells = [{"layer": n, "position": p} for n in (0, 1) for p in ("B", "B+1")]
    >>> table = PatchingTable.of(cells, np.arange(12.0).reshape(4, 3), np.zeros(3), np.ones(3), "logit")
    >>> layers, effects, whole_effect = arrays(table, ["B", "B+1", "B+2"])
    >>> layers, effects.shape, whole_effect.tolist()
    ([0, 1], (2, 3, 3), [1.0, 1.0, 1.0])
    """
    frame = table.frame
    layers = list(dict.fromkeys(frame["layer"]))
    wide = frame.pivot(index=["layer", "position"], columns="example", values="effect")
    wide = wide.reindex(pd.MultiIndex.from_product([sorted(layers), list(positions)]), fill_value=0.0)
    first = frame.drop_duplicates("example").sort_values("example")
    whole_effect = (first["source"] - first["base"]).to_numpy(float)
    return sorted(layers), wide.to_numpy(float).reshape(len(layers), len(positions), -1), whole_effect


def changed_token(task: Task, prompts: Prompts, token: str | None) -> str:
    """The one position that the task's corruption changes. Raises TaskError if it changes several, or another than ``token``.

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
    """The models' names; a repeated name gets a number."""
    seen: Counter[str] = Counter()
    for model in models:
        seen[model.name] += 1
        yield model.name if seen[model.name] == 1 else f"{model.name} #{seen[model.name]}"


def _check_loaded(models: Sequence[object]) -> None:
    for model in models:
        if isinstance(model, str):
            raise CircuitryError(expected("a loaded model", model, f"try ct.load({model!r})"))


def _check_options(options: Mapping[str, Any]) -> None:
    """Refuse options of ``patch`` that the detector sets itself or does not use."""
    if options.get("baseline", 0) != 0:
        why = "a verdict compares positions with each other and with the whole effect, not with random nodes"
        raise no_effect("baseline", options["baseline"], why, "leave baseline out")
    if reserved := [name for name in ("axes",) if name in options]:
        raise CircuitryError(
            f"{reserved[0]}= is set by the detector, which measures every layer from the token to reach; leave it out"
        )
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
    """Refuse the same weights twice: "n of m models" would count them twice."""
    # A fingerprint reads every weight, so a single model is not asked for one.
    fingerprints = [model.fingerprint for model in models] if len(models) > 1 else []
    if twice := [
        model.name for model, fingerprint in zip(models, fingerprints, strict=False) if fingerprints.count(fingerprint) > 1
    ]:
        raise CircuitryError(f"{' and '.join(twice)} have the same weights; each model is counted once, so give it once")


def _check_room(prompts: Prompts, token: str, reach: int) -> None:
    """Refuse a reach up to END or beyond: at END the answer is read, so the model need not write anything there."""
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


def _verdicts(label: str, architecture: str, token: str, layers: list[int], measured: Measured) -> Iterator[Verdict]:
    """The verdict on the whole model, then those on its layers."""
    last = position_name(token, measured.mean.shape[1] - 1)
    nothing = f"no position from {token} to {last} has {WRITE_FLOOR:.0%} of the whole effect at q < {SIGNIFICANT}"
    if not measured.there:
        clear, why = ("no ", f"p = {measured.whole_p:.2g}")
        if measured.whole_p < SIGNIFICANT:
            clear, why = ("no clear ", "too few examples for effects this skewed")
        nothing = f"corrupting {token} has {clear}effect on what is measured ({why})"
    named: list[tuple[int | str, str, Profile | None]] = [("all", label, measured.model)]
    named += [(n, f"{label}, layer {n}", profile) for n, profile in zip(layers, measured.layers, strict=True)]
    for layer, name, profile in named:
        kind = kind_of(profile)
        if profile is None:
            yield Verdict(label, architecture, layer, kind, (), (), (), (), 0.0, f"{name}: none: {nothing}")
        else:
            words = in_words(token, profile, measured.part if layer == "all" else None) + _middle(token, profile)
            if layer == "all" and abs(measured.mean.sum() - 1) > APART:
                words += f"; effects add up to {measured.mean.sum():.0%} of the whole effect"
            yield Verdict(
                label,
                architecture,
                layer,
                kind,
                profile.at,
                profile.open,
                profile.peak,
                profile.centre,
                profile.weight,
                f"{name}: {kind}: {words}",
            )


def _middle(token: str, profile: Profile) -> str:
    """If several offsets may carry the token: which has the largest share, and the mean offset."""
    if profile.meaningless or (len(profile.at) == 1 and not profile.open):
        return ""
    middle, low, high = profile.centre
    return f"; most at {' or '.join(position_name(token, n) for n in profile.peak)}, mean offset {middle:.2f} ({low:.2f} to {high:.2f})"
