"""A hundred true and false claims about compiled models, written from their truths: every verdict is right."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

import circuitry as ct
from circuitry.compiled import GroundTruth, truth
from circuitry.compiled.truth import span
from circuitry.errors import PathError

TASKS: dict[str, dict[str, Any]] = {
    name: {"name": "induction", "distance": 4, "prefix": 1, "corruption": "B", "examples": 6}
    for name in ("transformer", "mamba", "mamba2", "rwkv", "gated_delta")
} | {"ioi": {"name": "ioi", "corruption": "ABC", "template": 0, "order": "ABBA", "examples": 6}}
PER_MODEL = 17
"""Of six models: 102 claims, about half of them true."""


class Written(NamedTuple):
    """A claim as a file has it, and whether it is true by construction."""

    claim: dict[str, Any]
    true: bool


def sites(known: GroundTruth, corruption: str) -> dict[str, tuple[str, ...]]:
    """The ends of the positions of every node that matters."""
    found: dict[str, tuple[str, ...]] = {}
    for node in known.nodes:
        if node.corruption == corruption and node.node != "logits":
            first, _, last = node.positions.partition("..")
            found[node.node] = (*found.get(node.node, ()), first, *([last] if last else []))
    return found


def idle(model: ct.Model, known: GroundTruth, task: ct.Task) -> Iterator[tuple[str, str]]:
    """Nodes at positions where nothing in them matters, though information can pass there."""
    where = {name: int(at[0]) for name, at in task.prompts(model.vocabulary).where.items()}
    matter = known.sites(task.options["corruption"], where)
    for at in ("END", next(name for name in where if name != "END")):
        for node in model.graph.nodes():
            if (str(node), span(at, where)[0]) in matter or str(node) == "logits":
                continue
            try:
                ct.explain(model, task, f"{node} @ {at} -> logits")
            except PathError:
                continue
            yield str(node), at


def about(name: str, model: ct.Model) -> Iterator[Written]:
    """Claims on nodes that matter and nodes that do not, on what the model answers, and on differences; each true and false."""
    options = {key: value for key, value in TASKS[name].items() if key != "name"}
    task = ct.task(TASKS[name]["name"], **options)
    known = truth(name, task.name)
    yield Written({"accuracy": "top-1", "at_least": 0.5}, True)
    yield Written({"accuracy": "top-1", "at_most": 0.5}, False)
    matter = [(node, at) for node, positions in sites(known, task.options["corruption"]).items() for at in positions]
    silent = list(idle(model, known, task))
    for number, ((node, at), (other, place)) in enumerate(zip(_spread(matter), _spread(silent), strict=True)):
        path, nothing = f"{node} @ {at} -> logits", f"{other} @ {place} -> logits"
        yield Written({"effect": path, "at_least": 0.2}, True)
        yield Written({"effect": path, "at_most": 0.1}, False)
        yield Written({"effect": nothing, "at_least": -0.001, "at_most": 0.001}, True)
        yield Written({"effect": nothing, "at_least": 0.1}, False)
        if number % 2:
            yield Written({"effect": path, "minus": {"effect": nothing}, "at_least": 0.2}, True)
            yield Written({"effect": nothing, "minus": {"effect": path}, "at_least": 0}, False)
        else:
            yield Written({"change": nothing, "at_least": -0.01, "at_most": 0.01}, True)


def _spread(found: list[Any], count: int = 3) -> list[Any]:
    """Some of a list, evenly from its first to its last."""
    return [found[number * (len(found) - 1) // (count - 1)] for number in range(count)]


@pytest.fixture(scope="module")
def judged() -> list[tuple[str, Written, str, list[str]]]:
    """Model, claim, verdict and numbers of a hundred claims."""
    written, models = [], {}
    for name in TASKS:
        models[f"compiled:{name}"] = model = ct.load(f"compiled:{name}")
        claims = list(about(name, model))
        assert len(claims) >= PER_MODEL
        written += [(name, claim) for claim in claims]
    entries = [
        {"text": f"claim {number}", "model": f"compiled:{name}", "task": TASKS[name], **one.claim}
        for number, (name, one) in enumerate(written)
    ]
    checked = ct.check(entries, models=models).checked
    return [(name, one, str(each.verdict), each.numbers()) for (name, one), each in zip(written, checked, strict=True)]


def test_every_verdict_is_that_of_the_truth(judged: list[tuple[str, Written, str, list[str]]]) -> None:
    assert len(judged) >= 100
    assert 0.4 < sum(one.true for _, one, _, _ in judged) / len(judged) < 0.6
    wrong = [row for row in judged if row[2] != ("holds" if row[1].true else "does not hold")]
    assert wrong == []


def test_a_sweep_names_the_only_head_and_no_other() -> None:
    """The truth of the compiled Transformer has one induction head at END; its distractors have no effect."""
    [head] = {n.node for n in truth("transformer").nodes if n.role == "induction head"}
    layer, number = head.removeprefix("head[").removesuffix("]").split(",")
    claim = {
        "text": "One head", "model": "compiled:transformer", "task": TASKS["transformer"],
        "effect": "head[{layer},{head}] @ END -> logits",
    }  # fmt: skip
    right = {**claim, "cell": {"layer": int(layer), "head": int(number)}, "at_least": 0.99, "others": {"at_most": 0.001}}
    wrong = {**claim, "cell": {"layer": 0, "head": int(number)}, "at_least": 0.01}
    also = {**claim, "cell": {"layer": 0, "head": 1}, "at_most": 0.01, "others": {"at_most": 0.001}}
    assert ct.check([right, wrong, also]).verdicts == ["holds", "does not hold", "does not hold"]


def test_what_has_no_variance_is_decided_at_the_bound_itself() -> None:
    """All of the effect is 1 up to rounding, which decides nothing."""
    claim = {"text": "All of it", "model": "compiled:mamba", "task": TASKS["mamba"], "effect": "embed @ B -> logits"}
    checked = ct.check([{**claim, "at_least": 1}, {**claim, "at_most": 1}, {**claim, "at_least": 1.001}])
    assert checked.verdicts == ["holds", "holds", "does not hold"]
