"""Makes the parts of the site that would go stale: a marker ``<!-- generated: NAME -->`` in a page stands for one of PARTS.

``make docs`` runs it through mkdocs; nothing here is imported by circuitry. tests/test_docs.py checks what it writes.
"""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import typer

import circuitry
from circuitry import content
from circuitry.architecture import Architecture, Family, definition
from circuitry.cli import app
from circuitry.paths import GRAMMAR, Node, parse, parse_node, parse_position

_MARKER = re.compile(r"<!-- generated: ([^>]+?) -->")


def on_page_markdown(markdown: str, **_: Any) -> str:
    """A page with its markers replaced; mkdocs calls it. Raises KeyError for a marker that nothing answers."""
    return _MARKER.sub(lambda found: _part(*found[1].split()), markdown)


def _part(name: str, *arguments: str) -> str:
    return PARTS[name](*arguments)


@dataclass(frozen=True)
class Production:
    """What one line of the grammar means, and examples: (text, the same in Python, what it says)."""

    meaning: str
    examples: tuple[tuple[str, str, str], ...]
    read: Callable[[str], Any]
    """The text as a value, to be compared with the Python."""


def _sources(text: str) -> Any:
    return parse(f"{text} -> logits").sources


def _site(text: str) -> Any:
    return _sources(text)[0]


def _frozen(text: str) -> Any:
    return parse(f"embed -> logits freezing {text}").legs[0].frozen


def _index(text: str) -> Any:
    return parse_node(f"mlp[{text}]").indices[0]


def _after_source(text: str) -> Any:
    return parse(f"embed {text}")


PRODUCTIONS = {
    "path": Production(
        "A source and one leg or more. Of each leg the last sites are the next leg's source.",
        (
            ("mlp[0] -> logits", "g.mlp[0] >> g.logits", "one leg"),
            ("mlp[0] -> head[1,0].k -> logits", "g.mlp[0] >> g.head[1, 0].k >> g.logits", "two: what the key became is patched"),
        ),
        parse,
    ),
    "leg": Production(
        "An arrow to what is read, and what is held at its base value meanwhile. In Python, `source` is the path so far.",
        (
            ("-> logits", "source >> g.logits", "everything between is recomputed"),
            ("-> logits directly", "(source >> g.logits).directly()", "only the residual stream connects the ends"),
            ("-> logits freezing head, mlp", "(source >> g.logits).freezing(g.head, g.mlp)", "all heads and MLPs are held"),
            (
                "-> logits freezing head except head[1,0]",
                "(source >> g.logits).freezing(g.head).sparing(g.head[1, 0])",
                "all heads but one are held",
            ),
        ),
        _after_source,
    ),
    "sites": Production(
        "One site, or several that are patched or read together.",
        (
            ("mlp[0]", "(g.mlp[0],)", "one"),
            ("(head[0,1] @ B, head[0,2] @ B)", '(g.head[0, 1] @ "B", g.head[0, 2] @ "B")', "a set: a tuple in Python"),
        ),
        _sources,
    ),
    "site": Production(
        "A node at a position. Without one: at every position; the logits at END.",
        (
            ("mlp[0]", "Site(g.mlp[0])", "at every position"),
            ("mlp[0] @ B+1", 'g.mlp[0] @ "B" + 1', "one token after B"),
            ("mlp[0] @ {position}", 'g.mlp[0] @ ct.axis("position")', "an axis of the table: the task's positions"),
        ),
        _site,
    ),
    "nodes": Production(
        "What `freezing` and `except` name, at all positions. A family without indices is all of its nodes.",
        (
            ("head", "(g.head,)", "every head of every layer"),
            ("head, mlp[3]", "(g.head, g.mlp[3])", "and one MLP"),
        ),
        _frozen,
    ),
    "node": Production(
        "A family of the architecture (or its alias), its indices, and perhaps a port.",
        (
            ("logits", "g.logits", "no index"),
            ("head[9,6]", "g.head[9, 6]", "layer 9, head 6"),
            ("head[9,6].q", "g.head[9, 6].q", "the query of that head"),
        ),
        parse_node,
    ),
    "index": Production(
        "A number from 0 up, or an axis of the table.",
        (
            ("3", "3", "layer 3"),
            ("{layer}", 'ct.axis("layer")', "every layer, or those that `axes` names"),
        ),
        _index,
    ),
    "position": Production(
        "A name the task gives, a number from 0 up, or an axis; and an offset in tokens.",
        (
            ("B+1", 'Position("B", 1)', "one token after B; `task.positions.B + 1` is the same"),
            ("7", "Position(7)", "the eighth token of every prompt"),
            ("{position}-1", 'Position(ct.axis("position"), -1)', "one token before each position of the axis"),
        ),
        parse_position,
    ),
}


def productions() -> dict[str, str]:
    """The lines of the grammar by name, in its order."""
    return {line.split()[0]: line.partition("=")[2].strip() for line in GRAMMAR.splitlines() if line}


def grammar() -> str:
    """A section for every line of the grammar. Raises KeyError for a line that has no entry in PRODUCTIONS."""
    parts = []
    for name, rule in productions().items():
        known = PRODUCTIONS[name]
        rows = [(code(text), code(python), meaning) for text, python, meaning in known.examples]
        parts += [f"### {name}", f"```\n{name} = {rule}\n```", known.meaning, table(("text", "in Python", "means"), rows)]
    return "\n\n".join(parts)


def graphs() -> str:
    """Every shipped architecture: what its file says of it, its sizes and its node families."""
    return "\n\n".join(_graph(definition(name), content.load("graphs", name).__doc__ or "") for name in content.names("graphs"))


def _graph(architecture: Architecture, about: str) -> str:
    short = {full: alias for alias, full in architecture.aliases.items()}
    rows = [_family(family, short.get(family.name, "")) for family in architecture.families]
    header = ["node", "what it is", "shape", "role", "ports", "can be frozen"]
    if short:
        header.insert(1, "alias")
    else:
        rows = [row[:1] + row[2:] for row in rows]
    types = ", ".join(map(code, architecture.model_types))
    sizes = ", ".join(f"{name} {size}" for name, size in architecture.example.items() if name != "parallel")
    told = re.sub(r"``(.+?)``", r"`\1`", inspect.cleandoc(about))
    parts = [
        f"### {architecture.name}",
        told,
        f"Hugging Face types: {types}. Sizes without a model: {sizes}.",
        table(header, rows),
    ]
    return "\n\n".join([*parts, "Sources: " + "; ".join(architecture.citations) + "."])


def _family(family: Family, alias: str) -> list[str]:
    node = str(Node(family.name)) + (f"[{','.join(family.indices)}]" if family.indices else "")
    held = [name or "node" for name in family.freezable]
    shown = "no" if not held else "yes" if held == ["node"] else ", ".join(held)
    ports = [*family.ports, *([family.value_port] if family.value_port else [])]
    names = ", ".join(map(code, ports))
    return [code(node), code(alias) if alias else "", family.meaning, code(family.shape), family.role, names, shown]


EXAMPLES = {
    "run": "circuitry run induction --model bundled:mamba --option distance=16 --out runs",
    "demo": "circuitry demo --out runs --examples 32",
    "report": "circuitry report runs/induction-mamba",
    "compare": "circuitry compare runs/induction-mamba runs/induction-gpt_neox --out runs/both",
    "patch": 'circuitry patch bundled:gpt_neox "head[{layer},{head}] @ END -> logits freezing head" -o distance=16 --out heads.csv',
    "explain": 'circuitry explain bundled:mamba "ssm_state[{layer}] @ B+1 -> logits freezing ssm_state" --axis layer=2,3',
    "sensitivity": 'circuitry sensitivity bundled:mamba "ssm_state[{layer}] @ B+3 -> logits freezing ssm_state" --out grid.png',
    "offsets": "circuitry offsets bundled:mamba bundled:gpt_neox --examples 32 --out offsets.png",
    "graph": "circuitry graph mamba --out mamba.svg",
    "models": "circuitry models",
}


def commands() -> str:
    """A section for every command: what it does, an example, its arguments and options. Raises KeyError without an example."""
    group = typer.main.get_command(app)
    assert isinstance(group, typer.core.TyperGroup)
    return "\n\n".join(_command(name, command) for name, command in group.commands.items())


def _command(name: str, command: Any) -> str:
    rows = [(_names(one), one.help or "", _default(one)) for one in command.params if one.name != "help"]
    heading = [f"## {name}", inspect.cleandoc(command.help or ""), f"```\n{EXAMPLES[name]}\n```"]
    return "\n\n".join(heading + ([table(("argument or option", "what it is", "default"), rows)] if rows else []))


def _names(one: Any) -> str:
    if one.param_type_name == "argument":
        return code(one.name.upper()) + (" ..." if one.nargs == -1 else "")
    return ", ".join(map(code, [*one.opts, *one.secondary_opts])) + (" (repeatable)" if one.multiple else "")


def _default(one: Any) -> str:
    if one.required:
        return "required"
    return "" if one.default in (None, "", False) or callable(one.default) else code(str(one.default))


def api(package: str) -> str:
    """A mkdocstrings block for every public name that a package defines; what it only passes on stands elsewhere."""
    return "\n\n".join(f"::: {package}.{name}" for name in _own(package))


def _own(package: str) -> Iterator[str]:
    module = importlib.import_module(package)
    for name in module.__all__:
        home = getattr(getattr(module, name), "__module__", "") or ""
        if not home.startswith("circuitry.") or home.startswith(package):
            yield name


def names() -> str:
    """What ``import circuitry`` gives: each name with the first sentence of its docstring, linked to its section."""
    rows = []
    for name in circuitry.__all__:
        value = getattr(circuitry, name)
        package = ".".join(value.__module__.split(".")[:2])
        first = inspect.cleandoc(value.__doc__ or "").split("\n\n")[0].replace("\n", " ")
        rows.append((f"[`ct.{name}`][{package}.{name}]", re.sub(r"``(.+?)``", r"`\1`", first)))
    return table(("name", "what it is"), rows)


def code(text: str) -> str:
    """Text in backticks, safe in a table; `text` must hold no backtick."""
    return "`" + text.replace("|", "\\|") + "`"


def table(header: Any, rows: Any) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(' '.join(str(cell).split()) for cell in line)} |" for line in lines)


PARTS: dict[str, Callable[..., str]] = {"grammar": grammar, "graphs": graphs, "commands": commands, "api": api, "names": names}
