"""Feature activations on disk: what is read is what was written, a kill loses one file, and only the same tokens are compared."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from safetensors.numpy import load_file
from scipy.sparse import csr_array

from circuitry.errors import CircuitryError
from circuitry.features.matching import FeatureActs, Writer, feature_acts, mppc
from circuitry.features.matching.blocks import Block
from circuitry.features.matching.moments import Moments
from circuitry.features.matching.sides import packed, unpacked
from support.some_activations import values

Array = NDArray[np.float64]


def batches(x: Array, sizes: tuple[int, ...] = (7, 1, 13)) -> Iterator[Array]:
    start, k = 0, 0
    while start < len(x):
        yield x[start : start + sizes[k % len(sizes)]]
        start, k = start + sizes[k % len(sizes)], k + 1


@pytest.mark.parametrize("shard", [3, 10, 50, 64])
def test_what_is_read_is_what_was_written(tmp_path: Path, shard: int) -> None:
    x = values()
    acts = FeatureActs.write(
        tmp_path, batches(x), features=9, corpus="c", provenance={"node": "resid[2]", "layer": 2}, shard=shard
    )
    np.testing.assert_array_equal(acts.csr().toarray(), x)
    assert acts.csr().data.dtype == np.float32
    assert len(list(tmp_path.glob("shard-*.safetensors"))) == -(-50 // shard)
    assert (acts.tokens, acts.features, acts.corpus, acts.name) == (50, 9, "c", "resid[2]")
    again = FeatureActs.open(tmp_path)
    assert again.index == acts.index and again.digest == acts.digest


def test_moments_are_of_all_tokens(tmp_path: Path) -> None:
    x = values()
    x[:, 4] = (-1 - x[:, 4]).astype(np.float16)
    found = FeatureActs.write(tmp_path, batches(x), features=9, shard=8).moments()
    np.testing.assert_array_equal(found.count, (x != 0).sum(0))
    np.testing.assert_allclose(found.sum, x.sum(0))
    np.testing.assert_allclose(found.squares, (x**2).sum(0))
    np.testing.assert_array_equal(found.max, x.max(0))
    np.testing.assert_allclose(found.deviations / 50, x.var(0))
    again = Moments.from_json(json.loads(json.dumps(found.to_json())))
    np.testing.assert_array_equal(again.sum, found.sum)


def test_a_shard_has_the_types_of_the_format(tmp_path: Path) -> None:
    FeatureActs.write(tmp_path, [values()], features=9)
    found = load_file(tmp_path / "shard-00000.safetensors")
    assert {name: array.dtype for name, array in found.items()} == {"feature": np.uint16, "value": np.float16, "count": np.uint16}
    wide = FeatureActs.write(
        tmp_path / "wide", [csr_array(([1.0], ([0], [69_999])), shape=(2, 70_000))], features=70_000, dtype="float32"
    )
    found = load_file(tmp_path / "wide" / "shard-00000.safetensors")
    assert {name: array.dtype for name, array in found.items()} == {"feature": np.uint32, "value": np.float32, "count": np.uint32}
    assert wide.csr()[0, 69_999] == 1


@given(
    st.lists(st.floats(width=16, allow_nan=False, allow_infinity=False), max_size=20), st.sampled_from([np.float16, np.float32])
)
def test_a_pair_gives_back_what_was_packed(numbers: list[float], kind: Any) -> None:
    value = np.array(numbers, kind)
    feature, again = unpacked(packed(np.arange(len(value)) * 3000, value))
    np.testing.assert_array_equal(feature, np.arange(len(value)) * 3000)
    np.testing.assert_array_equal(again.view(f"u{value.itemsize}"), value.view(f"u{value.itemsize}"))


@pytest.mark.parametrize("value", ["float16", "float32"])
def test_the_smallest_and_greatest_values_count(tmp_path: Path, value: str) -> None:
    """The kernel takes values apart by their bits: subnormal, negative and the greatest ones."""
    x = np.array([[6e-8, 0.0, -3.0], [0.0, 65504.0, 2.0], [1e-5, 30000.0, 0.0], [2e-4, 0.0, -1e-7], [0.0, 1.0, 5.0]])
    acts = FeatureActs.write(tmp_path, [x], features=3, dtype=value)
    y = acts.csr().toarray().astype(np.float64)
    for engine in ("numba", "scipy"):
        found = mppc(acts, [csr_array(y[:, [k]]) for k in range(3)], min_count=1, null=None, engine=engine, progress=False)
        np.testing.assert_allclose(found.forward["mppc"], 1, atol=1e-6)
        found = mppc(np.array([[1.0], [0], [0], [2], [1]]), acts, min_count=1, null=None, engine=engine, progress=False)
        np.testing.assert_allclose(found.reverse["mppc"], np.corrcoef([1, 0, 0, 2, 1], y.T)[0, 1:], atol=1e-6)


def test_values_that_round_to_zero_are_not_counted(tmp_path: Path) -> None:
    acts = FeatureActs.write(tmp_path, [np.array([[1e-9, 1.0], [0.5, 1e-9]])], features=2)
    assert acts.moments().count.tolist() == [1, 1]
    assert acts.csr().nnz == 2


def test_a_value_beyond_the_type_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CircuitryError, match="100000 does not fit into float16"):
        FeatureActs.write(tmp_path / "a", [np.array([[1e5]])], features=1)
    assert FeatureActs.write(tmp_path / "b", [np.array([[1e5]])], features=1, dtype="float32").moments().max[0] == 1e5


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (np.zeros((2, 3)), r"\[token, 9\], got an array of shape \[2, 3\]"),
        (np.full((1, 9), np.nan), "not a finite number"),
        (([9], [1.0], [1]), "expected features from 0 to 8, got 9"),
        (([1, 0], [1.0, 1.0], [2]), "ascending order"),
        (([1, 1], [1.0, 1.0], [2]), "ascending order"),
        (([1], [1.0], [2]), "do not fit"),
    ],
)
def test_what_is_no_batch_is_refused(tmp_path: Path, given: Any, told: str) -> None:
    with pytest.raises(CircuitryError, match=told):
        FeatureActs.write(tmp_path, [given], features=9)


def test_batches_may_be_dense_sparse_or_listed() -> None:
    x = values(6)
    dense = Block.of(x, 9)
    for other in (Block.of(csr_array(x), 9), Block.of((dense.feature, dense.value, dense.count), 9)):
        assert all((getattr(dense, name) == getattr(other, name)).all() for name in ("feature", "value", "count"))


@pytest.mark.parametrize("kept", [0, 1, 4])
def test_a_killed_writer_goes_on_and_ends_the_same(tmp_path: Path, kept: int) -> None:
    x = values()
    whole = FeatureActs.write(tmp_path / "whole", batches(x), features=9, corpus="c", shard=8)

    def killed() -> Iterator[Array]:
        yield from batches(x[: 8 * kept + 3])
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        FeatureActs.write(tmp_path / "part", killed(), features=9, corpus="c", shard=8)
    with pytest.raises(CircuitryError, match="writing was interrupted"):
        FeatureActs.open(tmp_path / "part")
    writer = Writer(tmp_path / "part", 9, corpus="c", shard=8)
    assert writer.tokens == 8 * kept
    again = FeatureActs.write(tmp_path / "part", batches(x), features=9, corpus="c", shard=8)
    assert again.index == whole.index


def test_a_last_file_that_was_cut_short_is_written_again(tmp_path: Path) -> None:
    x = values()
    writer = Writer(tmp_path, 9, shard=8)
    writer.add(x)
    writer._write(Block.joined(writer._waiting))  # and then, before the index, a kill
    assert Writer(tmp_path, 9, shard=8).tokens == 48
    assert FeatureActs.write(tmp_path, [x], features=9, shard=8).tokens == 50


def test_what_a_kill_left_half_written_is_cleared_away(tmp_path: Path) -> None:
    half = tmp_path / "shard-00000.safetensors.1a2b3c4d.new"
    half.write_bytes(b"half")
    acts = FeatureActs.write(tmp_path, [values()], features=9)
    assert not half.exists() and acts.tokens == len(values())


def test_a_whole_folder_is_not_written_again(tmp_path: Path) -> None:
    FeatureActs.write(tmp_path, [values()], features=9)

    def never() -> Iterator[Array]:
        raise AssertionError("read")
        yield

    assert FeatureActs.write(tmp_path, never(), features=9).tokens == 50


def test_other_activations_in_a_folder_are_not_overwritten(tmp_path: Path) -> None:
    FeatureActs.write(tmp_path, [values()], features=9, corpus="one")
    with pytest.raises(CircuitryError, match="corpus: one there, two here"):
        FeatureActs.write(tmp_path, [values()], features=9, corpus="two")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep me")
    with pytest.raises(CircuitryError, match="not empty"):
        FeatureActs.write(tmp_path / "mine", [values()], features=9)


def test_a_damaged_file_is_found(tmp_path: Path) -> None:
    acts = FeatureActs.write(tmp_path, batches(values()), features=9, shard=8)
    whole = (tmp_path / "shard-00001.safetensors").read_bytes()
    (tmp_path / "shard-00001.safetensors").write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(CircuitryError, match=r"is not what index\.json says"):
        acts.csr()
    (tmp_path / "shard-00001.safetensors").write_bytes((tmp_path / "shard-00006.safetensors").read_bytes())
    with pytest.raises(CircuitryError, match=r"is not what index\.json says"):
        acts.csr()
    (tmp_path / "shard-00001.safetensors").write_bytes(b"")
    with pytest.raises(CircuitryError, match="cannot be read"):
        acts.csr()


def test_nothing_to_write_or_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(CircuitryError, match="no tokens"):
        FeatureActs.write(tmp_path / "a", [], features=9)
    with pytest.raises(CircuitryError, match="no feature activations: the folder does not exist"):
        feature_acts(tmp_path / "nowhere")
    FeatureActs.write(tmp_path / "deep" / "down" / "here", [values()], features=9)
    with pytest.raises(CircuitryError, match="try the folders in down"):
        feature_acts(tmp_path / "deep")
    (tmp_path / "saes").mkdir()
    (tmp_path / "saes" / "training.json").write_text("{}")
    with pytest.raises(CircuitryError, match="it holds autoencoders; run `circuitry sae encode"):
        feature_acts(tmp_path / "saes")
    with pytest.raises(CircuitryError, match="did you mean 'float16'"):
        FeatureActs.write(tmp_path / "b", [values()], features=9, dtype="float15")


def test_only_the_same_tokens_are_compared(tmp_path: Path) -> None:
    x = values()
    one, other, masked = (
        FeatureActs.write(tmp_path / name, [x], features=9, corpus=corpus, mask=mask)
        for name, corpus, mask in (("a", "c", "m"), ("b", "d", "m"), ("c", "c", "all tokens"))
    )
    with pytest.raises(CircuitryError, match=r"another corpus than .*\('d', 'c'\).*encode both models on one corpus"):
        mppc(one, other)
    with pytest.raises(CircuitryError, match="another mask"):
        mppc(one, masked)
    with pytest.raises(CircuitryError, match="on 49 tokens"):
        mppc(one, x[:49])
    assert not (tmp_path / "out").exists()


def test_files_and_arrays_give_the_same(tmp_path: Path) -> None:
    a, b = values(seed=1), values(seed=2)
    acts = [FeatureActs.write(tmp_path / str(k), batches(x), features=9, shard=16) for k, x in enumerate((a, b))]
    for engine in ("numba", "scipy"):
        one, other = (mppc(*sides, min_count=3, engine=engine, progress=False) for sides in ((a, b), acts))
        np.testing.assert_allclose(one.forward["mppc"], other.forward["mppc"], atol=1e-12)
        np.testing.assert_allclose(one.reverse["null"], other.reverse["null"], atol=1e-12)


def test_folders_of_layers_are_read_in_order_of_layers(tmp_path: Path) -> None:
    for layer in (11, 2, 10):
        FeatureActs.write(tmp_path / f"resid-{layer}", [values()], features=9, provenance={"layer": layer})
    assert [acts.index["layer"] for acts in feature_acts(tmp_path)] == [2, 10, 11]
    assert [acts.index["layer"] for acts in feature_acts([tmp_path / "resid-11", tmp_path / "resid-2"])] == [11, 2]
