"""What a page about a run shows and no table holds: the prompts, what the model answers, where heads attend, what taps bring.

Two or three forward passes of a few prompts each. A run writes it beside its tables, as ``explorer.json``.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from ..errors import CircuitryError
from ..executing.activations import read
from ..models.model import Model
from ..paths.values import Node
from ..prompting.prompts import Ids, Prompts
from ..reports.nodes import site_of
from .file import FORMAT, significant

Floats: TypeAlias = NDArray[np.float64]
PROMPTS, ANSWERS, AT_ONCE = 64, 5, 4
"""How many prompts are described, with how many of the likeliest next tokens, and how many run at a time."""
LOGITS = 1 << 24
"""How many logits are kept at a time, where one prompt has not more."""
PATTERN_BYTES = 1_500_000
"""Patterns of single prompts take so much at most; further prompts have none."""


def observe(
    model: Model, prompts: Prompts, nodes: Sequence[str], positions: Sequence[str], numbers: Sequence[int] = ()
) -> dict[str, Any]:
    """Prompts with answers, attention patterns of the heads and sizes of the taps among ``nodes``, as plain data.

    ``nodes`` are named as in a circuit ("head[1,0] @ END"); ``positions`` are those of the circuit. ``numbers`` are the prompts' numbers
    among the task's examples, by default 0, 1, 2 ... At most ``PROMPTS`` prompts are described; means are over all of them.

    >>> import circuitry as ct
    >>> model, task = ct.load("bundled:gpt_neox"), ct.task("induction", distance=4, examples=2)
    >>> seen = observe(model, task.prompts(model.vocabulary), ["head[1,0] @ END", "k of these heads"], ["A", "B", "END"])
    >>> sorted(seen), sorted(seen["patterns"]), len(seen["patterns"]["head[1,0]"]["mean"][2])
    (['format', 'patterns', 'prompts', 'taps'], ['head[1,0]'], 4)
    """
    named = {name: at for name in positions if (at := _tokens(prompts, name)) is not None}
    hosts = _hosts(model, nodes)
    heads = [node for node in hosts if _has(model, f"{node}.pattern")]
    taps = list(dict.fromkeys(tap for node in hosts for tap in _taps(model, node)))
    return {
        "format": FORMAT,
        "prompts": _described(model, prompts, list(numbers) or list(range(len(prompts))), named),
        "patterns": _patterns(model, prompts, heads, named),
        "taps": _sizes(model, prompts, taps, named),
    }


def in_text_order(prompts: Prompts, names: Iterable[str]) -> tuple[str, ...]:
    """Names of positions in the order of the text, on the mean of the prompts; those that name no single token come last.

    >>> import circuitry as ct
    >>> prompts = ct.task("induction", distance=4, examples=2).prompts(ct.load("bundled:mamba").vocabulary)
    >>> in_text_order(prompts, ["END", "every position", "B+1", "A"])
    ('A', 'B+1', 'END', 'every position')
    """
    places = {name: _tokens(prompts, name) for name in names}
    return tuple(sorted(places, key=lambda name: np.inf if (at := places[name]) is None else float(at.mean())))


def _tokens(prompts: Prompts, name: str) -> Ids | None:
    """The token [example] that a position of a circuit names; None for one that names several, such as "rest"."""
    site = site_of(f"x @ {name}")
    try:
        return prompts.tokens(site.at) if site is not None and site.at is not None else None
    except CircuitryError:
        return None


def _hosts(model: Model, nodes: Sequence[str]) -> list[Node]:
    """The nodes of the model among the names of a circuit's boxes, without positions and ports."""
    hosts: dict[Node, None] = {}
    for name in nodes:
        site = site_of(name)
        text = f"{site.node.family}[{','.join(map(str, site.node.indices))}]" if site and site.node.indices else ""
        if text and _has(model, text):
            hosts[model.graph.node(text)] = None
    return list(hosts)


def _has(model: Model, name: str) -> bool:
    try:
        model.graph.place(model.graph.node(name))
    except CircuitryError:
        return False
    return True


def _taps(model: Model, node: Node) -> list[Node]:
    """The taps of the convolution in whose layer a node of the convolution or of what it feeds is."""
    graph = model.graph
    if graph.family(node.family).role not in ("conv_input", "conv_edge", "write_input", "conv_value"):
        return []
    layer = node.indices[0]
    return [each for each in graph.nodes(layer=layer) if graph.family(each.family).role == "conv_edge"]  # type: ignore[arg-type]


def _described(model: Model, prompts: Prompts, numbers: list[int], named: Mapping[str, Ids]) -> list[dict[str, Any]]:
    """Each prompt as text, with its named tokens and what the model answers on both sides."""
    count = min(len(prompts), PROMPTS)
    sides = [
        (_text(model, ids), _likeliest(model, ids[:count], prompts.where["END"][:count]))
        for ids in (prompts.clean, prompts.corrupted)
    ]
    every = {**prompts.where, **named}
    rows = []
    for i in range(count):
        row: dict[str, Any] = {"number": int(numbers[i]), "at": {name: int(at[i]) for name, at in every.items()}}
        for side, (texts, likely) in zip(("clean", "corrupted"), sides, strict=True):
            row[side], row[f"{side}_answers"] = texts[i][: prompts.stops[i]], likely[i]
        row["answer"], row["foil"] = _one(model, prompts.answer[i]), _one(model, prompts.foil[i])
        rows.append(row)
    return rows


def _text(model: Model, ids: Ids) -> list[list[str]]:
    return [[_one(model, token) for token in row] for row in ids[:PROMPTS]]


def _one(model: Model, token: int) -> str:
    """A token as text, or its number if the model has no tokenizer."""
    return str(int(token)) if model.tokenizer is None else str(model.tokenizer.decode([int(token)]))


def _likeliest(model: Model, ids: Ids, end: Ids) -> list[list[tuple[str, float]]]:
    """The likeliest next tokens after END of each prompt, with their probabilities."""
    logits = model.graph.by_role("logits")[0].name
    rows: list[list[tuple[str, float]]] = []
    each = ids.shape[1] * int(model.hf.config.vocab_size)  # logits of one prompt
    for part in _parts(len(ids), max(1, min(AT_ONCE, LOGITS // each))):
        [values] = read(model, [logits], ids[part]).values()
        last = values[torch.arange(len(values)), torch.from_numpy(end[part])].float().softmax(-1)
        best = last.topk(min(ANSWERS, last.shape[-1]))
        rows += [
            [(_one(model, int(token)), significant(float(p))) for token, p in zip(tokens, values, strict=True)]
            for tokens, values in zip(best.indices, best.values, strict=True)
        ]
    return rows


def _parts(count: int, size: int = AT_ONCE) -> Iterator[slice]:
    yield from (slice(start, start + size) for start in range(0, count, size))


def _patterns(model: Model, prompts: Prompts, heads: list[Node], named: Mapping[str, Ids]) -> dict[str, Any]:
    """For each head the mean attention from each position of the circuit to each, and to all other tokens; and each prompt's pattern."""
    if not heads or not named:
        return {}
    sums, each = np.zeros((len(heads), len(named), len(named) + 1)), [list[str]() for _ in heads]
    at, room = np.stack(list(named.values()), 1), PATTERN_BYTES
    for part in _parts(len(prompts)):
        values = read(model, [f"{head}.pattern" for head in heads], prompts.clean[part])
        patterns = np.stack([value.float().cpu().numpy() for value in values.values()], 1)  # [row, head, query, key]
        for row, example in zip(patterns, range(part.start, len(prompts)), strict=False):
            whole = row[:, : prompts.stops[example], : prompts.stops[example]]
            found = whole[:, at[example]][:, :, at[example]]
            sums += np.concatenate([found, whole[:, at[example]].sum(-1, keepdims=True) - found.sum(-1, keepdims=True)], -1)
            room -= whole.size * 4 // 3
            if example < PROMPTS and room >= 0:
                for number, pattern in enumerate(whole):
                    each[number].append(base64.b64encode(np.rint(pattern * 255).astype(np.uint8).tobytes()).decode())
    means = (sums / len(prompts)).round(5)
    return {
        str(head): {"positions": list(named), "mean": mean.tolist(), "prompts": ones}
        for head, mean, ones in zip(heads, means, each, strict=True)
    }


def _sizes(model: Model, prompts: Prompts, taps: list[Node], named: Mapping[str, Ids]) -> dict[str, Any]:
    """The mean norm of what each tap brings to each position of the circuit, by layer and lag."""
    if not taps or not named:
        return {}
    at, sums = np.stack(list(named.values()), 1), np.zeros((len(taps), len(named)))
    for part in _parts(len(prompts)):
        values = read(model, taps, prompts.clean[part])
        norms = np.stack([value.float().norm(dim=-1).cpu().numpy() for value in values.values()])  # [tap, row, pos]
        rows = at[part]
        sums += norms[:, np.arange(len(rows))[:, None], rows].sum(1)
    return {
        str(tap): {"positions": list(named), "size": [significant(v) for v in row]}
        for tap, row in zip(taps, (sums / len(prompts)).tolist(), strict=True)
    }
