"""Correlations of rows of features, compiled by numba: one row of the product at a time, reduced while it is in cache.

Sums are in float64 and in the order of tokens, without reassociation or fused multiply-add, so that a pair of features has the
same correlation whichever of them is the row, whichever thread computes it, and with or without numba (``fallback``).
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba.core import cgutils
from numba.extending import intrinsic

AHEAD, FURTHER = np.uint64(8), np.uint64(16)
"""How many tokens ahead memory is prefetched: a token's values, and, earlier, the index where they begin."""
LINE = np.uint64(64)
ONE, TWO, THREE, FOUR = (np.uint64(k) for k in (1, 2, 3, 4))  # a signed number among them would make every index a float
LANES = 64


def compiled(function: Any) -> Any:
    """Compile to run without the interpreter lock, and cache the machine code on disk if numba finds a writable folder.

    >>> compiled(lambda x: x + 1)(2)
    3
    """
    options: dict[str, Any] = {"nogil": True, "fastmath": {"nnan", "nsz"}}
    try:
        return numba.njit(cache=True, **options)(function)
    except RuntimeError:  # no such folder: an installation that cannot be written to, by a user without a home
        return numba.njit(**options)(function)


def _prefetch(context: Any, array: Any, index: Any) -> Any:
    """Prefetch the cache line of ``array[index]``, without waiting for it."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind, byte, flag = signature.args[0], ir.IntType(8).as_pointer(), ir.IntType(32)
        struct = context.make_array(kind)(context, builder, arguments[0])
        item = cgutils.get_item_pointer(context, builder, kind, struct, [arguments[1]], wraparound=False)
        shape = ir.FunctionType(ir.VoidType(), [byte, flag, flag, flag])
        function = cgutils.get_or_insert_function(builder.module, shape, "llvm.prefetch.p0")
        builder.call(function, [builder.bitcast(item, byte), flag(0), flag(3), flag(1)])  # to read, to all caches, data
        return context.get_dummy_value()

    return numba.types.void(array, index), emit


prefetch: Any = intrinsic(_prefetch)


def _top(values: Any, lane: Any) -> float:
    """The greatest value, computed in lanes: each step of a single running maximum would wait for the one before."""
    lane[:] = -np.inf
    full = len(values) // LANES * LANES
    for start in range(0, full, LANES):
        for k in range(LANES):
            lane[k] = max(lane[k], values[start + k])
    top = -np.inf
    for k in range(LANES):
        top = max(top, lane[k])
    for k in range(full, len(values)):
        top = max(top, values[k])
    return top


highest: Any = compiled(_top)


def _rotated(token: Any, turn: Any, tokens: Any) -> Any:
    """The other side's token that ``token`` is paired with."""
    t = np.uint64(token) + turn
    return t - tokens if t >= tokens else t


rotated: Any = compiled(_rotated)


def _double(context: Any, bits: Any) -> Any:
    """The float64 with these bits."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.DoubleType())

    return numba.types.float64(numba.types.uint64), emit


double: Any = intrinsic(_double)


def _rows(
    chosen: Any,
    begin: Any,
    token: Any,
    value: Any,
    shift: Any,
    scale: Any,
    other_begin: Any,
    other: Any,
    other_shift: Any,
    other_scale: Any,
    rotate: int,
    best: Any,
    best_at: Any,
    column: Any,
    column_at: Any,
) -> None:
    """Correlate ``chosen`` features with all of the other side.

    ``begin``, ``token``, ``value``: one side by feature. ``other_begin``, ``other``: the other side by token, each entry a feature
    and a value as ``sides.packed`` packs them. Token t is paired with the other side's token t + ``rotate``. Fills ``best`` and
    ``best_at`` [feature] for the chosen features, and updates ``column`` and ``column_at`` [other feature] where a correlation is
    greater; of equal ones the first stays.

    A value's bits, moved to where a float64 has its exponent and mantissa, are the value divided by ``factor`` squared. One
    ``factor`` is multiplied in before the sums and one after, since both at once would overflow for great values.
    """
    tokens, width, turn = np.uint64(len(other_begin) - 1), len(other_shift), np.uint64(rotate)
    total, lane = np.zeros(width, np.float64), np.empty(LANES, np.float64)
    half = other.itemsize == 4
    bits, up, sign_up = (np.uint64(16), np.uint64(42), np.uint64(48)) if half else (np.uint64(32), np.uint64(29), np.uint64(32))
    factor = 2.0**504 if half else 2.0**448
    sign = ONE << (bits - ONE)
    magnitude = sign - ONE
    line = LINE // np.uint64(other.itemsize)
    for i in chosen:
        total[:] = 0
        at, stop = np.uint64(begin[i]), np.uint64(begin[i + 1])
        while at < stop:
            if at + FURTHER < stop:
                prefetch(other_begin, rotated(token[at + FURTHER], turn, tokens))
            if at + AHEAD < stop:
                t = rotated(token[at + AHEAD], turn, tokens)
                p, end = np.uint64(other_begin[t]), np.uint64(other_begin[t + ONE])
                while p < end:
                    prefetch(other, p)
                    p += line
            t = rotated(token[at], turn, tokens)
            v = np.float64(value[at]) * factor
            p, end = np.uint64(other_begin[t]), np.uint64(other_begin[t + ONE])
            while p + FOUR <= end:  # features of a token differ, so four sums can be on their way at once
                w, x, y, z = (
                    np.uint64(other[p]),
                    np.uint64(other[p + ONE]),
                    np.uint64(other[p + TWO]),
                    np.uint64(other[p + THREE]),
                )
                j, k, m, n = w >> bits, x >> bits, y >> bits, z >> bits
                a = total[j] + v * double((w & magnitude) << up | (w & sign) << sign_up)
                b = total[k] + v * double((x & magnitude) << up | (x & sign) << sign_up)
                c = total[m] + v * double((y & magnitude) << up | (y & sign) << sign_up)
                d = total[n] + v * double((z & magnitude) << up | (z & sign) << sign_up)
                total[j], total[k], total[m], total[n] = a, b, c, d
                p += FOUR
            while p < end:
                w = np.uint64(other[p])
                total[w >> bits] += v * double((w & magnitude) << up | (w & sign) << sign_up)
                p += ONE
            at += ONE
        own_shift, own_scale = shift[i] / factor, scale[i] * factor
        for r in range(width):
            total[r] = (total[r] - own_shift * other_shift[r]) * (own_scale * other_scale[r])
        for r in range(width):
            if total[r] > column[r]:
                column[r] = total[r]
                column_at[r] = i
        best[i] = highest(total, lane)
        for r in range(width):
            if total[r] == best[i]:
                best_at[i] = r
                break


rows: Any = compiled(_rows)
