"""From a GGUF file to a Hugging Face folder with safetensors, the tokenizer, and the digest of every file in it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch

from ...errors import ModelError
from ...store.files import write_whole
from .load import read_gguf

DIGESTS = "circuitry.json"
"""The file of a folder that says what the folder holds: the sha256 of its other files, and why it has no tokenizer."""


def write_folder(file: Path, folder: Path, graph: str | None = None) -> Any:
    """Write the model of a GGUF file in float32, whole or not at all, with its tokenizer. Returns the Hugging Face model.

    A tokenizer that transformers cannot read is left out; ``DIGESTS`` has the reason. Raises ModelError as ``load_gguf`` does, and
    FileError if the folder cannot be written.
    """
    hf, tokenizer = read_gguf(file, torch.float32, graph)
    problem = str(tokenizer) if isinstance(tokenizer, ModelError) else None

    def write(new: Path) -> None:
        hf.save_pretrained(new)
        if problem is None and tokenizer is not None:
            tokenizer.save_pretrained(new)
        said = {"files": digests(new), "no_tokenizer": problem}
        (new / DIGESTS).write_text(json.dumps(said, indent=1), encoding="utf-8")

    write_whole(folder, write)
    return hf


def digests(folder: Path) -> dict[str, str]:
    """The sha256 of every file in a folder but ``DIGESTS``, by name."""
    return {file.name: sha256(file) for file in sorted(folder.iterdir()) if file.name != DIGESTS}


def sha256(*files: Path) -> str:
    """One sha256 of the bytes of several files, one after the other."""
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as content:
            while block := content.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def undamaged(folder: Path) -> dict[str, Any] | None:
    """What ``DIGESTS`` of a folder says, or None if the folder is not what was written."""
    try:
        said: dict[str, Any] = json.loads((folder / DIGESTS).read_text(encoding="utf-8"))
        return said if said["files"] == digests(folder) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
