"""The two areas of MIB's circuit track, from the faithfulness of circuits of several sizes."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import CircuitryError, expected

SIZES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
"""The sizes of circuits in the track, as fractions of all edges. A circuit of size k has ``int(k * edges)`` edges before those that
lead nowhere are removed."""

SCALES = ("linear", "log")


def areas(sizes: ArrayLike, faithfulness: ArrayLike, scale: Literal["linear", "log"] = "linear") -> tuple[float, float]:
    """CPR and CMD, the two areas of the track.

    ``sizes`` are rising fractions of all edges, above 0 if the scale is logarithmic. The track uses ``SIZES``, even where a circuit
    became smaller because edges that lead nowhere were removed. ``faithfulness`` is
    f(k) = (m(circuit of size k) - m(empty)) / (m(model) - m(empty)), where m is the mean of the metric over the prompts. The empty
    circuit has no edges, so that everything in it is ablated. With f taken as linear between the sizes,

        CPR = ∫ f(k) dk        higher is better
        CMD = ∫ |1 - f(k)| dk  0 is best

    from the first to the last size (trapezoids; |1 - f| too is taken as linear between the sizes). With ``scale="log"`` the
    integral is over ln k. No area is divided by the length of the axis: a circuit with f = 1 at every size has a CPR of .999 on the
    linear axis and of 6.91 on the logarithmic one. Source: Mueller et al. 2025, arXiv:2504.13151, and the track's
    ``evaluate_area_under_curve``.

    Raises CircuitryError for an unknown scale, unequal numbers of sizes and values, fewer than two, sizes that do not rise, and
    values that are not finite.

    >>> cpr, cmd = areas(SIZES, np.ones(10))
    >>> round(cpr, 3), cmd
    (0.999, 0.0)
    >>> areas([0.5, 1.0], [0.5, 1.5])
    (0.5, 0.25)
    """
    x, f = np.asarray(sizes, dtype=np.float64), np.asarray(faithfulness, dtype=np.float64)
    if scale not in SCALES:
        raise CircuitryError(expected("scale 'linear' or 'log'", scale))
    if x.ndim != 1 or x.shape != f.shape or len(x) < 2:
        raise CircuitryError(f"expected one faithfulness for each of at least two sizes, got {f.shape} for {x.shape}")
    least = "above 0" if scale == "log" else "at least 0"
    if not ((np.diff(x) > 0).all() and (x[0] > 0 or (scale == "linear" and x[0] == 0)) and x[-1] <= 1):
        raise CircuitryError(expected(f"rising sizes, {least} and at most 1", x.tolist()))
    if not np.isfinite(f).all():
        raise CircuitryError(
            expected("finite values of faithfulness", f.tolist(), "is the metric the same with and without the circuit?")
        )
    axis = np.log(x) if scale == "log" else x
    return _trapezoids(f, axis), _trapezoids(np.abs(1 - f), axis)


def _trapezoids(y: NDArray[np.float64], x: NDArray[np.float64]) -> float:
    return float(np.sum(np.diff(x) * (y[1:] + y[:-1])) / 2)
