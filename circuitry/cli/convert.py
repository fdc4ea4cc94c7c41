"""The command that makes a checkpoint loadable: ``convert``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer()


@app.command()
def convert(
    source: Annotated[
        Path, typer.Argument(help="a mamba-ssm folder, an RWKV-4 file or folder, or a folder with pytorch_model.bin")
    ],
    target: Annotated[Path, typer.Argument(help="a new folder")],
) -> None:
    """Convert an original or pickled checkpoint to a Hugging Face folder with safetensors. Code in the checkpoint is not run."""
    from ..models.convert import convert as convert_checkpoint

    print(convert_checkpoint(source, target))
