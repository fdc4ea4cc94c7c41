"""index.json of feature activations: what was changed in it afterwards is refused, whether or not it still fits the files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from circuitry.errors import CircuitryError
from circuitry.features.matching import FeatureActs, mppc
from circuitry.features.matching.index import sealed
from support.some_activations import values


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    documents = np.array([0, 20], np.int64)
    provenance = {"layer": 2, "node": "resid[2]"}
    FeatureActs.write(
        tmp_path, [values()], features=9, corpus="c", provenance=provenance, mask="m", documents=documents, shard=20
    )
    return tmp_path


def edit(folder: Path, change: Callable[[Any], object], again: Callable[[Any], Any] = lambda index: index) -> None:
    file = folder / "index.json"
    index = json.loads(file.read_text())
    change(index)
    file.write_text(json.dumps(again(index)))


def put(*keys: Any, value: Any) -> Callable[[Any], None]:
    def change(index: Any) -> None:
        for key in keys[:-1]:
            index = index[key]
        index[keys[-1]] = value

    return change


EDITS: dict[str, Callable[[Any], object]] = {
    "a sum": put("moments", "sum", 3, value=99.0),
    "a sum of squares, in its last digit": lambda index: put("moments", "squares", 0, value=index["moments"]["squares"][0] + 1e-14)(index),
    "a count": put("moments", "count", 3, value=1),
    "a maximum": put("moments", "max", 3, value=9.0),
    "the moments' tokens": put("moments", "tokens", value=49),
    "moments of fewer features": lambda index: index["moments"]["sum"].pop(),
    "tokens": put("tokens", value=49),
    "features": put("features", value=10),
    "the type of values": put("value", value="float32"),
    "another type": put("value", value="float8"),
    "the corpus": put("corpus", value="d"),
    "the mask": put("mask", value="all"),
    "the layer": put("layer", value=3),
    "a shard fewer": lambda index: index["shards"].pop(),
    "shards in another order": lambda index: index["shards"].reverse(),
    "a shard's nonzeros": put("shards", 0, "nonzeros", value=1),
    "a shard's digest": put("shards", 0, "digest", value="0" * 16),
    "documents": put("documents", value="0" * 16),
    "no moments": lambda index: index.pop("moments"),
    "moments that are none": put("moments", value=3),
}  # fmt: skip


@pytest.mark.parametrize("change", EDITS.values(), ids=EDITS)
def test_a_changed_index_is_refused(folder: Path, change: Callable[[Any], object]) -> None:
    edit(folder, change)
    with pytest.raises(CircuitryError, match=r"index\.json is not as it was written") as caught:
        FeatureActs.open(folder)
    assert "\n" not in str(caught.value) and "write the feature activations again" in str(caught.value)


NUMBERS = [name for name in EDITS if name not in ("the corpus", "the mask", "the layer", "documents")]


def unsealed(index: Any) -> Any:
    """As before there was a digest."""
    return {key: value for key, value in index.items() if key not in ("digest", "documents")}


@pytest.mark.parametrize("name", NUMBERS)
def test_an_older_index_is_held_against_its_files(folder: Path, name: str) -> None:
    """Numbers that no longer fit the files are found when they are used."""
    edit(folder, EDITS[name], unsealed)
    with pytest.raises(
        CircuitryError, match=r"is not as it was written|has other moments than its files|is not what index\.json says"
    ):
        acts = FeatureActs.open(folder)
        acts.moments()
        acts.csr()


@pytest.mark.parametrize("name", ["the type of values", "a shard's nonzeros", "a shard's digest", "documents", "another type"])
def test_an_index_that_was_sealed_anew_is_held_against_its_files_too(folder: Path, name: str) -> None:
    edit(folder, EDITS[name], sealed)
    with pytest.raises(CircuitryError, match=r"is not as it was written|is not what index\.json says"):
        acts = FeatureActs.open(folder)
        acts.csr()
        assert len(acts.documents)


def test_an_older_folder_gives_the_same_matches(folder: Path, tmp_path: Path) -> None:
    x = values(seed=3)
    new = mppc(FeatureActs.open(folder), x, min_count=3, progress=False)
    edit(folder, lambda index: None, unsealed)
    old = mppc(FeatureActs.open(folder), x, min_count=3, progress=False)
    assert new.forward.equals(old.forward) and new.reverse.equals(old.reverse)


def test_matching_with_a_changed_index_writes_nothing(folder: Path, tmp_path: Path) -> None:
    """Read before the change: what was read is used, and the next to read is told."""
    acts = FeatureActs.open(folder)
    edit(folder, EDITS["a sum"])
    assert acts.moments().sum[3] != 99
    with pytest.raises(CircuitryError, match="is not as it was written"):
        mppc(FeatureActs.open(folder), acts, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_documents_that_were_changed_are_refused(folder: Path) -> None:
    """The shifted null is computed from them."""
    file = folder / "documents.safetensors"
    save_file({"first": load_file(file)["first"] + 1}, file)
    with pytest.raises(CircuitryError, match=r"documents\.safetensors is not what index\.json says"):
        _ = FeatureActs.open(folder).documents
    file.unlink()
    with pytest.raises(CircuitryError, match=r"documents\.safetensors is not what index\.json says"):
        _ = FeatureActs.open(folder).documents
