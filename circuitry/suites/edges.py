"""The command that finds the edges of a model on the task of a suite's run, for a suite that measures none."""

from __future__ import annotations

import inspect
import shlex
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any

from .. import content
from ..models.model import Model
from ..prompting.task import Task

_LOADING = ("--revision", "--dtype", "--device", "--device-map")
"""Flags that ``run`` and ``discover`` share and that decide which model is loaded, and how."""


def edges_command(model: Model, name: str, task: Task, patching: Mapping[str, Any], command: str = "") -> str:
    """The call of ``discover`` on the same model and prompts: a command, or code if no name loads the model.

    ``name`` is what ``circuitry.task`` was given, ``patching`` are the options of every patch, ``command`` is the one that runs the suite.

    >>> import circuitry as ct
    >>> model, task = ct.load("bundled:mamba"), ct.task("induction", distance=8, examples=4)
    >>> edges_command(model, "induction", task, {})
    'circuitry discover bundled:mamba --task induction -o distance=8 --examples 4'
    """
    from ..discovery.search import discover

    options = {key: value for key, value in task.options.items() if value != task.definition.options[key]}
    usual = inspect.signature(discover).parameters
    asked = {
        key: value
        for key in ("metric", "direction")
        if isinstance(value := patching.get(key), str) and value != usual[key].default
    }
    if model.name == "model" or model.graph.name not in content.names("graphs"):
        more = {**options, **_number_of(task), **({"seed": task.seed} if task.seed else {})}
        return f"ct.discover({', '.join(['model', f'ct.task({_call(name, more)})', *_keywords(asked)])})"
    words = ["circuitry", "discover", *_loaded(model, command), "--task", name]
    words += [word for key, value in options.items() for word in ("-o", f"{key}={_written(value)}")]
    words += [word for key, value in _number_of(task).items() for word in (f"--{key}", str(value))]
    words += ["--seed", str(task.seed)] if task.seed else []
    return shlex.join([*words, *(word for key, value in asked.items() for word in (f"--{key}", value))])


def _keywords(values: Mapping[str, Any]) -> list[str]:
    return [f"{key}={value!r}" for key, value in values.items()]


def _call(first: str, values: Mapping[str, Any]) -> str:
    return ", ".join([repr(first), *_keywords(values)])


def _number_of(task: Task) -> dict[str, int]:
    return {"examples": task.examples} if task.examples != task.definition.examples else {}


def _written(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _loaded(model: Model, command: str) -> list[str]:
    """The model as it was typed, since a name in results is shorter than the path of a file, or else as it calls itself."""
    typed = dict(_flags(command))
    if "--model" in typed:
        return [typed["--model"], *(word for flag in _LOADING if flag in typed for word in (flag, typed[flag]))]
    dtype, device = str(model.dtype).removeprefix("torch."), str(model.device)
    return [model.name, *(["--dtype", dtype] if dtype != "float32" else []), *(["--device", device] if device != "cpu" else [])]


def _flags(command: str) -> Iterator[tuple[str, str]]:
    """The flags of a command with what follows each.

    >>> list(_flags("circuitry run ioi --model a/b --dtype=float64"))
    [('--model', 'a/b'), ('--dtype', 'float64')]
    """
    try:
        words = shlex.split(command)
    except ValueError:  # what runs the suite may be described in any words
        return
    for word, after in pairwise([*words, ""]):
        if word.startswith("--"):
            flag, equals, value = word.partition("=")
            yield flag, value if equals else after
