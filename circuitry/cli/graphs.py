"""Commands that list what is available: ``graph | models``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ..content import names
from ..store.files import check_writable, write_whole
from . import options as read
from .options import FigureStyle, Revision

app = typer.Typer()


@app.command()
def graph(
    model: Annotated[str, typer.Argument(help=f"a model, a file that defines ARCHITECTURE, or {', '.join(names('graphs'))}")],
    out: Annotated[Path | None, read.out_file("write .svg, .png, .dot, .graphml or .json; by default NAME-graph.svg")] = None,
    revision: Revision = None,
    layer: Annotated[int, typer.Option(help="the layer to draw; the layers of a hybrid differ")] = 0,
    style: FigureStyle = "screen",
) -> None:
    """Show the nodes of a model's architecture, and draw one layer or write the whole graph."""
    from ..architecture.definitions import REFUSED, model_types
    from ..architecture.named import graph as make_graph

    target = out or Path(f"{_plain(model)}-graph.svg")
    read.check_suffix(target, "a graph", (".svg", ".png", ".pdf", ".dot", ".graphml", ".json"))
    if out is None:
        check_writable(target)  # before a model is loaded, which may take minutes
    is_definition = model in {*names("graphs"), *model_types(), *REFUSED} or model.endswith(".py")
    architecture = make_graph(model) if is_definition else read.load(model, revision=revision).graph
    print(repr(architecture))
    for family in architecture.families:
        indices = f"[{','.join(family.indices)}]" if family.indices else ""
        ports = f"  ports: {', '.join(family.ports)}" if family.ports else ""
        print(f"  {family.name + indices:<20} {family.shape:<28} {family.meaning}{ports}")
    _write_graph(architecture, target, layer)
    print(f"written: {target.resolve()}")


def _plain(name: str) -> str:
    from ..suites.folder import plain

    return plain(name)


def _write_graph(architecture: Any, target: Path, layer: int) -> None:
    from ..architecture.export import to_dot, to_graphml, to_json

    written = {".dot": to_dot, ".graphml": to_graphml, ".json": to_json}
    if target.suffix in written:
        write_whole(target, written[target.suffix](architecture))
        return
    from ..drawing.architecture import draw_layer
    from ..drawing.figures import save

    save(draw_layer(architecture, layer), target)


@app.command()
def models() -> None:
    """List the models that ship with circuitry, and the kinds it can load."""
    from ..architecture.definitions import model_types
    from ..compiled import NAMES
    from ..models.loading import bundled

    print("trained, ready to use offline:")
    for name in bundled():
        print(f"  {name}")
    print("compiled, with known circuits:")
    for name in NAMES:
        print(f"  compiled:{name}")
    print("Hugging Face model types that can be loaded by name or folder (many from GGUF too):")
    print(f"  {', '.join(sorted(model_types()))}")
