"""A call from Python as code to read and to run again, for the record of a run that no command made."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping
from typing import Any

from ..models.model import Model
from ..prompting.task import Task

_PLAIN = (str, int, float, bool, type(None))


def call(function: str, model: Model, first: Any, options: Mapping[str, Any]) -> str:
    """Code that loads the model and calls ``ct.FUNCTION`` on it with ``options``, such as ``ct.run("induction", model, seed=1)``.

    ``first`` is the name of a suite, or a task. What has no short text, such as a function as metric, stands as its own name, and
    a comment says so.

    >>> import circuitry as ct
    >>> print(call("run", ct.load("bundled:mamba"), "induction", {"out": "runs", "distances": (8, 16)}))
    import circuitry as ct
    <BLANKLINE>
    model = ct.load("bundled:mamba")
    ct.run("induction", model, out="runs", distances=(8, 16))
    """
    own: dict[str, str] = {}
    said = [f"{name}={_text(name, value, own)}" for name, value in options.items()]
    if isinstance(first, Task):
        lines, arguments = [f"task = {_task(first)}"], ["model", "task", *said]
    else:
        lines, arguments = [], [_text("suite", first, own), "model", *said]
    notes = [f"# {name}: {what}, as your code defines it" for name, what in own.items()]
    return "\n".join(["import circuitry as ct", "", *notes, *_loading(model), *lines, f"ct.{function}({', '.join(arguments)})"])


def changed(function: Callable[..., Any], arguments: Mapping[str, Any], without: tuple[str, ...]) -> dict[str, Any]:
    """The arguments of a call that are not the function's defaults, ``without`` those that change no number.

    >>> def f(a, b=1, c=2): ...
    >>> changed(f, {"a": 0, "b": 1, "c": 3}, ("a",))
    {'c': 3}
    """
    defaults = {name: parameter.default for name, parameter in inspect.signature(function).parameters.items()}
    same = {name for name, value in arguments.items() if type(value) is type(defaults.get(name)) and value == defaults[name]}
    return {name: value for name, value in arguments.items() if name in defaults and name not in (*same, *without)}


def _loading(model: Model) -> list[str]:
    dtype, device = str(model.dtype).removeprefix("torch."), str(model.device)
    more = [*([f'dtype="{dtype}"'] if dtype != "float32" else []), *([f'device="{device}"'] if device != "cpu" else [])]
    lines = [f"model = ct.load({', '.join([_quoted(model.name), *more])})"]
    return [*lines, "# then attach the autoencoders: model.attach(...)"] if model.saes else lines


def _task(task: Task) -> str:
    name = task.definition.name
    options = {**task.options, "examples": task.examples, "seed": task.seed}
    return f"ct.task({', '.join([_quoted(name), *(f'{k}={_text(k, v, {})}' for k, v in options.items())])})"


def _text(name: str, value: Any, own: dict[str, str]) -> str:
    """A value as code; one that has no short text is called by its option's name, and noted in ``own``."""
    if isinstance(value, str):
        return _quoted(value)
    if isinstance(value, _PLAIN):
        return repr(value)
    if isinstance(value, list | tuple):
        inside = [_text(name, entry, own) for entry in value]
        return f"[{', '.join(inside)}]" if isinstance(value, list) else f"({', '.join(inside)}{',' * (len(inside) == 1)})"
    if hasattr(value, "__fspath__"):
        return _quoted(str(value))
    own[name] = f"a {type(value).__name__}"
    return name


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)  # text in JSON is text in Python
