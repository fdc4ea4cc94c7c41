"""Clean and corrupted prompts with named positions: what a task makes for a model's vocabulary. numpy only."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..errors import CircuitryError, TaskError, several, suggest

if TYPE_CHECKING:
    from ..paths.positions import Position

Ids = NDArray[np.int64]


@dataclass(frozen=True)
class Prompts:
    """Aligned prompts. ``clean``, ``corrupted`` [example, pos]; ``answer``, ``foil`` [example] token ids.

    ``where`` maps a position's name to its absolute position in each example [example]; it always has END, the token whose
    prediction is the answer. ``changed`` names the positions at which corrupted differs from clean; None if they have no names,
    so that any token up to END may differ. Prompts shorter than the longest are padded on the right, after END; the predictions
    of a causal model do not depend on the padding. ``lengths`` [example] are the tokens of each prompt without its padding. If
    they are None, prompts with END at different tokens stop at END, and prompts with END at the same token are as long as their
    rows: what follows END belongs to the prompt. The constructor checks nothing; a task calls ``check`` and ``lint`` on what
    ``make`` returns.

    >>> clean = np.array([[5, 6, 7, 5]])  # [A][B] x [A], answered [B]
    >>> corrupted = np.array([[5, 3, 7, 5]])
    >>> end = {"B": np.array([1]), "END": np.array([3])}
    >>> lint(Prompts(clean, corrupted, answer=clean[:, 1], foil=corrupted[:, 1], where=end, changed=("B",)))
    """

    clean: Ids
    corrupted: Ids
    answer: Ids
    foil: Ids
    where: dict[str, Ids]
    changed: tuple[str, ...] | None
    lengths: Ids | None = None

    def __len__(self) -> int:
        return len(self.clean)

    @property
    def length(self) -> int:
        """The number of tokens in a row, padding included.

        >>> ids = np.zeros((3, 2), np.int64)
        >>> Prompts(ids, ids, ids[:, 0], ids[:, 0], {"END": ids[:, 0]}, ()).length
        2
        """
        return int(self.clean.shape[1])

    @property
    def first_changed(self) -> Ids:
        """The position of the first token that may differ in each example [example].

        >>> clean, corrupted, end = np.array([[5, 6, 7]]), np.array([[5, 1, 2]]), np.array([2])
        >>> Prompts(clean, corrupted, end, end, {"END": end}, None).first_changed.tolist()
        [1]
        """
        if not self.changed:
            return (self.clean != self.corrupted).argmax(1)  # type: ignore[no-any-return]
        return np.min([self.where[name] for name in self.changed], axis=0)  # type: ignore[no-any-return]

    @property
    def stops(self) -> Ids:
        """The number of tokens in each prompt without its padding [example].

        >>> ids = np.zeros((2, 9), np.int64)
        >>> [Prompts(ids, ids, ids[:, 0], ids[:, 0], {"END": np.array(end)}, ()).stops.tolist() for end in ([3, 5], [5, 5])]
        [[4, 6], [9, 9]]
        """
        if self.lengths is not None:
            return self.lengths
        end = self.where["END"]
        return np.full(len(self), self.length) if len(set(end.tolist())) <= 1 else end + 1

    @property
    def distinct(self) -> int:
        """The number of different examples; padding does not count.

        >>> ids = np.array([[1, 2, 0], [1, 2, 9], [3, 2, 0]])
        >>> Prompts(ids, ids, ids[:, 0], ids[:, 1], {"END": np.array([1, 1, 2])}, ()).distinct
        2
        """
        rows = zip(self.clean, self.corrupted, self.answer, self.foil, self.where["END"], strict=True)
        return len({(tuple(a[: end + 1]), tuple(b[: end + 1]), int(answer), int(foil)) for a, b, answer, foil, end in rows})

    @property
    def differing(self) -> tuple[tuple[int, ...], ...]:
        """For each example, the positions up to END at which its two prompts have different tokens.

        >>> ids = np.arange(4)[None]
        >>> Prompts(ids, ids + [[0, 5, 0, 5]], ids[:, 0], ids[:, 0], {"END": np.array([2])}, ()).differing
        ((1,),)
        """
        until = np.arange(self.length) <= self.where["END"][:, None]
        return tuple(tuple(np.flatnonzero(row).tolist()) for row in (self.clean != self.corrupted) & until)

    def tokens(self, at: Position) -> Ids:
        """The token [example] that a position names in each example. Raises CircuitryError for a name that the task does not have,
        and for a token outside of a prompt.

        >>> import circuitry as ct
        >>> prompts = ct.task("induction", distance=8, examples=2).prompts(ct.load("bundled:mamba").vocabulary)
        >>> (prompts.tokens(ct.Position("B", 1)) - prompts.where["B"]).tolist()
        [1, 1]
        """
        if isinstance(at.base, int):
            return self._inside(at, np.full(len(self), at.base + at.offset))
        if str(at.base) not in self.where:
            raise CircuitryError(f"the task names no position {str(at.base)!r}; {suggest(str(at.base), self.where)}")
        return self._inside(at, np.asarray(self.where[str(at.base)]) + at.offset)

    def _inside(self, at: Position, tokens: Ids) -> Ids:
        if outside := int(((tokens < 0) | (tokens >= self.stops)).sum()):
            raise CircuitryError(f"{at} is outside of the prompt in {outside} of {len(self)} examples")
        return tokens

    def take(self, examples: slice | Ids) -> Prompts:
        """Some of the examples.

        >>> ids = np.zeros((3, 2), np.int64)
        >>> len(Prompts(ids, ids, ids[:, 0], ids[:, 0], {"END": ids[:, 0]}, ()).take(slice(2)))
        2
        """
        where = {name: at[examples] for name, at in self.where.items()}
        parts = {k: getattr(self, k)[examples] for k in ("clean", "corrupted", "answer", "foil")}
        return replace(self, where=where, lengths=self.stops[examples], **parts)

    def trimmed(self, least: int = 0) -> Prompts:
        """The prompts without the tokens after the last END of all examples, but with at least ``least`` tokens.

        >>> ids, ends = np.zeros((2, 9), np.int64), np.array([3, 5])
        >>> Prompts(ids, ids, ids[:, 0], ids[:, 0], {"END": ends}, ()).trimmed().length
        6
        """
        stop = max(least, int(self.where["END"].max()) + 1)
        lengths = np.minimum(self.stops, stop)
        return replace(self, clean=self.clean[:, :stop], corrupted=self.corrupted[:, :stop], lengths=lengths)


def check(prompts: Prompts) -> None:
    """Refuse prompts on which nothing can run, since their parts do not fit together. Raises TaskError.

    >>> ids = np.array([[5, 6, 5]])
    >>> check(Prompts(ids, ids, ids[:, 1], ids[:, 0], {"B": np.array([1])}, ()))
    Traceback (most recent call last):
    circuitry.errors.TaskError: the task has no position END, the token at which the answer is predicted; add it to where
    """
    if prompts.clean.shape != prompts.corrupted.shape:
        raise TaskError(
            f"clean prompts have shape {prompts.clean.shape} and corrupted ones {prompts.corrupted.shape}; they must be aligned"
        )
    if "END" not in prompts.where:
        raise TaskError("the task has no position END, the token at which the answer is predicted; add it to where")
    several("changed", prompts.changed)
    if unknown := [name for name in prompts.changed or () if name not in prompts.where]:
        raise TaskError(f"the task declares {unknown[0]} changed, but has no such position; {suggest(unknown[0], prompts.where)}")
    by_example = {"answer": prompts.answer, "foil": prompts.foil, **{f"position {n}": at for n, at in prompts.where.items()}}
    for part, values in by_example.items():
        if values.shape != (len(prompts),):
            raise TaskError(f"{part} has shape {values.shape}; expected one number for each of {len(prompts)} examples")
    for name, at in prompts.where.items():
        if at.min() < 0 or at.max() >= prompts.length:
            raise TaskError(f"position {name} lies outside the prompts (0 to {prompts.length - 1})")
    if prompts.lengths is not None:
        _check_lengths(prompts)


def lint(prompts: Prompts, *, copied: bool = True) -> None:
    """Refuse prompts that would make the experiment meaningless. Raises TaskError.

    ``copied``: the answer must be in the prompt, since the task is to copy it from there. A task with ``copied=False`` asks
    for something that the prompt does not contain, such as a fact; ``circuitry.patch`` then checks whether the model knows it.

    >>> ids = np.array([[5, 6, 5]])
    >>> lint(Prompts(ids, ids, ids[:, 1], ids[:, 0], {"END": np.array([2])}, ()))
    Traceback (most recent call last):
    circuitry.errors.TaskError: example 0: clean and corrupted prompts are the same, so patching one into the other does nothing
    """
    check(prompts)
    for name, at in prompts.where.items():
        if (late := np.flatnonzero(at > prompts.where["END"])).size:
            raise TaskError(f"example {late[0]}: position {name} is after END, so the answer cannot depend on it")
    for example in range(len(prompts)):
        _lint_example(prompts, example, copied)


def _check_lengths(prompts: Prompts) -> None:
    lengths = np.asarray(prompts.lengths)
    if lengths.shape != (len(prompts),):
        raise TaskError(f"lengths have shape {lengths.shape}; expected one number for each example, ({len(prompts)},)")
    if (wrong := np.flatnonzero((lengths <= prompts.where["END"]) | (lengths > prompts.length))).size:
        raise TaskError(
            f"example {wrong[0]} has length {lengths[wrong[0]]}; it must include END, which is token {prompts.where['END'][wrong[0]]}, "
            f"and fit its row of {prompts.length}"
        )


def _lint_example(prompts: Prompts, example: int, copied: bool) -> None:
    end = int(prompts.where["END"][example])
    clean, corrupted = prompts.clean[example, : end + 1], prompts.corrupted[example, : end + 1]
    differs = set(np.flatnonzero(clean != corrupted).tolist())
    declared = differs if prompts.changed is None else {int(prompts.where[name][example]) for name in prompts.changed}
    if not differs:
        raise TaskError(
            f"example {example}: clean and corrupted prompts are the same, so patching one into the other does nothing"
        )
    if extra := differs - declared:
        raise TaskError(
            f"example {example}: clean and corrupted differ at token {min(extra)}, which the task does not declare changed"
        )
    if copied and prompts.answer[example] not in clean:
        raise TaskError(
            f"example {example}: the answer is not in the prompt, so it cannot be copied from there; "
            "use copied=False for a task that does not copy its answer"
        )
    if prompts.answer[example] == prompts.foil[example]:
        raise TaskError(f"example {example}: answer and foil are the same token")
