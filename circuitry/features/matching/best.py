"""One layer pair: the best match of every feature of either side, by the compiled kernel or by scipy."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from ...errors import CircuitryError, suggest, whole
from .moments import Floats, Ints
from .sides import ByFeature, ByToken

ENGINES = ("auto", "numba", "scipy")


@dataclass(frozen=True, eq=False)
class Best:
    """The greatest correlation of each feature with any of the other side, and whose it is; NaN and -1 where there is none.

    ``row`` and ``row_at`` are of one side's features, ``column`` and ``column_at`` of the other's.
    """

    row: Floats
    row_at: Ints
    column: Floats
    column_at: Ints


def engine(name: str = "auto") -> str:
    """Which of numba and scipy computes: with "auto", numba where it can be imported (the extra ``fast``).

    Raises CircuitryError for another name, and for numba where it cannot be imported.

    >>> engine("scipy")
    'scipy'
    """
    if name not in ENGINES:
        raise CircuitryError(f"no engine {name!r}; {suggest(name, ENGINES)}")
    if name == "scipy":
        return name
    try:
        from . import kernel  # noqa: F401
    except ImportError as error:
        if name == "numba":
            raise CircuitryError(
                f"numba cannot be imported ({error}): pip install 'circuitry-lm[fast]', or take engine='scipy'"
            ) from None
        return "scipy"
    return "numba"


def threads(number: int | None) -> int:
    """How many threads: as given, else OMP_NUM_THREADS, else one for each core that this process may use.

    >>> threads(3)
    3
    """
    if number is not None:
        whole("threads", number, 1)
    given = os.environ.get("OMP_NUM_THREADS", "")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return number or (int(given) if given.isdigit() and int(given) else cores)


def best(a: ByFeature, b: ByToken, rotate: int = 0, *, engine: str = "numba", threads: int = 1) -> Best:
    """The best match of each feature of ``a`` in ``b`` and the other way round; token t of ``a`` goes with t + ``rotate`` of ``b``.

    Of equally good matches the lowest number is taken. The numbers do not depend on ``threads``.

    >>> from circuitry.features.matching.sides import InMemory
    >>> acts = InMemory(np.array([[0, 2, 1], [1, 0, 1], [0, 3, 1], [2, 1, 1]]))
    >>> best(ByFeature.of(acts, 1), ByToken.of(acts, 1), engine="scipy").row_at.tolist()
    [0, 1, -1]
    """
    found = _empty(a, b)
    if not len(a.chosen) or not len(b.chosen):
        return found
    parts = [np.sort(part) for k in range(threads) if len(part := _by_work(a)[k::threads])]
    own = [(np.full(len(b.chosen), -np.inf), np.full(len(b.chosen), -1, np.int64)) for _ in parts]
    compute = _numba(a, b, rotate, found) if engine == "numba" else _scipy(a, b, rotate, found)
    with ThreadPoolExecutor(len(parts)) as pool:
        list(pool.map(compute, parts, *zip(*own, strict=True)))
    column, column_at = own[0]
    for value, at in own[1:]:
        better = (value > column) | ((value == column) & (at < column_at))
        column[better], column_at[better] = value[better], at[better]
    found.column[b.chosen], found.column_at[b.chosen] = column, column_at
    found.row_at[a.chosen] = b.chosen[found.row_at[a.chosen]]
    return found


def _empty(a: ByFeature, b: ByToken) -> Best:
    sizes = len(a.shift), b.features
    (row, row_at), (column, column_at) = ((np.full(size, np.nan), np.full(size, -1, np.int64)) for size in sizes)
    return Best(row, row_at, column, column_at)


def _by_work(a: ByFeature) -> Ints:
    """Features in the order of how often they fire, so that threads which take turns get equally much to do."""
    firing = a.begin[a.chosen + 1] - a.begin[a.chosen]
    return a.chosen[np.argsort(-firing, kind="stable")]


def _numba(a: ByFeature, b: ByToken, rotate: int, found: Best) -> Callable[[Ints, Floats, Ints], None]:
    from .kernel import rows

    own = a.begin, a.token, a.value, a.shift, a.scale
    other = b.begin, b.pair, b.shift, b.scale

    def compute(some: Ints, column: Floats, column_at: Ints) -> None:
        rows(some, *own, *other, rotate, found.row, found.row_at, column, column_at)

    return compute


def _scipy(a: ByFeature, b: ByToken, rotate: int, found: Best) -> Callable[[Ints, Floats, Ints], None]:
    from .fallback import rows

    other = b.sparse()

    def compute(some: Ints, column: Floats, column_at: Ints) -> None:
        rows(some, a, b, other, rotate, found.row, found.row_at, column, column_at)

    return compute
