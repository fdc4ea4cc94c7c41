"""Reads the file of a discovery, with its model or without."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np

from ..architecture.definitions import definition
from ..architecture.graph import Graph
from ..errors import CircuitryError
from ..models.model import Model
from ..patching.measured import MetricLike
from ..patching.provenance import autoencoders
from ..paths.parse import parse_node
from ..paths.values import Node
from ..planning.metrics import METRICS, Metric
from ..prompting.task import Task
from .positions import Labels
from .question import Question
from .result import Discovery
from .saving import FORMAT, KEY
from .search import asked
from .wiring import Wiring


class Absent:
    """Stands for the model, the task or the prompts of a discovery that was read without them: it has a name and a number only."""

    def __init__(self, name: str, count: int = 0) -> None:
        self.name, self._count = name, count

    def __len__(self) -> int:
        return self._count

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise CircuitryError(
            "this discovery was read without its model and task, so nothing can be run; give both: "
            "circuitry.discovery.read(path, model, task)"
        )


def read(
    path: str | Path, model: Model | None = None, task: Task | None = None, *, metric: MetricLike | None = None
) -> Discovery:
    """Read a discovery from the .json file that ``Discovery.save`` wrote.

    Without ``model`` and ``task`` it has its table, ranking, agreement and circuits. A curve and scores run the model, so they need
    both. ``metric``: needed with these if it was a custom function.

    Raises CircuitryError for a file without a discovery, for one of another model or task, and for a model without a task.

    >>> import tempfile
    >>> import circuitry as ct
    >>> file = Path(tempfile.mkdtemp()) / "found.json"
    >>> ct.discover(ct.load("bundled:mamba"), ct.task("induction", distance=8, examples=8), verify=2).save(file)
    >>> found = read(file)
    >>> found.ranking["edge"][0], len(found.circuit(edges=40).cells) > 20
    ('ssm_in[0].skip -> ssm_out[0]', True)
    """
    if (model is None) != (task is None):
        raise CircuitryError("give both the model and the task, or neither")
    data = _data(Path(path))
    try:
        question = _question(data) if model is None or task is None else _asked(data, model, task, metric)
        return _discovery(data, question, alone=model is None)
    except (KeyError, TypeError, IndexError) as error:
        raise CircuitryError(f"{path} is damaged: {error!r}") from error


def _data(file: Path) -> dict[str, Any]:
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise CircuitryError(f"{file} cannot be read: {error}") from error
    found = data.get(KEY) if isinstance(data, dict) else None
    if not isinstance(found, dict):
        raise CircuitryError(
            f"{file} holds no discovery of circuitry; a graph of EAP-IG without one is read by circuitry.discovery.eap_ig.read"
        )
    if found.get("format") != FORMAT:
        raise CircuitryError(f"{file} is of another version: expected format {FORMAT}, got {found.get('format')!r}")
    return found


def _question(data: Mapping[str, Any]) -> Question:
    """The question without what can be run."""
    provenance, said = data["provenance"], data["metric"]
    model, task = cast(Model, Absent(provenance["model"])), cast(Task, Absent(provenance["task"]["name"]))
    known = METRICS.get(said["name"])
    metric = known or Metric(said["name"], cast(Any, Absent(said["name"])), said["unit"], said["signed"])
    count = provenance["task"]["examples"]
    labels = Labels(tuple(data["labels"]), np.zeros((count, len(data["labels"]), 0), bool))
    return Question(
        model, task, cast(Any, Absent("prompts", count)), Wiring(_graph(data["graph"])), metric, data["level"], labels,
        data["direction"], seed=data["seed"], terms=_terms(data),
    )  # fmt: skip


def _terms(data: Mapping[str, Any]) -> tuple[Node, ...]:
    """The latents and errors that have scores, if it is about these."""
    return tuple(map(parse_node, data["items"])) if data["level"] == "latent" else ()


def _graph(said: Mapping[str, Any]) -> Graph:
    try:
        architecture = definition(said["name"])
    except CircuitryError as error:
        raise CircuitryError(
            f"{said['name']} is a custom architecture; give the model and the task: circuitry.discovery.read(path, model, task)"
        ) from error
    windows = {int(layer): width for layer, width in said["windows"].items()}
    graph = Graph(architecture, said["sizes"], windows, layout=said.get("layout", ()), experts=said.get("experts", ()))
    return graph.attached({graph.node(host): count for host, count in said.get("latents", {}).items()})


def _asked(data: Mapping[str, Any], model: Model, task: Task, metric: MetricLike | None) -> Question:
    """The question that was asked. Raises CircuitryError if the model or the task is another."""
    posed = json.loads(json.dumps(task.record))
    if posed != data["provenance"]["task"]:
        raise CircuitryError(f"this discovery is about another task: {data['provenance']['task']}, not {posed}")
    apart = data["labels"] != ["all"]
    question = asked(
        model, task, level=data["level"], positions=apart, metric=metric or data["metric"]["name"], direction=data["direction"],
        seed=data["seed"],
    )  # fmt: skip
    question = replace(question, terms=_terms(data))
    said, mine = data["provenance"].get("autoencoders"), autoencoders(model).get("autoencoders")
    if data["level"] == "latent" and said != mine:
        raise CircuitryError(f"this discovery is about other autoencoders: {said}, not {mine}; attach the same ones")
    if list(map(str, question.items)) != data["items"] or list(question.labels.names) != data["labels"]:
        raise CircuitryError(
            f"this discovery is about another model: {data['provenance']['model']}, whose {data['level']}s differ"
        )
    return question


def _discovery(data: Mapping[str, Any], question: Question, *, alone: bool) -> Discovery:
    ranked = _part(question, data["ranked"], alone)
    confirming = ranked if data["confirmed"] is None else _part(question, data["confirmed"], alone)
    scores = np.full((len(ranked.prompts), len(ranked.items), len(ranked.labels)), np.nan, np.float32)
    for cell in data["cells"]:
        scores[:, cell["item"], cell["label"]] = cell["effects"]
    exact = {(cell["item"], cell["label"]): np.array(cell["effects"]) for cell in data["exact"]}
    first, second = map(np.array, data["ends"])
    found = Discovery(ranked, confirming, data["method"], scores, exact, (first, second), data["provenance"])
    found.mean = np.array(data["mean"])
    return found


def _part(question: Question, said: Mapping[str, Any], alone: bool) -> Question:
    """The question about some of the examples."""
    examples = np.array(said["examples"], np.int64)
    if not alone:
        return question.part(examples)
    mask = np.zeros((len(examples), len(question.labels), said["length"]), bool)
    for label, rows in enumerate(said["tokens"]):
        for example, tokens in enumerate(rows):
            mask[example, label, tokens] = True
    prompts = cast(Any, Absent("prompts", len(examples)))
    return replace(question, prompts=prompts, labels=replace(question.labels, mask=mask), of=examples)
