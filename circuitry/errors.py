"""The errors of circuitry. A message says what was expected, what was given and what to try."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from numbers import Integral
from typing import Any


class CircuitryError(ValueError):
    """An error that the user can fix; the message says how."""


class PathError(CircuitryError):
    """A path that cannot be parsed, or whose experiment cannot be run or cannot have an effect.

    ``text`` is the path, ``column`` the offending character (0-based); ``problem`` and ``hint`` are two short sentences.

    >>> print(PathError("ssm[17] -> logits", 0, "mamba has no node 'ssm'", "known here: ssm_state, logits"))
    mamba has no node 'ssm'
        ssm[17] -> logits
        ^
    known here: ssm_state, logits
    """

    def __init__(self, text: str, column: int, problem: str, hint: str = "") -> None:
        self.text, self.column, self.problem, self.hint = text, column, problem, hint
        # A line break or an escape code in the path would move the caret.
        line = "".join(c if c.isprintable() else "?" for c in text)
        lines = [problem, f"    {line}", f"    {' ' * column}^", hint]
        super().__init__("\n".join(lines if hint else lines[:-1]))


class UnknownNameError(CircuitryError, AttributeError):
    """An unknown name that was used as an attribute (``g.mpl``). It is an AttributeError too, so that ``hasattr`` works."""


class ModelError(CircuitryError):
    """A model that cannot be loaded, or that circuitry cannot instrument without changing what it computes."""


class TaskError(CircuitryError):
    """A task that cannot be built for this model, or whose prompts would make the experiment meaningless."""


class FileError(CircuitryError):
    """A file or folder that cannot be written, because of the disk or because another process writes there."""


class GuardError(CircuitryError):
    """A run whose guards failed. It gives no numbers, because they would not be the effect of the path."""


def expected(what: str, got: object, hint: str = "") -> str:
    """The text of a message about an unexpected value; ``got`` is shown by its ``repr``.

    >>> expected("a position (a name, a whole number or an axis)", 1.5, "try 2")
    'expected a position (a name, a whole number or an axis), got 1.5; try 2'
    """
    return f"expected {what}, got {got!r}" + (f"; {hint}" if hint else "")


def no_effect(name: str, value: object, why: str, instead: str) -> CircuitryError:
    """The error for an option that would change nothing; a value of ``...`` is not shown.

    >>> print(no_effect("seed", 3, "nothing is drawn", "leave seed out"))
    seed=3 has no effect: nothing is drawn; leave seed out
    """
    shown = name if value is ... else f"{name}={value!r}"
    return CircuitryError(f"{shown} has no effect: {why}; {instead}")


def several(name: str, values: Any) -> Any:
    """Refuse text where several names belong, since Python would take it letter by letter; anything else comes back as it is.

    Raises CircuitryError.

    >>> several("changed", "END")
    Traceback (most recent call last):
    circuitry.errors.CircuitryError: changed must be a list of names, got the text 'END'; write ['END']
    """
    if isinstance(values, str):
        raise CircuitryError(f"{name} must be a list of names, got the text {values!r}; write [{values!r}]")
    return values


def whole(name: str, value: object, least: int = 0) -> int:
    """Check that ``value`` is a whole number of at least ``least``, and return it as an int. Raises CircuitryError otherwise.

    >>> whole("baseline", -1)
    Traceback (most recent call last):
    circuitry.errors.CircuitryError: baseline must be at least 0, got -1
    """
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise CircuitryError(f"{name} must be a whole number, got {value!r}")
    if value < least:
        raise CircuitryError(f"{name} must be at least {least}, got {value}")
    return int(value)


def suggest(name: str, known: Iterable[str]) -> str:
    """The nearest known name, or all of them.

    >>> suggest("ssm_stat", ["ssm_state", "logits"])
    "did you mean 'ssm_state'?"
    >>> suggest("xyz", ["ssm_state", "logits"])
    'known here: logits, ssm_state'
    """
    names = sorted(set(known))
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.75)
    return f"did you mean {close[0]!r}?" if close else f"known here: {', '.join(names) or 'none'}"
