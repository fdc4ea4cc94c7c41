"""Makes the parts of the site that would go stale: a marker ``<!-- generated: NAME -->`` in a page stands for one of PARTS.

``make docs`` runs it through mkdocs; nothing here is imported by circuitry. tests/project/test_docs.py checks what it writes.
"""

from __future__ import annotations

import importlib
import inspect
import re
import tempfile
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import typer

import circuitry
from circuitry import content
from circuitry.architecture import Architecture, Family, definition
from circuitry.cli import app
from circuitry.paths import GRAMMAR, Node

_MARKER = re.compile(r"<!-- generated: ([^>]+?) -->")


def on_page_markdown(markdown: str, **_: Any) -> str:
    """A page with its markers replaced; mkdocs calls it. Raises KeyError for a marker that nothing answers."""
    return _MARKER.sub(lambda found: _part(*found[1].split()), markdown)


def on_files(files: Any, config: Any) -> Any:
    """The site's files with a drawing of one layer of every architecture; mkdocs calls it."""
    from mkdocs.structure.files import File

    for name in content.names("graphs"):
        files.append(File.generated(config, _drawing(name), content=_drawn(name)))
    return files


def _drawing(name: str) -> str:
    return f"images/graph-{name}.svg"


def _drawn(name: str) -> str:
    from circuitry.drawing.architecture import draw_layer
    from circuitry.drawing.figures import save

    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "graph.svg"
        save(draw_layer(circuitry.graph(name)), target)
        return target.read_text()


def _part(name: str, *arguments: str) -> str:
    return PARTS[name](*arguments)


PRODUCTIONS: dict[str, dict[str, Any]] = tomllib.loads(Path(__file__).with_name("grammar.toml").read_text())


def productions() -> dict[str, str]:
    """The lines of the grammar by name, in its order."""
    return {line.split()[0]: line.partition("=")[2].strip() for line in GRAMMAR.splitlines() if line}


def grammar() -> str:
    """A section for every line of the grammar. Raises KeyError for a line that has no entry in grammar.toml."""
    parts = []
    for name, rule in productions().items():
        known = PRODUCTIONS[name]
        rows = [(code(text), code(python), means) for text, python, means in known["examples"]]
        parts += [f"### {name}", f"```\n{name} = {rule}\n```", known["meaning"], table(("text", "in Python", "means"), rows)]
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
    drawing = f"![One layer of {architecture.name}]({_drawing(architecture.name)})"
    return "\n\n".join([*parts, drawing, "Sources: " + "; ".join(architecture.citations) + "."])


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
    "view": "circuitry view runs/induction-mamba runs/induction-gpt_neox",
    "discover": "circuitry discover bundled:mamba --task induction -o distance=16 --examples 64 --out runs/found",
    "patch": 'circuitry patch bundled:gpt_neox "head[{layer},{head}] @ END -> logits freezing head" -o distance=16 --out heads.csv',
    "explain": 'circuitry explain bundled:mamba "ssm_state[{layer}] @ B+1 -> logits freezing ssm_state" --axis layer=2,3',
    "sensitivity": 'circuitry sensitivity bundled:mamba "ssm_state[{layer}] @ B+3 -> logits freezing ssm_state" --out grid.png',
    "offsets": "circuitry offsets bundled:mamba bundled:gpt_neox --examples 32 --out offsets.png",
    "graph": "circuitry graph mamba --out mamba.svg",
    "models": "circuitry models",
    "convert": "circuitry convert mamba-130m mamba-130m-safe",
    "benchmark discovery": "circuitry benchmark discovery",
    "circuits": "circuitry circuits induction bundled:gpt_neox bundled:mamba --out runs",
    "universality": "circuitry universality --models bundled:gpt_neox bundled:mamba --seed-variant bundled:gpt_neox_s1 --out runs",
    "replicate": "circuitry replicate --models bundled:gpt_neox bundled:mamba --seed-variant bundled:gpt_neox_s1 --out runs",
    "mppc": "circuitry mppc features/gpt_neox --with features/mamba --out matches",
    "activations": "circuitry activations bundled:gpt_neox resid --tokens 100000 --out acts",
    "features": "circuitry features features/gpt_neox features/mamba --matches matches --corpus corpus.safetensors --scorer proxy",
    "sae sweep": "circuitry sae sweep bundled:gpt_neox resid[2] -o l1=1,3 -o kind=relu,topk -o tokens=100000 --out sweep",
    "sae train": "circuitry sae train bundled:gpt_neox resid --tokens 100000 --expansion 8 --out saes",
    "sae evaluate": "circuitry sae evaluate saes",
    "sae encode": "circuitry sae encode saes --corpus corpus.safetensors --out features/gpt_neox",
    "sae latents": "circuitry sae latents bundled:gpt_neox resid[2] --attach saes --task induction -o distance=16 --at B --top 20",
}


def commands() -> str:
    """A section for every command: what it does, an example, its arguments and options. Raises KeyError without an example."""
    group = typer.main.get_command(app)
    assert isinstance(group, typer.core.TyperGroup)
    return "\n\n".join(_command(name, command) for name, command in every_command(group))


def every_command(group: Any, before: str = "") -> Iterator[tuple[str, Any]]:
    """Commands by name; those of a group have its name before theirs."""
    for name, command in group.commands.items():
        if isinstance(command, typer.core.TyperGroup):
            yield from every_command(command, f"{before}{name} ")
        else:
            yield before + name, command


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
    return "" if one.default is None or one.default is False else code(str(one.default))


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
        package = ".".join(getattr(value, "__module__", value.__name__).split(".")[:2])
        first = inspect.cleandoc(value.__doc__ or "").split("\n\n")[0].replace("\n", " ")
        link = f"({name}.md)" if inspect.ismodule(value) else f"[{package}.{name}]"
        rows.append((f"[`ct.{name}`]{link}", re.sub(r"``(.+?)``", r"`\1`", first)))
    return table(("name", "what it is"), rows)


def code(text: str) -> str:
    """Text in backticks, safe in a table; `text` must hold no backtick."""
    return "`" + text.replace("|", "\\|") + "`"


def table(header: Any, rows: Any) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(' '.join(str(cell).split()) for cell in line)} |" for line in lines)


PARTS: dict[str, Callable[..., str]] = {"grammar": grammar, "graphs": graphs, "commands": commands, "api": api, "names": names}
