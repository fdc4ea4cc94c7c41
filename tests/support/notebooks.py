"""Runs a notebook of the documentation in a fresh kernel, and compares what it prints with what is stored in it.

``python tests/support/notebooks.py docs/notebooks/transformer.ipynb`` puts what is printed now into the notebook. With a second path,
the result is written there.
"""

from __future__ import annotations

import json
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "docs/notebooks").glob("*.ipynb"))
ANSI = re.compile(r"\x1b\[[0-9;]*m")


def run(source: Path, target: Path) -> None:
    """Run all cells in an empty folder and write the notebook with their outputs."""
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(source, as_version=4)  # type: ignore[no-untyped-call]
    # Bars and the line about slow imports depend on how fast a machine is, so the stored outputs have neither.
    os.environ |= {"TQDM_DISABLE": "1", "COLUMNS": "100", "PYTHONPATH": str(ROOT)}
    with tempfile.TemporaryDirectory() as folder:
        client = NotebookClient(notebook, kernel_name="python3", timeout=600, record_timing=False)
        client.execute(cwd=folder)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if output.get("data") != {"text/plain": ""}]
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    nbformat.write(notebook, target)  # type: ignore[no-untyped-call]


def cells(notebook: Path) -> list[dict[str, Any]]:
    """The code cells of a notebook."""
    every: list[dict[str, Any]] = json.loads(notebook.read_text())["cells"]
    return [cell for cell in every if cell["cell_type"] == "code"]


def printed(cell: dict[str, Any]) -> str:
    """What a cell shows as text, without pictures."""
    return "".join(_texts(cell))


def _texts(cell: dict[str, Any]) -> Iterator[str]:
    for output in cell["outputs"]:
        if "image/png" not in output.get("data", {}):
            yield ANSI.sub("", "".join(output.get("text") or output["data"]["text/plain"])) + "\n"


def pictures(cell: dict[str, Any]) -> int:
    """How many pictures a cell shows."""
    return sum("image/png" in output.get("data", {}) for output in cell["outputs"])


if __name__ == "__main__":
    given = [Path(argument).resolve() for argument in sys.argv[1:]]
    run(given[0], given[-1])
