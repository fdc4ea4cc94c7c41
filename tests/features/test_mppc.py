"""MPPC is numpy.corrcoef's greatest entry, whatever the order of work, and finds features that two models are known to share."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.sparse import csr_array

from circuitry.errors import CircuitryError
from circuitry.features.matching import FeatureActs, mppc
from circuitry.features.matching.best import engine as engine_of
from circuitry.features.matching.null import rotation
from support.some_activations import A, B, layer, same

Array = NDArray[np.float64]
ENGINES = pytest.mark.parametrize("engine", ["numba", "scipy"])


def expected(a: list[Array], b: list[Array], min_count: int) -> list[tuple[float, int, int]]:
    """For every feature of ``a``, layer by layer: its greatest correlation by numpy, and whose that is; NaN, -1, -1 where there is none."""
    x, y = np.concatenate(a, 1), np.concatenate(b, 1)
    alive, others = ((np.ptp(z, 0) > 0) & ((z != 0).sum(0) >= min_count) for z in (x, y))
    with np.errstate(all="ignore"):
        r = np.corrcoef(x.T, y.T)[: x.shape[1], x.shape[1] :].round(12)
    r[:, ~others] = -9
    names = [(layer, k) for layer, z in enumerate(b) for k in range(z.shape[1])]
    return [(row.max(), *names[int(row.argmax())]) if live else (np.nan, -1, -1) for row, live in zip(r, alive, strict=True)]


@ENGINES
@pytest.mark.parametrize("min_count", [0, 1, 20])
def test_it_is_the_greatest_correlation_that_numpy_finds(engine: str, min_count: int) -> None:
    found = mppc(A, B, min_count=min_count, null=None, engine=engine, threads=1, progress=False)
    for frame, own, other in ((found.forward, A, B), (found.reverse, B, A)):
        wanted = pd.DataFrame(expected(own, other, max(min_count, 1)), columns=["mppc", "layer_b", "feature_b"])
        np.testing.assert_allclose(frame["mppc"], wanted["mppc"], atol=1e-7)
        assert (frame[["layer_b", "feature_b"]] == wanted[["layer_b", "feature_b"]]).all(axis=None)
        assert frame["mppc"].isna().sum() == wanted["mppc"].isna().sum() > 0
        np.testing.assert_array_equal(frame["count_a"], np.concatenate([(x != 0).sum(0) for x in own]))
        matched = frame[frame["layer_b"] >= 0]
        counts = [(other[j][:, k] != 0).sum() for j, k in matched[["layer_b", "feature_b"]].itertuples(index=False)]
        np.testing.assert_array_equal(matched["count_b"], counts)


@ENGINES
@pytest.mark.parametrize("kind", [np.float16, np.float32])
def test_values_may_be_negative(engine: str, kind: Any, tmp_path: Path) -> None:
    x, y = np.random.default_rng(0).normal(size=(2, 200, 11)).astype(kind).astype(np.float64)
    sides = [FeatureActs.write(tmp_path / name, [k], features=11, dtype=np.dtype(kind).name) for name, k in (("a", x), ("b", y))]
    found = mppc(*sides, null=None, engine=engine, progress=False).forward
    r = np.corrcoef(x.T, y.T)[:11, 11:]
    np.testing.assert_allclose(found["mppc"], r.max(1), atol=1e-9)
    np.testing.assert_array_equal(found["feature_b"], r.argmax(1))


@ENGINES
@pytest.mark.parametrize("great", ["a", "b", "both"])
def test_types_of_values_may_differ_and_values_be_great(engine: str, great: str, tmp_path: Path) -> None:
    x, y = np.random.default_rng(0).random((2, 60, 5)).astype(np.float16).astype(np.float64)
    many = 2.0**100
    sides = [
        FeatureActs.write(tmp_path / name, [k * many if great in (name, "both") else k], features=5, dtype=kind)
        for name, k, kind in (
            ("a", x, "float32" if great != "b" else "float16"),
            ("b", y, "float32" if great != "a" else "float16"),
        )
    ]
    found = mppc(*sides, null=None, engine=engine, progress=False).forward
    np.testing.assert_allclose(found["mppc"], np.corrcoef(x.T, y.T)[:5, 5:].max(1), atol=1e-9)


def test_a_mean_far_above_its_spread_costs_no_precision() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(20_000, 2)) + 500
    y = x + rng.normal(size=(20_000, 2))
    x, y = (k.astype(np.float32).astype(np.float64) for k in (x, y))
    found = mppc(x, y, null=None, progress=False).forward["mppc"]
    np.testing.assert_allclose(found, [np.corrcoef(x[:, k], y[:, k])[0, 1] for k in range(2)], atol=1e-7)


@pytest.mark.parametrize("threads", [2, 5])
@ENGINES
def test_numbers_do_not_depend_on_threads_or_engine(engine: str, threads: int) -> None:
    one = mppc(A, B, min_count=1, threads=1, engine="numba", progress=False)
    other = mppc(A, B, min_count=1, threads=threads, engine=engine, progress=False)
    for frame, again in ((one.forward, other.forward), (one.reverse, other.reverse)):
        same(frame, again, 1e-12)
        assert (frame[["layer_b", "feature_b"]] == again[["layer_b", "feature_b"]]).all(axis=None)


def test_threads_share_the_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    from circuitry.features.matching import kernel

    original, shares = kernel.rows, []

    def rows(chosen: Any, *rest: Any) -> None:
        shares.append(chosen.tolist())
        original(chosen, *rest)

    monkeypatch.setattr(kernel, "rows", rows)
    mppc(A[0], B[0], min_count=1, threads=3, null=None, progress=False)
    assert len(shares) == 3 and max(map(len, shares)) - min(map(len, shares)) <= 1
    assert sorted(k for share in shares for k in share) == [k for k in range(70) if k not in (3, 5)]


@ENGINES
@pytest.mark.parametrize("threads", [1, 3])
def test_of_equal_matches_the_lowest_layer_and_feature_is_taken(
    engine: str, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("circuitry.features.matching.fallback.ROWS", 16)  # so that a feature and its twin are not in one product
    x = layer(0)
    twice = np.concatenate([x, x], 1)
    found = mppc([x], [twice, twice], min_count=1, null=None, engine=engine, threads=threads, progress=False)
    known = found.forward.dropna(subset=["mppc"])
    assert (known["layer_b"] == 0).all()
    assert (known["feature_b"] == known["feature_a"].replace(20, 10)).all()
    back = found.reverse.dropna(subset=["mppc"])
    assert (back["feature_b"] == (back["feature_a"] % 70).replace(20, 10)).all()


@ENGINES
def test_a_tie_is_the_lower_number_even_where_that_fires_less(engine: str) -> None:
    x = np.zeros((16, 2))
    x[[1, 5, 9], 0] = 1
    x[:, 1] = x[:, 0] - 1  # correlates with everything as the other does, to the last bit, on 13 tokens instead of 3
    y = np.arange(16.0)[:, None] % 5
    found = mppc(x, y, min_count=1, null=None, engine=engine, threads=1, progress=False)
    assert found.forward["mppc"].nunique() == 1 and found.forward["count_a"].tolist() == [3, 13]
    assert found.reverse["feature_b"].tolist() == [0]


@ENGINES
def test_layers_apart_and_together_are_the_same(engine: str) -> None:
    whole = mppc(A, B, min_count=1, engine=engine, progress=False)
    parts = [[mppc(x, y, min_count=1, engine=engine, progress=False) for y in B] for x in A]
    for number, row in enumerate(parts):
        own = whole.forward[whole.forward["layer_a"] == number].reset_index(drop=True)
        stacked = np.array([part.forward["mppc"].fillna(-9) for part in row])
        np.testing.assert_array_equal(own["mppc"].fillna(-9), stacked.max(0))
        assert (own["layer_b"].where(own["layer_b"] >= 0, 0) == stacked.argmax(0)).all()
        np.testing.assert_array_equal(own["null"], np.fmax.reduce([part.forward["null"] for part in row]))


def test_reverse_is_forward_of_the_swap() -> None:
    one, other = (mppc(x, y, min_count=1, null=None, progress=False) for x, y in ((A, B), (B, A)))
    same(one.reverse, other.forward)
    same(one.forward, other.reverse)


@settings(max_examples=15)
@given(st.data())
def test_the_order_of_tokens_does_not_matter(data: st.DataObject) -> None:
    tokens = data.draw(st.integers(2, 60))
    draw = st.integers(0, 2**32 - 1)
    x, y = (layer(data.draw(draw), max(tokens, 8), 25) for _ in range(2))
    order = np.random.default_rng(data.draw(draw)).permutation(len(x))
    one, other = (mppc(x[k], y[k], min_count=1, null=None, progress=False) for k in (slice(None), order))
    np.testing.assert_allclose(one.forward["mppc"], other.forward["mppc"], atol=1e-9)
    np.testing.assert_allclose(one.reverse["mppc"], other.reverse["mppc"], atol=1e-9)


@settings(max_examples=15)
@given(st.integers(0, 2**32 - 1), st.floats(0.01, 100))
def test_a_feature_matches_itself_rescaled(seed: int, factor: float) -> None:
    x = layer(seed, 60, 25)
    found = mppc(x, x * factor, min_count=1, null=None, progress=False).forward["mppc"].dropna()
    assert len(found) > 15
    np.testing.assert_allclose(found, 1, atol=1e-6)


@ENGINES
@pytest.mark.parametrize("shift", [1, 117])
def test_the_null_is_the_match_with_the_other_side_shifted(engine: str, shift: int) -> None:
    found = mppc(A, B, min_count=1, null=shift, engine=engine, progress=False)
    shifted = mppc(A, [np.roll(y, -shift, 0) for y in B], min_count=1, null=None, engine=engine, progress=False)
    np.testing.assert_allclose(found.forward["null"], shifted.forward["mppc"], atol=1e-12)
    np.testing.assert_allclose(found.reverse["null"], shifted.reverse["mppc"], atol=1e-12)
    assert not np.allclose(found.forward["null"], found.forward["mppc"], equal_nan=True)


def test_the_shift_is_half_of_the_tokens_at_a_document(tmp_path: Path) -> None:
    acts = FeatureActs.write(tmp_path / "a", [A[0]], features=70, documents=np.array([0, 100, 140, 260]))
    assert mppc(acts, acts, min_count=1, progress=False).provenance["shift"] == 140
    assert mppc(A[0], A[0], min_count=1, progress=False).provenance["shift"] == 150


@pytest.mark.parametrize(
    ("null", "tokens", "told"),
    [
        ("rotate", 9, "got 'rotate'"),
        (0, 9, "shift by 0 leaves"),
        (18, 9, "try 1 to 8"),
        ("shift", 1, "one token"),
        (True, 9, "got True"),
    ],
)
def test_a_shift_that_is_none_is_refused(null: Any, tokens: int, told: str) -> None:
    with pytest.raises(CircuitryError, match=told):
        rotation(null, tokens, np.zeros(0, np.int64))


@ENGINES
def test_planted_features_are_found_and_no_others(engine: str) -> None:
    """Two models share 40 of their features: permuted, rescaled, noisy, missed now and then, spread over two layers each."""
    rng, tokens, shared, own = np.random.default_rng(5), 4000, 40, 120
    common = np.where(rng.random((tokens, shared)) < 0.03, rng.exponential(1, (tokens, shared)) + 0.2, 0)

    def model() -> tuple[list[Array], list[tuple[int, int]]]:
        others = np.where(rng.random((tokens, own)) < 0.03, rng.exponential(1, (tokens, own)), 0)
        noisy = common * (rng.random(common.shape) < 0.95) * rng.uniform(0.9, 1.1, common.shape)
        order = rng.permutation(shared + own)
        x = np.concatenate([noisy, others], 1)[:, order] * rng.uniform(0.1, 10, shared + own)
        half = (shared + own) // 2
        return [x[:, :half], x[:, half:]], [divmod(int(np.flatnonzero(order == k)[0]), half) for k in range(shared)]

    (a, in_a), (b, in_b) = model(), model()
    found = mppc(a, b, engine=engine, progress=False)
    for frame, own_side, other in ((found.forward, in_a, in_b), (found.reverse, in_b, in_a)):
        high = frame[frame["mppc"] > 0.5]
        pairs = {((r.layer_a, r.feature_a), (r.layer_b, r.feature_b)) for r in high.itertuples()}
        assert pairs == set(zip(own_side, other, strict=True))
        assert frame["null"].max() < 0.5
    assert found.summary()["near null"].between(0.5, 0.85).all()


def test_a_side_without_any_feature_alive_has_no_matches() -> None:
    found = mppc(A[0], np.zeros((300, 4)), min_count=1, progress=False)
    assert found.forward["mppc"].isna().all() and found.reverse["mppc"].isna().all()
    assert (found.forward["feature_b"] == -1).all() and found.summary().loc["forward", "compared"] == 0
    assert "0 of 70 features compared" in found.text()


def test_more_features_than_two_bytes_can_number() -> None:
    x = csr_array((np.array([1.0, 2, 3, 1]), ([0, 1, 2, 3], [69_999, 5, 69_999, 5])), shape=(6, 70_000))
    found = mppc(x, x, min_count=1, null=None, progress=False).forward
    assert found["feature_b"][[5, 69_999]].tolist() == [5, 69_999]
    assert found["mppc"].count() == 2


def test_more_live_features_than_two_bytes_can_number(tmp_path: Path) -> None:
    number = 66_000
    x = csr_array(
        (np.ones(number + 2), (np.r_[np.arange(number) % 20, 20, 21], np.r_[np.arange(number), number - 1, number - 1]))
    )
    acts = FeatureActs.write(tmp_path, [x], features=number)
    found = mppc(x[:, [number - 1]], acts, min_count=1, null=None, progress=False)
    assert found.forward[["mppc", "feature_b"]].round(6).values.tolist() == [[1, number - 1]]


def test_without_numba_scipy_computes_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    one = mppc(A, B, progress=False)
    monkeypatch.setitem(sys.modules, "numba", None)
    monkeypatch.delitem(sys.modules, "circuitry.features.matching.kernel")
    monkeypatch.delattr("circuitry.features.matching.kernel")
    assert engine_of() == "scipy"
    same(one.forward, mppc(A, B, progress=False).forward, 1e-12)
    with pytest.raises(CircuitryError, match=r"circuitry-lm\[fast\]"):
        mppc(A, B, engine="numba")


def test_machine_code_is_kept_where_there_is_a_folder_for_it_and_only_there(monkeypatch: pytest.MonkeyPatch) -> None:
    from circuitry.features.matching import kernel

    asked: list[bool] = []
    njit = numba.njit

    def no_folder(*, cache: bool = False, **options: Any) -> Any:
        asked.append(cache)
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return njit(**options)

    assert type(kernel.rows._cache).__name__ == "FunctionCache"
    monkeypatch.setattr("numba.njit", no_folder)
    assert kernel.compiled(lambda x: x * 2)(3) == 6
    assert asked == [True, False]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"engine": "nunba"}, "did you mean 'numba'"),
        ({"threads": 0}, "at least 1, got 0"),
        ({"rank": 2, "world_size": 2}, "0 to 1 .*got 2"),
    ],
)
def test_mistakes_are_told(options: dict[str, Any], told: str) -> None:
    with pytest.raises(CircuitryError, match=told):
        mppc(A, B, progress=False, **options)


def test_an_empty_side_is_refused() -> None:
    with pytest.raises(CircuitryError, match="nothing to compare"):
        mppc([], B)
