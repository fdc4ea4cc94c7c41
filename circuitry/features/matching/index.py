"""What ``index.json`` says of feature activations, and whether it is still what was written."""

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
"""The entry with the digest of all others. Folders of before there was one have none: their moments are computed from the files."""


def sealed(said: Mapping[str, Any]) -> dict[str, Any]:
    """An index with its digest.

    >>> sealed({"tokens": 1})["digest"] == sealed({"tokens": 2})["digest"]
    False
    """
    return {**said, SEAL: digest_of({key: value for key, value in said.items() if key != SEAL})}


def digest_of(said: Mapping[str, Any]) -> str:
    """Of everything that an index says.

    >>> len(digest_of({}))
    16
    """
    return hashlib.blake2b(json.dumps(said, sort_keys=True).encode(), digest_size=8).hexdigest()


def digest_of_documents(first: Ints) -> str:
    """Of the numbers of documents' first tokens; empty where there are none.

    >>> digest_of_documents(np.zeros(0, np.int64))
    ''
    """
    return hashlib.blake2b(np.ascontiguousarray(first, np.int64).data, digest_size=8).hexdigest() if len(first) else ""


def check_index(index: Any, folder: Path) -> None:
    """Raise CircuitryError where an index was changed, or does not fit itself."""
    try:
        told = _changed(index)
    except (KeyError, TypeError) as error:
        told = f"an entry is missing or of another kind ({error})"
    if told:
        raise CircuitryError(f"{folder / INDEX} is not as it was written: {told}; write the feature activations again")


def check_shard(index: Mapping[str, Any], shard: Mapping[str, Any], block: Block, file: Path) -> None:
    """Raise CircuitryError where a file is not what the index says of it."""
    there = {"tokens": block.tokens, "nonzeros": len(block.feature), "digest": digest(block)}
    if {key: shard[key] for key in there} != there or block.value.dtype != VALUES[index["value"]]:
        raise CircuitryError(f"{file} is not what {INDEX} says; write the feature activations again")


def _changed(index: Any) -> str:
    """What is wrong with an index; nothing where it is whole."""
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
