"""GGUF files as safetensors, converted once: reading GGUF takes a parse of its vocabulary and an unpacking of every block of numbers."""

from __future__ import annotations

import os
import shutil
import sys
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import platformdirs

from ...errors import FileError, ModelError
from .folder import sha256, undamaged, write_folder
from .parts import siblings

VARIABLE = "CIRCUITRY_CACHE"
"""The environment variable that names another folder, or is ``off``."""


def cache_folder() -> Path | None:
    """The folder of converted GGUF files, or None if ``CIRCUITRY_CACHE`` is ``off``.

    By default it is the platform's folder for caches, such as ``~/.cache/circuitry/gguf``.
    """
    given = os.environ.get(VARIABLE, "")
    if given.lower() == "off":
        return None
    return Path(given or platformdirs.user_cache_dir("circuitry", appauthor=False)).expanduser() / "gguf"


def cached(file: Path, graph: str | None, needs_tokenizer: bool) -> Path | None:
    """A Hugging Face folder with the model of a GGUF file, converted now if it was not before.

    None without a cache, if ``load_gguf`` would refuse at once, or if the cache cannot be written, which is said on stderr.
    Raises ModelError as ``load_gguf`` does, also where transformers cannot read a tokenizer that is needed.
    """
    cache = cache_folder()
    if cache is None or not file.is_file() or find_spec("gguf") is None:
        return None
    folder = cache / _identity(file)
    said = undamaged(folder)
    if said is None:
        said = _convert(file, folder, graph)
    if said is not None and needs_tokenizer and said["no_tokenizer"]:
        raise ModelError(said["no_tokenizer"])
    return None if said is None else folder


def _convert(file: Path, folder: Path, graph: str | None) -> dict[str, object] | None:
    shutil.rmtree(folder, ignore_errors=True)  # a damaged one; a folder cannot be moved over another
    try:
        write_folder(file, folder, graph)
    except FileError as error:
        if said := undamaged(folder):  # another process was faster
            return said
        _note(
            f"{file.name} is converted at every call, since {error}; {VARIABLE}=FOLDER names another folder, {VARIABLE}=off none"
        )
        return None
    size = sum(part.stat().st_size for part in folder.iterdir()) / 2**20
    _note(
        f"{file.name} was converted once, to {size:,.0f} MiB in {folder} ({VARIABLE}=FOLDER names another folder, {VARIABLE}=off none)"
    )
    return undamaged(folder)


def _identity(file: Path) -> str:
    """Of a file's bytes, and of all code that turns them into weights: a newer converter may read the same file differently."""
    code = sorted(Path(__file__).parent.glob("*.py"))
    converter = "-".join([sha256(*code)[:12], *(f"{name}{version(name)}" for name in ("transformers", "gguf"))])
    return f"{sha256(*siblings(file))[:32]}-{converter}"


def _note(message: str) -> None:
    print(f"note: {message}", file=sys.stderr, flush=True)
