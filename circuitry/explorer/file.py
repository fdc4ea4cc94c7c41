"""The file ``explorer.json`` of a run folder: what its page shows and no table holds. Needs no torch."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..store.files import write_whole

NAME, FORMAT = "explorer.json", 1


def write(folder: Path, data: Mapping[str, Any]) -> None:
    """Write the file into a run folder. Raises FileError if it cannot be written.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> write(folder, {"format": FORMAT, "prompts": []})
    >>> read(folder)["prompts"]
    []
    """
    write_whole(folder / NAME, json.dumps(data, separators=(",", ":"), ensure_ascii=False))


def read(folder: Path) -> dict[str, Any]:
    """The file of a run folder; empty if the folder has none, or one of another version.

    >>> read(Path("nowhere"))
    {}
    """
    try:
        data = json.loads((folder / NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return data if isinstance(data, dict) and data.get("format") == FORMAT else {}


def significant(value: float, digits: int = 5) -> float:
    """A number with so many significant digits, which is more than a page shows.

    >>> significant(-27.489558994), significant(0.0)
    (-27.49, 0.0)
    """
    return float(f"{value:.{digits}g}") if math.isfinite(value) else value
