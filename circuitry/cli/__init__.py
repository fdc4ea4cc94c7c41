"""The command line: ``circuitry run | demo | report | compare | view | discover | patch | explain | sensitivity | offsets | graph | models |
convert | doctor | benchmark discovery | circuits | universality | replicate | check | claims | activations | sae train | sae sweep | sae evaluate | sae encode |
sae latents | mppc | features``.

Imports torch only in commands that need it.
"""

from __future__ import annotations

import errno
import sys
from typing import Annotated, Any

import typer

from .. import __version__
from ..errors import CircuitryError
from ..progress import IMPORTS, importing, slow
from . import (
    activations,
    benchmark,
    claims,
    convert,
    discover,
    doctor,
    experiments,
    features,
    graphs,
    mppc,
    sae,
    suites,
    universality,
    view,
)
from .examples import Group, show_examples

DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
"""The error numbers of a disk that is full, over its quota, or read-only."""
INTERRUPTED = 130
"""The exit code after Ctrl-C, as shells have it."""


class Commands(Group):
    """All commands. Ctrl-C ends each of them with one line, whatever it was doing."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:
            print(" ".join(["Interrupted.", *map(str, error.args)]), file=sys.stderr, flush=True)
            raise typer.Exit(INTERRUPTED) from None


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for part in (suites, view, discover, experiments, claims, universality, mppc, features, activations, graphs, convert, doctor):
    app.add_typer(part.app)
app.add_typer(benchmark.app, name="benchmark", help="Measure circuitry on models whose circuits are known.", no_args_is_help=True)
app.add_typer(
    sae.app,
    name="sae",
    help="Train and evaluate sparse autoencoders, and write their features' activations.",
    no_args_is_help=True,
)
show_examples(app)


def _print_version(asked: bool) -> None:
    if asked:
        print(__version__)
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    """Which components carry a behaviour, and along which paths, in Transformers and state-space models."""


def main() -> None:
    """Run the command line; an error the user can fix, or a disk that cannot be written, prints one message and exits with code 2."""
    try:
        with slow(IMPORTS, when=importing):
            app()
    except CircuitryError as error:
        print(error, file=sys.stderr)
        raise SystemExit(2) from None
    except OSError as error:  # from other libraries, which write their own caches; our files raise FileError
        if error.errno not in DISK:
            raise
        print(f"{error.filename or 'a file'} cannot be written: {error.strerror}", file=sys.stderr)
        raise SystemExit(2) from None
