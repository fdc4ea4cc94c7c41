"""What the documents say is what the code does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import circuitry as ct
from circuitry.paths import GRAMMAR

ROOT = Path(__file__).parents[1]


def blocks(page: str, language: str = "") -> list[str]:
    """The fenced blocks of a page in one language."""
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)


def test_the_grammar_in_the_docs_is_the_parsers() -> None:
    assert blocks("docs/path-language.md")[0].split() == GRAMMAR.split()


def test_the_python_in_the_path_language_page_runs() -> None:
    for block in blocks("docs/path-language.md", "python"):
        exec(compile(block, "docs/path-language.md", "exec"), {})


def test_the_python_in_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for block in blocks("README.md", "python"):
        quick = block.replace("distance=32", "distance=8, examples=4")
        exec(compile(quick, "README.md", "exec"), {})
    assert (tmp_path / "table1.png").exists() and (tmp_path / "table1.tex").exists()


def test_every_path_in_the_path_language_page_can_be_read() -> None:
    page = (ROOT / "docs/path-language.md").read_text()
    for text in re.findall(r"^\| `([^`]+->[^`]+)` \|", page, re.MULTILINE):
        if text not in ("a -> b -> c",):
            assert str(ct.parse(text)) == text


def test_links_between_documents_lead_somewhere() -> None:
    for page in [ROOT / "README.md", *ROOT.glob("docs/*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
