"""What the documents say is what the code does."""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer

import circuitry as ct
from circuitry import content
from circuitry.architecture import definition
from circuitry.cli import app
from circuitry.paths import GRAMMAR, Position, Site, parse_node, parse_position, sites
from circuitry.paths.terms import Term
from support.pages import ROOT, difference, outputs
from support.pages import blocks as fenced

PAGES = sorted(page for page in (ROOT / "docs").rglob("*.md") if "api" not in page.parts)
RUN = [
    "../README.md",
    "index.md",
    "tutorial.md",
    "how-to/heads-that-write-a-key.md",
    "how-to/other-prompts.md",
    "how-to/why-methods-disagree.md",
    "how-to/two-checkpoints.md",
    "how-to/patch-a-state.md",
    "how-to/where-a-token-is-written.md",
    "how-to/own-sae.md",
    "how-to/reproduce-a-table.md",
    "how-to/cite.md",
    "tasks.md",
    "how-to/new-task.md",
    "how-to/prompt-files.md",
    "how-to/new-suite.md",
    "how-to/new-architecture.md",
    "how-to/notebooks.md",
    "how-to/paper-figures.md",
    "how-to/big-models.md",
    "how-to/native-checkpoints.md",
    "activations.md",
    "sae.md",
    "latents.md",
    "mppc.md",
    "causal.md",
    "features.md",
    "discovery.md",
    "claims.md",
]


def _hooks() -> Any:
    """The module that mkdocs loads by its path."""
    spec = importlib.util.spec_from_file_location("hooks", ROOT / "docs/mkdocs/hooks.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


hooks = _hooks()


def blocks(page: str, language: str = "") -> list[str]:
    """The fenced blocks of a page in one language."""
    return [block.body for block in fenced(ROOT / page) if block.language == language]


@pytest.mark.parametrize("page", RUN)
def test_a_page_shows_what_its_code_prints(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    shown = [difference(block.body, printed) for block, printed in outputs(ROOT / "docs" / page)]
    assert shown and not any(shown), "\n".join(shown)


def test_every_how_to_runs() -> None:
    assert {f"how-to/{page.name}" for page in (ROOT / "docs/how-to").iterdir()} <= set(RUN)


@pytest.mark.parametrize(
    ("shown", "printed", "same"),
    [
        ("a  -0.12 ± 0.04*\n---", "a -0.13 ± 0.04*\n-----", True),
        ("a -0.12", "a -0.20", False),
        ("80% at B+1", "81% at B+1", True),
        ("80% at B+1", "80% at B+2", False),
        ("16 examples", "15 examples", False),
        ("75 to 83", "76 to 83", True),
        ("75 to 83", "75 to 99", False),
        ("-0.12*", "-0.12", False),
    ],
)
def test_measured_numbers_may_differ_a_little_and_nothing_else(shown: str, printed: str, same: bool) -> None:
    assert (difference(shown, printed) == "") == same


def test_a_page_that_hides_what_it_prints_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("```python\nprint(1)\n```\n")
    with pytest.raises(AssertionError, match="does not show"):
        list(outputs(page))
    page.write_text("```python\nprint(1)\n```\n\nprints\n\n```text\n2\n```\n")
    assert [difference(block.body, printed) for block, printed in outputs(page)] != [""]


def test_the_grammar_in_the_docs_is_the_parsers() -> None:
    assert blocks("docs/path-language.md")[0].split() == GRAMMAR.split()


def test_every_line_of_the_grammar_is_explained() -> None:
    assert list(hooks.PRODUCTIONS) == list(hooks.productions())
    assert all(f"### {name}\n" in hooks.grammar() for name in hooks.productions())


READ: dict[str, Callable[[str], Any]] = {
    "path": ct.parse,
    "leg": lambda text: ct.parse(f"embed {text}"),
    "sites": lambda text: ct.parse(f"{text} -> logits").sources,
    "site": lambda text: ct.parse(f"{text} -> logits").sources[0],
    "nodes": lambda text: ct.parse(f"embed -> logits freezing {text}").legs[0].frozen,
    "node": parse_node,
    "term": lambda text: parse_node(f"resid[2].{text}").term,
    "index": lambda text: parse_node(f"mlp[{text}]").indices[0],
    "position": parse_position,
}
"""How to read a text of each line of the grammar by itself."""
EXAMPLES = [(name, text, python) for name, one in hooks.PRODUCTIONS.items() for text, python, _ in one["examples"]]


@pytest.mark.parametrize(("name", "text", "python"), EXAMPLES, ids=[text for _, text, _ in EXAMPLES])
def test_an_example_of_the_grammar_is_the_python_beside_it(name: str, text: str, python: str) -> None:
    g = ct.graph("gpt2")
    value = eval(python, {"ct": ct, "g": g, "source": g.embed, "Site": Site, "Position": Position, "Term": Term})
    assert READ[name](text) == (sites(value) if name == "sites" else value)


@pytest.mark.parametrize("name", content.names("graphs"))
def test_every_node_port_role_and_alias_is_in_the_reference(name: str) -> None:
    section = hooks.graphs().partition(f"### {name}\n")[2].partition("### ")[0]
    architecture = definition(name)
    for family in architecture.families:
        row = next(line for line in section.splitlines() if re.match(rf"\| `{family.name}[\[`]", line))
        assert all(f"`{port}`" in row for port in family.ports) and family.role in row
    assert all(f"`{alias}` " in section for alias in architecture.aliases)
    assert all(f"`{kind}`" in section for kind in architecture.model_types)


COMMANDS: dict[str, Any] = dict(hooks.every_command(typer.main.get_command(app)))


def read(words: list[str]) -> None:
    """Refuse a command line that circuitry cannot read; run nothing."""
    name = " ".join(words[:2]) if " ".join(words[:2]) in COMMANDS else words[0]
    COMMANDS[name].make_context(name, words[len(name.split()) :])


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_in_the_reference_with_an_example_that_can_be_read(name: str) -> None:
    section = hooks.commands().partition(f"## {name}\n")[2].partition("\n## ")[0]
    for option in COMMANDS[name].params:
        assert all(f"`{text}`" in section for text in option.opts if text.startswith("--") and text != "--help")
    program, *words = shlex.split(hooks.EXAMPLES[name].lines[-1])
    assert program == "circuitry" and words[: len(name.split())] == name.split()
    read(words)


def _markers(folder: str) -> list[list[str]]:
    found = (hooks._MARKER.findall(page.read_text()) for page in sorted((ROOT / "docs" / folder).rglob("*.md")))
    return [text.split() for texts in found for text in texts]


def test_every_marker_is_answered() -> None:
    used = {words[0] for words in _markers(".")}
    assert used == set(hooks.PARTS)
    with pytest.raises(KeyError):
        hooks.on_page_markdown("<!-- generated: weather -->")


def test_the_api_pages_have_every_public_name() -> None:
    packages = [words[1] for words in _markers("api") if words[0] == "api"]
    made = re.findall(r"^::: (\S+)$", "\n\n".join(map(hooks.api, packages)), re.MULTILINE)
    assert len(made) == len(set(made))
    for package in ("paths", "architecture", "prompting", "models", "patching", "results", "evidence", "suites"):
        exported = importlib.import_module(f"circuitry.{package}").__all__
        passed_on = {"architecture": {"Node"}, "models": {"Vocabulary"}}.get(package, set())
        assert {f"circuitry.{package}.{name}" for name in exported if name not in passed_on} <= set(made)
    assert all(f"`ct.{name}`" in hooks.names() for name in ct.__all__)


def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    for needed in ("mkdocs", "material", "mkdocstrings_handlers.python"):
        pytest.importorskip(needed)
    command = shlex.split("-m mkdocs build --quiet --strict --config-file docs/mkdocs/mkdocs.yml --site-dir")
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, *command, tmp_path], capture_output=True, text=True, cwd=ROOT, env=environment)
    assert (done.returncode, done.stderr) == (0, "")
    assert "generated:" not in (tmp_path / "path-language.html").read_text()
    page = (tmp_path / "api/patching.html").read_text()
    assert 'id="circuitry.patching.patch"' in page
    assert "<blockquote>" not in page, "an example that is no code block becomes a quotation"


def test_the_python_in_the_path_language_page_runs() -> None:
    for block in blocks("docs/path-language.md", "python"):
        exec(compile(block, "docs/path-language.md", "exec"), {})


def test_every_path_in_the_path_language_page_can_be_read() -> None:
    page = (ROOT / "docs/path-language.md").read_text()
    for text in re.findall(r"^\| `([^`]+->[^`]+)` \|", page, re.MULTILINE):
        if text not in ("a -> b -> c",):
            assert str(ct.parse(text)) == text


def test_links_between_documents_lead_somewhere() -> None:
    for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


@pytest.mark.parametrize("page", [ROOT / "README.md", *PAGES], ids=lambda page: page.name)
def test_commands_in_the_documents_can_be_read(page: Path) -> None:
    """Every indented line that calls circuitry names a command and options that exist; those in ```sh blocks are run above."""
    for words in re.findall(r"^    (?:\w+=\S+ )?circuitry ([a-z].*)$", page.read_text(), re.MULTILINE):
        read(shlex.split(words, comments=True))
