"""A task: a definition with its options, and the prompts it makes for a model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from numbers import Integral, Real
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import content
from ..blame import blamed
from ..errors import CircuitryError, TaskError, UnknownNameError, expected, suggest
from ..html.shown import Shown
from ..paths.positions import Position
from .definition import TaskDefinition
from .from_file import definition_from_file
from .prompts import Prompts, check
from .prompts import lint as lint_prompts
from .record import plain, text
from .shown import ShownPrompts, count_of, show, source_of

if TYPE_CHECKING:
    from markupsafe import Markup

_KINDS: dict[type, Any] = {int: Integral, float: Real, type(None): object}
"""The types that an option accepts, by the type of its default, if these are more than that type."""


class Positions:
    """A task's named positions as values for path specs, with tab completion: ``task.positions.B + 1``.

    >>> str(Positions(("A", "B")).B + 1)
    'B+1'
    """

    def __init__(self, names: tuple[str, ...]) -> None:
        self._names = names

    def __getattr__(self, name: str) -> Position:
        if name.startswith("_"):
            raise AttributeError(name)
        if name not in self._names:
            raise UnknownNameError(f"the task names no position {name!r}; {suggest(name, self._names)}")
        return Position(name)

    def __dir__(self) -> list[str]:
        return list(self._names)


@dataclass(frozen=True)
class Task(Shown):
    """A definition with options, a seed and a number of examples. Made by ``circuitry.task``."""

    definition: TaskDefinition
    options: Mapping[str, Any]
    examples: int = 128
    seed: int = 0

    def _shown_(self) -> Iterable[Markup]:
        from .notebook import of_task

        return of_task(self)

    def __repr__(self) -> str:
        return text(self.record)

    @property
    def record(self) -> dict[str, Any]:
        """The task as plain data, for provenance; ``prompting.record.text`` puts it in words.

        >>> task("induction", distance=8).record["options"]["distance"]
        8
        """
        name, source = self.definition.name, self.definition.source
        options = {name: plain(value) for name, value in self.options.items()}
        return {"name": name, "source": source, "options": options, "examples": plain(self.examples), "seed": plain(self.seed)}

    @property
    def name(self) -> str:
        """The definition's name.

        >>> task("induction").name
        'induction'
        """
        return self.definition.name

    @property
    def positions(self) -> Positions:
        """Named positions for Python path specs.

        >>> str(task("induction").positions.B + 1)
        'B+1'
        """
        return Positions(self.definition.positions)

    def but(self, **options: Any) -> Task:
        """The same task with some options, examples or seed changed.

        >>> task("induction").but(distance=8).options["distance"]
        8
        """
        examples, seed = options.pop("examples", self.examples), options.pop("seed", self.seed)
        return task_of(self.definition, {**self.options, **options}, examples, seed)

    def prompts(self, vocabulary: Any, *, lint: bool = True) -> Prompts:
        """The prompts for a model's vocabulary; the same seed gives the same prompts. Raises TaskError if none can be made, with
        the line of the task's file if that raises anything.

        With ``lint=False`` only prompts that cannot run are refused, not those that would be meaningless.

        >>> from circuitry.models import Vocabulary
        >>> prompts = task("induction", distance=8, examples=2).prompts(Vocabulary.of(None, 100))
        >>> prompts.clean.shape
        (2, 16)
        """
        rng = np.random.default_rng(self.seed)
        with blamed(f"while task {self.name!r} made its prompts", TaskError):
            prompts = self.definition.make(vocabulary, rng, examples=self.examples, **self.options)
        check(prompts)
        if lint:
            lint_prompts(prompts, copied=self.definition.copied)
        if vocabulary.longest is not None and prompts.length > vocabulary.longest:
            raise TaskError(
                f"task {self.name!r} makes prompts of {prompts.length} tokens and the model has {vocabulary.longest} positions; "
                "try shorter prompts or another model"
            )
        return prompts

    def show(self, model: Any = None, examples: int = 3) -> ShownPrompts:
        """The first prompts, as a reader sees them: tokens in boxes, positions, what differs, and what the model answers.

        ``model``: a model; a vocabulary or a tokenizer, and then nothing is answered; or None, if the task needs no words. The linter
        is not asked, so that prompts which it refuses can be looked at. Prints as text, and is HTML in a notebook. Raises TaskError
        if no prompts can be made, CircuitryError for anything else in place of a model.

        >>> import circuitry as ct
        >>> shown = ct.task("induction", distance=4, prefix=1).show(ct.load("bundled:gpt_neox"), 1)
        >>> print(shown)
        <task induction: distance=4, corruption='B', prefix=1, form='pair', examples=128, seed=0>; bundled:gpt_neox
        <BLANKLINE>
        example 0 (6 tokens)
          position        A       B         END
          number     0    1       2    3  4 5
          clean     |␣Ida|␣manner|ular|qu|o|␣manner|
          corrupted |.   |.      |outh|. |.|.      |
          answer    ular, not outh
          on clean     the model says ular (96%) right; ular 96%, outh <0.1%
          on corrupted the model says outh (95%); ular <0.1%, outh 95%
        """
        vocabulary, answering = source_of(model)
        prompts = self.prompts(vocabulary, lint=False)
        return show(repr(self), prompts.take(slice(count_of(examples, len(prompts)))), vocabulary, answering)


def task(name: str | PathLike[str], *, examples: int | None = None, seed: int = 0, **options: Any) -> Task:
    """A task by name, or by the path of a custom file, with options.

    A file either defines ``TASK`` (``./mine.py``) or is a table of prompts (``prompts.csv``, ``prompts.jsonl``; see
    ``definition_from_file``). ``examples``: the number of prompts, by default that of the definition: 128, or every row of a
    table.

    Raises CircuitryError for an unknown task or option, TaskError for a table that cannot be read.

    >>> task("induction", distance=16)
    <task induction: distance=16, corruption='B', prefix=7, form='pair', examples=128, seed=0>
    """
    return task_of(_definition(str(name)), options, examples, seed)


def _definition(name: str) -> TaskDefinition:
    suffix = Path(name).suffix
    if suffix in (".csv", ".jsonl"):
        return definition_from_file(content.find("tasks", name))
    if suffix not in ("", ".py") and Path(name).exists():
        raise TaskError(expected(f"a task file ({', '.join(content.OWN)})", name))
    definition = content.constant("tasks", name, "TASK")
    if not isinstance(definition, TaskDefinition):
        raise CircuitryError(f"expected a TaskDefinition as TASK in {name}, got {type(definition).__name__}")
    return definition


def task_of(definition: TaskDefinition, options: Mapping[str, Any], examples: int | None, seed: int) -> Task:
    """A task with its defaults filled in. Refuses unknown options, and values of another type than the default.

    >>> task_of(task("induction").definition, {}, 4, 0).examples
    4
    """
    for name, value in options.items():
        if name not in definition.options:
            raise CircuitryError(f"task {definition.name!r} has no option {name!r}; {suggest(name, definition.options)}")
        _check_kind(name, value, definition.options[name])
    examples = definition.examples if examples is None else examples
    _check_kind("examples", examples, 128)
    _check_kind("seed", seed, 0)
    if examples < 1:
        raise TaskError(f"examples must be at least 1, got {examples}")
    if seed < 0:
        raise TaskError(f"seed must be at least 0, got {seed}")
    return Task(definition, {**definition.options, **options}, examples, seed)


def _check_kind(name: str, value: Any, default: Any) -> None:
    # A bool is an int for isinstance, so True would pass for a number.
    if not isinstance(value, _KINDS.get(type(default), type(default))) or isinstance(value, bool) != isinstance(default, bool):
        raise TaskError(f"{name}={value!r}: expected {type(default).__name__}, such as {default!r}")
