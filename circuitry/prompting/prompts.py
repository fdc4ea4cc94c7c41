"""Clean and corrupted prompts with named positions: what a task makes for a model's vocabulary. numpy only."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..errors import TaskError

Ids = NDArray[np.int64]


@dataclass(frozen=True)
class Prompts:
    """Aligned prompts. ``clean``, ``corrupted`` [example, pos]; ``answer``, ``foil`` [example] token ids.

    ``where`` maps a position's name to its absolute position in each example [example]; it always has END, the token whose
    prediction is the answer. ``changed`` names the positions at which corrupted differs from clean. Rows shorter than the
    longest are padded on the right, after END, which no causal model can see.
    """

    clean: Ids
    corrupted: Ids
    answer: Ids
    foil: Ids
    where: dict[str, Ids]
    changed: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.clean)

    @property
    def length(self) -> int:
        """Tokens a row.

        >>> one = np.zeros((3, 2), np.int64)
        >>> Prompts(one, one, one[:, 0], one[:, 0], {"END": one[:, 0]}, ()).length
        2
        """
        return int(self.clean.shape[1])

    @property
    def differing(self) -> tuple[tuple[int, ...], ...]:
        """Of each example the positions, up to END, at which its two prompts have different tokens.

        >>> ids = np.arange(4)[None]
        >>> Prompts(ids, ids + [[0, 5, 0, 5]], ids[:, 0], ids[:, 0], {"END": np.array([2])}, ()).differing
        ((1,),)
        """
        until = np.arange(self.length) <= self.where["END"][:, None]
        return tuple(tuple(np.flatnonzero(row).tolist()) for row in (self.clean != self.corrupted) & until)

    def take(self, examples: slice | Ids) -> Prompts:
        """Some of the examples.

        >>> one = np.zeros((3, 2), np.int64)
        >>> len(Prompts(one, one, one[:, 0], one[:, 0], {"END": one[:, 0]}, ()).take(slice(2)))
        2
        """
        where = {name: at[examples] for name, at in self.where.items()}
        parts = {k: getattr(self, k)[examples] for k in ("clean", "corrupted", "answer", "foil")}
        return replace(self, where=where, **parts)

    def trimmed(self) -> Prompts:
        """Without the tokens after the last END of all examples, which no answer depends on.

        >>> ids, ends = np.zeros((2, 9), np.int64), np.array([3, 5])
        >>> Prompts(ids, ids, ids[:, 0], ids[:, 0], {"END": ends}, ()).trimmed().length
        6
        """
        stop = int(self.where["END"].max()) + 1
        return replace(self, clean=self.clean[:, :stop], corrupted=self.corrupted[:, :stop])


def lint(prompts: Prompts) -> None:
    """Refuse prompts that would make the experiment meaningless. Raises TaskError in plain words.

    >>> ids = np.array([[5, 6, 5]])
    >>> lint(Prompts(ids, ids, ids[:, 1], ids[:, 0], {"END": np.array([2])}, ()))
    Traceback (most recent call last):
    circuitry.errors.TaskError: example 0: clean and corrupted prompts are the same, so patching one into the other does nothing
    """
    if prompts.clean.shape != prompts.corrupted.shape:
        raise TaskError(
            f"clean prompts are {prompts.clean.shape} and corrupted ones {prompts.corrupted.shape}; they must be aligned"
        )
    if "END" not in prompts.where:
        raise TaskError("the task names no position END, so nobody knows where the answer is predicted")
    for name, at in prompts.where.items():
        if at.min() < 0 or at.max() >= prompts.length:
            raise TaskError(f"position {name} lies outside the prompts (0 to {prompts.length - 1})")
        if (late := np.flatnonzero(at > prompts.where["END"])).size:
            raise TaskError(
                f"example {late[0]}: position {name} lies after END, so the answer cannot depend on what stands there"
            )
    for example in range(len(prompts)):
        _lint_example(prompts, example)


def _lint_example(prompts: Prompts, example: int) -> None:
    end = int(prompts.where["END"][example])
    clean, corrupted = prompts.clean[example, : end + 1], prompts.corrupted[example, : end + 1]
    differs = set(np.flatnonzero(clean != corrupted).tolist())
    declared = {int(prompts.where[name][example]) for name in prompts.changed}
    if not differs:
        raise TaskError(
            f"example {example}: clean and corrupted prompts are the same, so patching one into the other does nothing"
        )
    if extra := differs - declared:
        raise TaskError(
            f"example {example}: clean and corrupted differ at token {min(extra)}, which the task does not declare changed"
        )
    if prompts.answer[example] not in clean:
        raise TaskError(f"example {example}: the answer does not stand in the prompt, so it cannot be copied from there")
    if prompts.answer[example] == prompts.foil[example]:
        raise TaskError(f"example {example}: answer and foil are the same token")
