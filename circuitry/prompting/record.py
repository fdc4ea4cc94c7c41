"""A task in the provenance of a table or a run: plain data that survives JSON, and that data in words.

``{"name": ..., "source": ..., "options": {...}, "examples": ..., "seed": ...}``. If the cells of a table differ in an option,
``"varies": {option: [value, ...]}`` has all its values. Records of old versions are text, which is shown unchanged.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

_OLD, _OLD_OPTION = re.compile(r"<task (?P<name>[^:]+)(?:: (?P<options>.*))?>"), re.compile(r"(\w+)=((?:'[^']*'|[^,'])*)")

Record: TypeAlias = Mapping[str, Any]


def plain(value: Any) -> Any:
    """An option's value as it comes back from JSON: lists for tuples, Python's numbers for numpy's.

    >>> plain((8, 16))
    [8, 16]
    """
    if isinstance(value, tuple | list):
        return [plain(item) for item in value]
    return value.item() if hasattr(value, "item") else value


def settings(task: Any) -> dict[str, list[Any]]:
    """Every option of a record, including examples and seed, with its value, or all its values if it varies.

    >>> settings({"name": "a", "options": {"n": 1, "c": "B"}, "seed": 0, "varies": {"n": [1, 2]}})
    {'n': [1, 2], 'c': ['B'], 'seed': [0]}
    """
    if not isinstance(task, Mapping):
        return {}
    values = {**task.get("options", {}), **{name: task[name] for name in ("examples", "seed") if name in task}}
    return {name: list(task.get("varies", {}).get(name, [value])) for name, value in values.items()}


def title(task: Record) -> str:
    """The name of a task, with its source if it has one: two tables of prompts may have the same name.

    >>> title({"name": "names.csv", "source": "9123f52c"})
    'names.csv (9123f52c)'
    """
    return f"{task['name']} ({task['source']})" if task.get("source") else str(task["name"])


def text(task: Any, without: Iterable[str] = ()) -> str:
    """A record in words, ``without`` some options. Text stays as it is, and no task is the empty text.

    >>> text({"name": "a", "options": {"n": 1, "c": "B"}, "varies": {"n": [1, 2]}}), text("<task a: n=1>")
    ("<task a: n=1 or 2, c='B'>", '<task a: n=1>')
    """
    if isinstance(task, list):
        return " or ".join(dict.fromkeys(text(part, without) for part in task))
    if not isinstance(task, Mapping):
        return str(task or "")
    hidden = set(without)
    shown = ", ".join(option(name, values) for name, values in settings(task).items() if name not in hidden)
    return f"<task {title(task)}: {shown}>" if shown else f"<task {title(task)}>"


def words(task: Any, without: Iterable[str] = ()) -> str:
    """A record as a caption says it, ``without`` some options: its name, and its options without quotes.

    >>> words({"name": "a", "options": {"n": 1, "c": "B"}, "varies": {"n": [1, 2]}}), words("<task a: n=1>"), words(None)
    ('a (n 1 or 2, c B)', 'a (n 1)', '')
    """
    if isinstance(task, list):
        return " or ".join(dict.fromkeys(words(part, without) for part in task))
    if isinstance(task, Mapping):
        name, source = str(task["name"]), task.get("source", "")
        options = {key: " or ".join(dict.fromkeys(map(str, values))) for key, values in settings(task).items()}
    elif old := _OLD.fullmatch(str(task or "")):
        name, source, options = (
            old["name"],
            "",
            {key: value.strip("'") for key, value in _OLD_OPTION.findall(old["options"] or "")},
        )
    else:
        return str(task or "")
    shown = (f"{key.replace('_', ' ')} {value}" for key, value in options.items() if key not in set(without))
    inside = ", ".join(filter(None, [source, *shown]))
    return f"{name} ({inside})" if inside else name


def option(name: str, values: Sequence[Any]) -> str:
    """An option with its values in words.

    >>> option("corruption", ["A", "B"])
    "corruption='A' or 'B'"
    """
    return f"{name}={' or '.join(dict.fromkeys(map(repr, values)))}"


def together(tasks: Sequence[Any], name: str, values: Sequence[Any]) -> Any:
    """One record for several tasks: one that varies in the option ``name`` if they differ in nothing else, otherwise a list.

    >>> tasks = [{"name": "a", "options": {"n": n, "c": "B"}} for n in (1, 2)]
    >>> text(together(tasks, "n", [1, 2])), text(together(tasks, "wording", ["x", "y"]))
    ("<task a: n=1 or 2, c='B'>", "<task a: n=1, c='B'> or <task a: n=2, c='B'>")
    """
    if len({text(task, [name]) for task in tasks}) == 1 and all(name in settings(task) for task in tasks):
        return {**tasks[0], "varies": {**tasks[0].get("varies", {}), name: plain(list(values))}}
    return [task for k, task in enumerate(tasks) if text(task) not in map(text, tasks[:k])]
