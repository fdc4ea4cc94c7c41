"""Run a suite on a model: in memory, or in a folder from which a killed run resumes, with a report at the end."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from importlib import import_module
from os import PathLike
from pathlib import Path
from typing import Any

from .. import content
from ..blame import blamed
from ..errors import CircuitryError, no_effect, suggest, whole
from ..executing.open import DEFAULT, choice
from ..explorer.components import column
from ..explorer.file import write as write_seen
from ..explorer.observe import in_text_order, observe
from ..models.model import Model
from ..patching.code import call, changed
from ..patching.provenance import inputs, model_record, versions
from ..progress import together
from ..prompting.task import Task, task
from ..reports.page import write_report
from .declare import Suite
from .edges import edges_command
from .folder import RunFolder, plain
from .generic import suite_for
from .result import SuiteResult
from .study import Study

SHIPPED = ("induction", "ioi")
_PATCH = ("metric", "intervention", "direction", "baseline", "executor")
"""Options that go to every ``patch`` of a suite."""


def suite(name: str | PathLike[str]) -> Suite:
    """A suite by its name, by the path of a custom file that defines ``SUITE``, or by the name of a task.

    A task without a custom suite gets the generic one: a shipped task, a file that defines ``TASK``, a table of prompts.
    Raises CircuitryError for an unknown name.

    >>> suite("induction").task, suite("capital").name
    ('induction', 'capital')
    """
    text = str(name)
    if text in SHIPPED:
        return _checked(_shipped(text), text)
    if Path(text).suffix == ".py":
        module = content.load("suites", text)
        if hasattr(module, "SUITE") or not hasattr(module, "TASK"):
            return _checked(content.constant("suites", text, "SUITE"), text)
    elif Path(text).suffix not in content.OWN and text not in content.names("tasks"):
        hint = suggest(text, {*SHIPPED, *content.names("tasks")})
        raise CircuitryError(f"no suite {text!r}; {hint}; name a custom file by its path, such as ./mine.py or prompts.csv")
    return suite_for(text)


def _checked(value: object, name: str) -> Suite:
    if not isinstance(value, Suite):
        raise CircuitryError(f"SUITE in {name} must be a Suite, got {type(value).__name__}")
    return value


def _shipped(name: str) -> object:
    return import_module(f".{name}", __package__).SUITE


@together()
def run(
    name: str | PathLike[str] | Suite,
    model: Model,
    *,
    out: str | PathLike[str] | None = None,
    examples: int | None = None,
    seed: int = 0,
    fresh: bool = False,
    discover: int = 0,
    command: str = "",
    say: Callable[[str], None] = lambda _: None,
    **options: Any,
) -> SuiteResult:
    """Run a suite: tables, circuit, summary. With ``out``, in a folder below it named after suite and model.

    With the same arguments an interrupted run resumes, and a complete one is read from its folder. Other arguments, or
    ``fresh=True``, make a new folder. Ctrl-C writes a report of the tables that are finished. The folder is
    ``result.record["folder"]``. ``options`` are those of the suite, of its task, or of ``circuitry.patch``. ``say`` is called
    with what runs next; ``command`` is recorded. Raises CircuitryError for an unknown option, and FileError if another process
    runs the same in that folder or if the disk cannot be written. After such an error, the same call resumes the run.

    ``discover``: how many edges at positions to verify that discovery ranks highest on the suite's task. Those that are significant and
    that the suite did not look for become a table of their own.

    >>> import circuitry as ct
    >>> result = run("induction", ct.load("bundled:mamba"), distances=[8], distance=8, examples=8)
    >>> result.summary.components[0].node
    'ssm_state[3]'
    """
    if fresh and out is None:
        raise no_effect("fresh", True, "without out= a run has no folder", "give out=, or leave fresh out")
    asked_for = {"out": out, "examples": examples, "seed": seed, "fresh": fresh, "discover": discover}
    code = call("run", model, name, changed(run, asked_for, ()) | options)
    chosen, posed, settings, patching = _asked(name, examples, seed, options)
    for table in chosen.tables:
        table.made_for(model.graph)  # refuses an unknown role before anything runs
    source = _digest(repr(chosen).encode()) if isinstance(name, Suite) else str(name)  # a Suite value has no file to digest
    verified = whole("discover", discover)
    record = _record(
        source, chosen, model, posed, {**settings, **({"discover": verified} if verified else {})}, patching, command
    )
    record |= {} if command else {"python": code}
    folder = RunFolder.open(Path(out), f"{chosen.name}-{plain(model.name)}", record, fresh=fresh) if out is not None else None
    if folder and folder.complete:
        say(f"{folder.path} is complete; fresh=True (--fresh) would run it again in a new folder")
        return _read_back(folder)
    # The second look is needed: another process may finish this run while we wait for the lock.
    study = Study(model, posed, settings, patching, say, folder)
    with folder.held() if folder else nullcontext():
        return _read_back(folder) if folder and folder.complete else _carry_out(chosen, study, folder, record, verified)


def check_asked(
    name: str | PathLike[str] | Suite,
    *,
    examples: int | None = None,
    seed: int = 0,
    fresh: bool = False,
    discover: int = 0,
    **options: Any,
) -> None:
    """Refuse what ``run`` would refuse without looking at a model: call it before a model is loaded. Raises CircuitryError.

    >>> check_asked("inductoin")
    Traceback (most recent call last):
    circuitry.errors.CircuitryError: no suite 'inductoin'; did you mean 'induction'?; name a custom file by its path, such as ./mine.py or prompts.csv
    """
    _asked(name, examples, seed, options)
    whole("discover", discover)


def _asked(
    name: str | PathLike[str] | Suite, examples: int | None, seed: int, options: Mapping[str, Any]
) -> tuple[Suite, Task, dict[str, Any], dict[str, Any]]:
    """The suite, its task, its settings, and the options of every ``patch``."""
    chosen = name if isinstance(name, Suite) else suite(name)
    patching = {k: v for k, v in options.items() if k in _PATCH}
    settings, asked = chosen.split({k: v for k, v in options.items() if k not in _PATCH}, task(chosen.task).options)
    return chosen, task(chosen.task, examples=examples, seed=seed, **asked), settings, patching


def _read_back(folder: RunFolder) -> SuiteResult:
    if folder.writes and not (folder.path / "report.html").exists():  # the run was killed before it had written the report
        write_report(folder.path)
    return SuiteResult.load(folder.path)


def _carry_out(chosen: Suite, study: Study, folder: RunFolder | None, record: dict[str, Any], discover: int) -> SuiteResult:
    try:
        with blamed(f"while suite {chosen.name!r} ran"):
            result = chosen.carry_out(study)
        if discover:
            from .beyond import add_discovery

            study.say("edges that nobody named")
            add_discovery(result, study, discover)
    except KeyboardInterrupt:
        if folder and folder.writes:
            write_report(folder.path)
        raise
    # A suite may have changed its task, such as corruption="auto".
    command = edges_command(study.model, chosen.task, study.task, study.options, record["command"])
    told = {"task": study.task.record, "edges_command": command}
    result.record = record = {**record, **told}
    if folder:
        result.record = {**folder.record, **told, "folder": str(folder.path), **folder.end()}
        if folder.writes:
            _write_seen(folder.path, study, result)
            result.save(folder.path)
        folder.finish()
    return result


def _write_seen(folder: Path, study: Study, result: SuiteResult) -> None:
    """Write what the explorer shows of the prompts and of the circuit's nodes, which no table holds."""
    prompts, components = study.task.prompts(study.model.vocabulary), [vars(each) for each in result.summary.components]
    if result.circuit and result.circuit.nodes:
        names, positions = [node.label for node in result.circuit.nodes], result.circuit.positions
    else:  # the task's own positions too: where a head at END attends is one of them
        names = [each["node"] for each in components]
        positions = in_text_order(prompts, [*prompts.where, *map(column, components)])
    write_seen(folder, observe(study.model, prompts, names, positions))


def _record(
    name: str, chosen: Suite, model: Model, posed: Task, settings: Mapping[str, Any], patching: Mapping[str, Any], command: str
) -> dict[str, Any]:
    """The contents of ``run.json`` before a run starts; two runs with the same ``identity`` are the same run."""
    shown = {"examples": posed.examples, "seed": posed.seed, **posed.options, **settings, **patching}
    if (ran := str(choice(shown.pop("executor", DEFAULT)))) != DEFAULT:
        shown["executor"] = ran
    sources = [_source("suites", name), _source("tasks", chosen.task)]
    identity = {
        "suite": chosen.name,
        "sources": sources,
        "weights": model.fingerprint,
        "inputs": inputs(model, _plainly(chosen, posed).prompts(model.vocabulary)),
        "settings": shown,
        "versions": versions(),
    }
    return {
        "suite": chosen.name,
        "description": chosen.description,
        "cites": chosen.cites,
        **model_record(model),
        "task": posed.record,
        "settings": shown,
        "command": command,
        "versions": versions(),
        "identity": identity,
        "planned": [table.name for table in chosen.tables],
    }


def _plainly(chosen: Suite, posed: Task) -> Task:
    """The task without the options that its suite replaces, such as corruption="auto", which no task accepts."""
    options = {k: v for k, v in posed.options.items() if k not in chosen.settings}
    return task(chosen.task, examples=posed.examples, seed=posed.seed, **options)


def _source(kind: str, name: str) -> str:
    """A digest of a custom file, so that an edited file makes another run; the version identifies a shipped one."""
    return _digest(content.find(kind, name).read_bytes()) if Path(name).suffix else name


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]
