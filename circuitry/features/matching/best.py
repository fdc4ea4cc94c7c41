"""One layer pair: the best match of every feature on either side, by the compiled kernel or by scipy."""

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
    """Each feature's greatest correlation with a feature of the other side, and that feature; NaN and -1 if it has none.

    ``row`` and ``row_at`` belong to the first side's features, ``column`` and ``column_at`` to the second side's.
    """

    row: Floats
    row_at: Ints
    column: Floats
    column_at: Ints


def engine(name: str = "auto") -> str:
    """The engine to use: "auto" becomes numba if it can be imported (the extra ``fast``), else scipy.

    Raises CircuitryError for another name, and for "numba" if it cannot be imported.

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
                f"numba cannot be imported ({error}): pip install 'circuitry-lm[fast]', or use engine='scipy'"
            ) from None
        return "scipy"
    return "numba"


def threads(number: int | None) -> int:
    """The number of threads: as given, else OMP_NUM_THREADS, else one for each core that this process may use.

    >>> threads(3)
    3
    """
    if number is not None:
        whole("threads", number, 1)
    given = os.environ.get("OMP_NUM_THREADS", "")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return number or (int(given) if given.isdigit() and int(given) else cores)


def best(a: ByFeature, b: ByToken, rotate: int = 0, *, engine: str = "numba", threads: int = 1) -> Best:
    """The best match of each feature of ``a`` in ``b``, and of ``b`` in ``a``; token t of ``a`` is paired with t + ``rotate`` of ``b``.

    Among equally good matches the lowest feature wins. Results do not depend on ``threads``.

    >>> from circuitry.features.matching.sides import InMemory
    >>> acts = InMemory(np.array([[0, 2, 1], [1, 0, 1], [0, 3, 1], [2, 1, 1]]))
    >>> best(ByFeature.of(acts, 1), ByToken.of(acts, 1), engine="scipy").row_at.tolist()
    [0, 1, -1]
    """
    result = _empty(a, b)
    if not len(a.chosen) or not len(b.chosen):
        return result
    parts = [np.sort(part) for k in range(threads) if len(part := _by_work(a)[k::threads])]
    # Threads write disjoint rows of the result, but every thread sees all columns: each has its own, merged at the end.
    columns = [(np.full(len(b.chosen), -np.inf), np.full(len(b.chosen), -1, np.int64)) for _ in parts]
    compute = _numba(a, b, rotate, result) if engine == "numba" else _scipy(a, b, rotate, result)
    with ThreadPoolExecutor(len(parts)) as pool:
        list(pool.map(compute, parts, *zip(*columns, strict=True)))
    column, column_at = columns[0]
    for value, at in columns[1:]:
        better = (value > column) | ((value == column) & (at < column_at))
        column[better], column_at[better] = value[better], at[better]
    result.column[b.chosen], result.column_at[b.chosen] = column, column_at
    result.row_at[a.chosen] = b.chosen[result.row_at[a.chosen]]
    return result


def _empty(a: ByFeature, b: ByToken) -> Best:
    sizes = len(a.shift), b.features
    (row, row_at), (column, column_at) = ((np.full(size, np.nan), np.full(size, -1, np.int64)) for size in sizes)
    return Best(row, row_at, column, column_at)


def _by_work(a: ByFeature) -> Ints:
    """Features by falling number of tokens they fire on, so that threads that take every k-th get about equal work."""
    firing = a.begin[a.chosen + 1] - a.begin[a.chosen]
    return a.chosen[np.argsort(-firing, kind="stable")]


def _numba(a: ByFeature, b: ByToken, rotate: int, result: Best) -> Callable[[Ints, Floats, Ints], None]:
    from .kernel import rows

    by_feature = a.begin, a.token, a.value, a.shift, a.scale
    by_token = b.begin, b.pair, b.shift, b.scale

    def compute(features: Ints, column: Floats, column_at: Ints) -> None:
        rows(features, *by_feature, *by_token, rotate, result.row, result.row_at, column, column_at)

    return compute


def _scipy(a: ByFeature, b: ByToken, rotate: int, result: Best) -> Callable[[Ints, Floats, Ints], None]:
    from .fallback import rows

    sparse = b.sparse()

    def compute(features: Ints, column: Floats, column_at: Ints) -> None:
        rows(features, a, b, sparse, rotate, result.row, result.row_at, column, column_at)

    return compute
