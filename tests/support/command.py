"""The command line, called in this process."""

from __future__ import annotations

import contextlib
import io
import sys
from typing import Any

import pytest
import typer

from circuitry import cli


def every_command(group: Any = None, before: str = "") -> dict[str, Any]:
    """All commands by name; those of a group have its name before theirs."""
    found: dict[str, Any] = {}
    top: Any = typer.main.get_command(cli.app)
    for name, command in (top if group is None else group).commands.items():
        inside = getattr(command, "commands", None)
        found |= every_command(command, f"{before}{name} ") if inside else {before + name: command}
    return found


def called(*words: str) -> tuple[Any, str, str]:
    """Exit code, standard output and standard error of a command."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patched, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        patched.setattr(sys, "argv", ["circuitry", *words])
        with pytest.raises(SystemExit) as end:
            cli.main()
    return end.value.code or 0, out.getvalue(), err.getvalue()


def circuitry(*words: str) -> str:
    """What a command prints; it must end well."""
    code, out, err = called(*words)
    assert code == 0, err
    return out
