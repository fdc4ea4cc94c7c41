"""Runs a page of the documentation: its code in order, and what that prints beside what the page shows.

A ```python block runs in one namespace for the whole page; a block with a title is written to a file of that name instead. Lines of
an ```sh block that begin with ``circuitry`` run too. A ```text block is what the block before it printed.
``python tests/support/pages.py docs/tutorial.md`` puts what is printed now into the page.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

ROOT = Path(__file__).parents[2]
_FENCE = re.compile(r'^```(?P<language>\w*)(?: title="(?P<title>[^"]+)")?\n(?P<body>.*?)^```$', re.MULTILINE | re.DOTALL)
# Measured numbers differ in the last digit between machines; what counts something (B+1, 16 examples) does not.
_MEASURED = re.compile(r"-?\d+\.\d+|-?\d+(?=%)|-?\d+(?= to -?\d)|(?<= to )-?\d+")


@dataclass(frozen=True)
class Block:
    """A fenced block of a page, and where its body stands in the text."""

    language: str
    title: str | None
    body: str
    span: tuple[int, int]


def blocks(page: Path) -> list[Block]:
    """All fenced blocks of a page."""
    found = _FENCE.finditer(page.read_text())
    return [Block(m["language"], m["title"], m["body"], m.span("body")) for m in found]


def outputs(page: Path) -> Iterator[tuple[Block, str]]:
    """Run a page in the current folder; every ```text block with what was printed. Raises AssertionError for output not shown."""
    names: dict[str, Any] = {}
    printed, hidden = "", ""
    for block in blocks(page):
        if block.language == "text":
            yield block, printed
            printed = hidden = ""
        elif block.title:
            Path(block.title).write_text(block.body)
        elif block.language in ("python", "sh"):
            assert not hidden.strip(), f"{page.name} does not show what is printed:\n{hidden}"
            printed = hidden = ""
            if block.language == "python":
                printed = hidden = _printed_by(block.body, page.name, names)
            else:
                printed = "".join(map(_printed_by_command, block.body.splitlines()))
    assert not hidden.strip(), f"{page.name} does not show what is printed:\n{hidden}"


def _printed_by(code: str, name: str, names: dict[str, Any]) -> str:
    with contextlib.redirect_stdout(io.StringIO()) as out:
        exec(compile(code, name, "exec"), names)
    return out.getvalue()


def _printed_by_command(line: str) -> str:
    from circuitry import cli

    if not line.startswith("circuitry "):
        return ""
    out, err = io.StringIO(), io.StringIO()
    given = mock.patch.object(sys, "argv", shlex.split(line))
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), given:
        try:
            cli.main()
        except SystemExit as end:
            assert end.code in (0, None), f"{line}: {err.getvalue()}"
    return out.getvalue()


def difference(shown: str, printed: str) -> str:
    """Where two outputs differ, "" where they do not: the same words, and measured numbers within two units of the last digit."""
    words = [re.sub(r"\s+|(?<=-)-+", " ", _MEASURED.sub("#", text)).split() for text in (shown, printed)]
    if words[0] != words[1]:
        return f"shown:\n{shown}\nprinted:\n{printed}"
    for one, other in zip(_MEASURED.findall(shown), _MEASURED.findall(printed), strict=True):
        unit = 10.0 ** -len(one.partition(".")[2])
        if abs(float(one) - float(other)) > 2.01 * unit + 0.01 * abs(float(one)):
            return f"{one} is shown, {other} is printed, in:\n{printed}"
    return ""


def rewrite(page: Path) -> None:
    """Put what is printed now into the page's ```text blocks."""
    text = page.read_text()
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        made = list(outputs(page))
    for block, printed in reversed(made):
        lines = [line.rstrip() for line in printed.rstrip().splitlines()]
        text = text[: block.span[0]] + "\n".join(lines) + "\n" + text[block.span[1] :]
    page.write_text(text)


if __name__ == "__main__":
    os.environ.setdefault("MPLBACKEND", "agg")
    os.environ["COLUMNS"] = "100"
    for argument in sys.argv[1:]:
        rewrite(Path(argument).resolve())
