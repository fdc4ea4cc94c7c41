"""The command that makes safetensors of other checkpoints: ``convert``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from . import options as read

app = typer.Typer()


@app.command()
def convert(
    source: Annotated[
        Path,
        typer.Argument(
            help="a .gguf file, a mamba-ssm folder, an RWKV-4 or RWKV-7 file or folder, a folder with pytorch_model.bin, or an autoencoder's with ae.pt"
        ),
    ],
    target: Annotated[Path, typer.Argument(help="a new folder", callback=read.checked_folder)],
) -> None:
    """Convert a GGUF file, or an original or pickled checkpoint, to a folder with safetensors. Code in the checkpoint is not run.

    A model becomes a Hugging Face folder, an autoencoder of dictionary_learning a folder in SAELens's layout.
    """
    from ..models.convert import convert as convert_checkpoint

    print(convert_checkpoint(source, target))
