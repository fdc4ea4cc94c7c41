"""An example of every command, which its ``--help`` begins with and the documentation prints."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup


@dataclass(frozen=True)
class Example:
    """Lines for a shell, the command's own last. ``after``: the command whose example makes the files that these lines read.

    >>> print(Example(("circuitry report runs/mine",), after="run").text())
    Example, after that of 'circuitry run':
      circuitry report runs/mine
    """

    lines: tuple[str, ...]
    after: str = ""

    def text(self) -> str:
        """The example as ``--help`` shows it."""
        after = f", after that of 'circuitry {self.after}'" if self.after else ""
        return "\n".join([f"Example{after}:", *(f"  {line}" for line in self.lines)])


def _one(line: str, after: str = "") -> Example:
    return Example((line,), after)


_PAIR = "--models bundled:gpt_neox bundled:mamba --seed-variant bundled:gpt_neox_s1"
EXAMPLES = {
    "demo": _one("circuitry demo --out runs --examples 32"),
    "run": _one("circuitry run induction --model bundled:mamba --option distance=16 --out runs"),
    "report": _one("circuitry report runs/induction-mamba", after="run"),
    "compare": _one("circuitry compare runs/ioi-mamba runs/ioi-gpt_neox --out runs/both", after="demo"),
    "view": _one("circuitry view runs/induction-mamba", after="run"),
    "discover": _one("circuitry discover bundled:mamba --task induction -o distance=16 --examples 64 --out runs/found"),
    "patch": _one(
        'circuitry patch bundled:gpt_neox "head[{layer},{head}] @ END -> logits freezing head" -o distance=16 --out heads.csv'
    ),
    "explain": _one('circuitry explain bundled:mamba "ssm_state[{layer}] @ B+1 -> logits freezing ssm_state" --axis layer=2,3'),
    "sensitivity": _one(
        'circuitry sensitivity bundled:mamba "ssm_state[{layer}] @ B+3 -> logits freezing ssm_state" --out grid.png'
    ),
    "offsets": _one("circuitry offsets bundled:mamba bundled:gpt_neox --examples 32 --out offsets.png"),
    "claims": _one("circuitry claims runs/induction-mamba --out claims.yaml", after="run"),
    "check": _one("circuitry check claims.yaml --json verdicts.json", after="claims"),
    "graph": _one("circuitry graph mamba --out mamba.svg"),
    "models": _one("circuitry models"),
    "doctor": _one("circuitry doctor"),
    "convert": Example(
        ("hf download state-spaces/mamba-130m --local-dir mamba-130m", "circuitry convert mamba-130m mamba-130m-safe")
    ),
    "benchmark discovery": _one("circuitry benchmark discovery --count 6 --method eap --method random"),
    "circuits": _one("circuitry circuits induction bundled:gpt_neox bundled:mamba --out runs"),
    "universality": _one(f"circuitry universality {_PAIR} --out runs"),
    "replicate": _one(f"circuitry replicate {_PAIR} --out runs"),
    "activations": _one('circuitry activations bundled:gpt_neox "resid[2]" --tokens 100000 --out acts'),
    "sae train": _one('circuitry sae train bundled:gpt_neox "resid[2]" --tokens 100000 --expansion 8 --out saes'),
    "sae sweep": _one('circuitry sae sweep bundled:gpt_neox "resid[2]" -o l1=1,3 -o kind=relu,topk -o tokens=100000 --out sweep'),
    "sae evaluate": _one("circuitry sae evaluate saes --skip 100000", after="sae train"),
    "sae encode": _one(
        "circuitry sae encode saes --corpus corpus.safetensors --tokens 20000 --skip 100000 --out features/gpt_neox",
        after="sae train",
    ),
    "sae latents": _one(
        'circuitry sae latents bundled:gpt_neox "resid[2]" --attach saes --task induction -o distance=16 --at B --top 20',
        after="sae train",
    ),
    "mppc": Example(
        (
            'circuitry sae train bundled:mamba "resid[2]" --tokens 100000 --expansion 8 --out saes-mamba',
            "circuitry sae encode saes-mamba --corpus corpus.safetensors --out features/mamba",
            "circuitry mppc features/gpt_neox --with features/mamba --out matches",
        ),
        after="sae encode",
    ),
    "features": _one(
        "circuitry features features/gpt_neox features/mamba --matches matches --corpus corpus.safetensors --scorer proxy --out dashboard",
        after="mppc",
    ),
}
"""By command; a command without an entry shows none, and a test refuses it."""


def example_of(command: str) -> Example | None:
    """The example of a command, or the first one of a group of commands; "" is the group of all.

    >>> example_of("sae").lines == example_of("sae train").lines
    True
    """
    found: Iterator[Example] = (
        one for name, one in EXAMPLES.items() if not command or name == command or name.startswith(f"{command} ")
    )
    return next(found, None)


class _WithExample:
    """A command whose help begins with its example, on lines that are not wrapped, so that they can be copied."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        names: list[str] = []
        at = ctx
        while at.parent is not None:
            names.insert(0, at.info_name)
            at = at.parent
        if (example := example_of(" ".join(names))) is not None:
            typer.echo(example.text())
        super().format_help(ctx, formatter)  # type: ignore[misc]


class Command(_WithExample, TyperCommand):
    """One command."""


class Group(_WithExample, TyperGroup):
    """A group of commands."""


def show_examples(app: typer.Typer) -> None:
    """Make the help of every command of an app, and of its groups, begin with an example."""
    for info in app.registered_commands:
        info.cls = Command
    for group in app.registered_groups:
        if group.name:
            group.cls = Group
        if group.typer_instance is not None:
            show_examples(group.typer_instance)
