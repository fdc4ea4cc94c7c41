"""One file of feature activations: safetensors with the features, values and counts of consecutive tokens."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from ...errors import CircuitryError
from ...store.files import write_whole
from .blocks import Block

VALUES: dict[str, np.dtype[Any]] = {"float16": np.dtype(np.float16), "float32": np.dtype(np.float32)}


def shard_name(number: int) -> str:
    """The name of a file by its number, from 0.

    >>> shard_name(3)
    'shard-00003.safetensors'
    """
    return f"shard-{number:05}.safetensors"


def index_dtype(features: int) -> np.dtype[Any]:
    """The dtype of features and counts: two bytes if that is enough.

    >>> index_dtype(24576), index_dtype(65536)
    (dtype('uint16'), dtype('uint32'))
    """
    return np.dtype(np.uint16 if features < 1 << 16 else np.uint32)


def rounded(block: Block, dtype: str, features: int) -> Block:
    """A block in the dtypes of a file. Values that round to 0 are dropped, so that counts agree with the file.

    Raises CircuitryError for a value beyond the range of the dtype.

    >>> rounded(Block(np.array([0, 1]), np.array([1.0, 1e-9]), np.array([2])), "float16", 2).count
    array([1], dtype=uint16)
    """
    index = index_dtype(features)
    with np.errstate(over="ignore"):
        value = block.value.astype(VALUES[dtype])
    if not np.isfinite(value).all():
        highest = np.abs(block.value).max()
        raise CircuitryError(f"an activation of {highest:.6g} does not fit into {dtype}; store them as float32")
    nonzero = value != 0
    if nonzero.all():
        return Block(block.feature.astype(index), value, block.count.astype(index))
    token = np.repeat(np.arange(block.tokens), block.count)[nonzero]
    return Block(block.feature[nonzero].astype(index), value[nonzero], np.bincount(token, minlength=block.tokens).astype(index))


def save_whole(file: Path, arrays: dict[str, NDArray[Any]]) -> None:
    """Write a safetensors file, whole or not at all.

    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / "a.safetensors"
    >>> save_whole(file, {"count": np.arange(3)})
    >>> load_file(file)["count"]
    array([0, 1, 2])
    """
    contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    write_whole(file, lambda path: save_file(contiguous, path))


def write_shard(file: Path, block: Block) -> dict[str, Any]:
    """Write a block in its own dtypes; returns the file's entry for the index."""
    arrays = {"feature": block.feature, "value": block.value, "count": block.count}
    save_whole(file, arrays)
    return entry(file, block)


def entry(file: Path, block: Block) -> dict[str, Any]:
    """A file's entry for the index.

    >>> entry(Path("a"), Block(np.array([0]), np.array([1.0]), np.array([1])))["nonzeros"]
    1
    """
    return {"file": file.name, "tokens": block.tokens, "nonzeros": len(block.feature), "digest": digest(block)}


def read_shard(file: Path) -> Block:
    """Read a file back. Raises CircuitryError if it is missing or damaged."""
    try:
        arrays = load_file(file)
        return Block(arrays["feature"], arrays["value"], arrays["count"])
    except (OSError, SafetensorError, KeyError) as error:
        raise CircuitryError(f"{file} cannot be read ({error}); write the feature activations again") from None


def digest(block: Block) -> str:
    """A digest of all bytes of a block.

    >>> len(digest(Block(np.array([0]), np.array([1.0]), np.array([1]))))
    16
    """
    hasher = hashlib.blake2b(digest_size=8)
    for array in (block.feature, block.value, block.count):
        hasher.update(np.ascontiguousarray(array).data)
    return hasher.hexdigest()
