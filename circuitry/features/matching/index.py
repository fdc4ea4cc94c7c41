"""``index.json`` of feature activations, and the check that it is unchanged."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import CircuitryError
from .blocks import Block
from .moments import NAMES, Ints
from .shards import VALUES, digest, shard_name

INDEX, STARTED, DOCUMENTS = "index.json", "writing.json", "documents.safetensors"
SEAL = "digest"
"""The entry with the digest of all other entries. Older folders lack it: their moments are checked against the files."""


def sealed(index: Mapping[str, Any]) -> dict[str, Any]:
    """An index with its digest.

    >>> sealed({"tokens": 1})["digest"] == sealed({"tokens": 2})["digest"]
    False
    """
    return {**index, SEAL: digest_of({key: value for key, value in index.items() if key != SEAL})}


def digest_of(index: Mapping[str, Any]) -> str:
    """A digest of all entries of an index.

    >>> len(digest_of({}))
    16
    """
    return hashlib.blake2b(json.dumps(index, sort_keys=True).encode(), digest_size=8).hexdigest()


def digest_of_documents(first: Ints) -> str:
    """A digest of the numbers of documents' first tokens; empty if there are none.

    >>> digest_of_documents(np.zeros(0, np.int64))
    ''
    """
    return hashlib.blake2b(np.ascontiguousarray(first, np.int64).data, digest_size=8).hexdigest() if len(first) else ""


def check_index(index: Any, folder: Path) -> None:
    """Raise CircuitryError if an index was changed or contradicts itself."""
    try:
        problem = _problem(index)
    except (KeyError, TypeError) as error:
        problem = f"an entry is missing or of another kind ({error})"
    if problem:
        raise CircuitryError(f"{folder / INDEX} is not as it was written: {problem}; write the feature activations again")


def check_shard(index: Mapping[str, Any], shard: Mapping[str, Any], block: Block, file: Path) -> None:
    """Raise CircuitryError if a file does not agree with the index."""
    actual = {"tokens": block.tokens, "nonzeros": len(block.feature), "digest": digest(block)}
    if {key: shard[key] for key in actual} != actual or block.value.dtype != VALUES[index["value"]]:
        raise CircuitryError(f"{file} is not what {INDEX} says; write the feature activations again")


def _problem(index: Any) -> str:
    """What is wrong with an index; empty if nothing is."""
    if SEAL in index and sealed(index) != index:
        return "it was changed afterwards"
    moments, tokens, features = index["moments"], index["tokens"], index["features"]
    if index["value"] not in VALUES:
        return f"its values are {index['value']!r}"
    if not tokens == moments["tokens"] == sum(shard["tokens"] for shard in index["shards"]):
        return "its numbers of tokens differ"
    if [shard["file"] for shard in index["shards"]] != [shard_name(k) for k in range(len(index["shards"]))]:
        return "its files are others, or in another order"
    if any(len(moments[name]) != features for name in NAMES):
        return f"its moments are not of {features} features"
    return ""
