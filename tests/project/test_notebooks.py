"""The notebooks of the documentation run, show what is stored in them, and are pages of the site."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from support.notebooks import NOTEBOOKS, ROOT, cells, pictures, printed
from support.pages import difference

every = pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)


def test_there_is_one_for_each_kind_of_model() -> None:
    assert [path.stem for path in NOTEBOOKS] == ["mamba", "transformer"]


@every
def test_a_notebook_shows_what_its_code_prints(notebook: Path, tmp_path: Path) -> None:
    # In a process of its own, since here every warning of the notebook's libraries would be an error.
    command: list[str | Path] = [sys.executable, ROOT / "tests/support/notebooks.py", notebook, tmp_path / "again.ipynb"]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr[-3000:]
    stored, again = cells(notebook), cells(tmp_path / "again.ipynb")
    assert len(stored) == len(again)
    differing = [difference(printed(one), printed(other)) for one, other in zip(stored, again, strict=True)]
    assert not any(differing), "\n".join(differing)
    assert [*map(pictures, stored)] == [*map(pictures, again)]


@every
def test_a_notebook_is_stored_with_all_its_outputs(notebook: Path) -> None:
    stored = cells(notebook)
    assert [cell["execution_count"] for cell in stored] == list(range(1, len(stored) + 1))
    assert all(cell["outputs"] for cell in stored)
    assert sum(map(pictures, stored)) >= 2
    kinds = [output["output_type"] for cell in stored for output in cell["outputs"]]
    assert "error" not in kinds
    assert not [output for cell in stored for output in cell["outputs"] if output.get("name") == "stderr"]
    assert not re.search(r"/home/|/work/|/tmp/|site-packages", notebook.read_text())


def _hook() -> Any:
    spec = importlib.util.spec_from_file_location("notebooks", ROOT / "docs/mkdocs/notebooks.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@every
@pytest.mark.filterwarnings("default")  # of nbconvert and what it imports
def test_a_page_of_the_site_has_all_of_a_notebook(notebook: Path) -> None:
    text, images = _hook().page(notebook)
    assert text.startswith("# ")
    for cell in cells(notebook):
        assert "".join(cell["source"]).strip() in text
        for output in cell["outputs"]:
            html = "".join(output.get("data", {}).get("text/html", ""))
            assert (re.sub(r"\n\s*\n", "\n", html) if html else "") in text
            if not html and not pictures({"outputs": [output]}):
                assert printed({"outputs": [output]}).strip() in text
    assert len(images) == sum(map(pictures, cells(notebook)))
    assert all(f"]({name})" in text and content.startswith(b"\x89PNG") for name, content in images.items())


@every
@pytest.mark.filterwarnings("default")
def test_a_page_makes_no_request_and_links_to_pages(notebook: Path) -> None:
    text, _ = _hook().page(notebook)
    assert not re.search(
        r"<script|<link|src=.http|url\((?![\"']?(?:data:|#))", text
    )  # a pattern in the style is part of the page
    links = set(re.findall(r"\]\(([\w./-]+\.(?:md|ipynb))\)", text))
    pages = {path.name for path in (ROOT / "docs").rglob("*.md")} | {f"{path.stem}.md" for path in NOTEBOOKS}
    assert {Path(link).name for link in links} <= pages | {notebook.name}
    assert [link for link in links if link.endswith(".ipynb")] == [notebook.name], "the notebook itself, to download"
