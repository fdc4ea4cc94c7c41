"""The command that writes activations of nodes on text: ``activations``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import no_effect
from . import options as read
from .options import Context, Device, Dtype, Memory, Model, Rank, Revision, Texts, World

app = typer.Typer()


@app.command()
def activations(
    model: Model,
    nodes: Annotated[list[str], typer.Argument(help='nodes such as "resid[3]", or families such as resid for all their nodes')],
    out: Annotated[Path, read.out_folder("folder for the activations; run the same command to resume")],
    revision: Revision = None,
    texts: Texts = None,
    corpus: Annotated[Path | None, typer.Option(help="a corpus, a safetensors file, in place of --texts")] = None,
    tokens: Annotated[int | None, typer.Option(help="tokens to write; 2,000,000 by default, or the whole corpus")] = None,
    context: Context = 1024,
    buffer: Annotated[
        int, typer.Option(help="tokens of the corpus among which documents of similar length run together")
    ] = 65536,
    stored_dtype: Annotated[str, typer.Option(help="type of the numbers in the files: float32, float16 or bfloat16")] = "float32",
    memory: Memory = "512MiB",
    rank: Rank = None,
    world: World = None,
    dtype: Dtype = "float32",
    device: Device = "cpu",
) -> None:
    """Write the activations of nodes on text to a folder, from which autoencoders are trained without running the model again.

    Several processes may share the work with --rank and --world, or under torchrun. None of them waits for the others.
    """
    from ..features.activations.corpus import Corpus
    from ..features.activations.storing import store
    from ..features.activations.stream import activations as collect

    number, processes = read.ranks(rank, world)
    loaded = read.load(model, dtype, device, revision)
    if corpus is not None and texts is not None:
        raise no_effect("--texts", ..., "--corpus says which text", "leave one of the two out")
    text: dict[str, Any] = {"texts": texts, "tokens": tokens or 2_000_000} if corpus is None else {"tokens": tokens}
    given = Corpus.load(corpus) if corpus is not None else None
    batch = min(1024, buffer)  # nothing is cut into batches here
    found = collect(loaded, nodes, corpus=given, context=context, batch=batch, buffer=buffer, memory=memory, **text)
    written = store(found, out, dtype=stored_dtype, rank=number, world_size=processes)
    if missing := written.missing():
        ranks = sorted({shard % processes for shard in missing})
        read.warn(
            f"{len(missing)} of {len(written.shards)} shards are not written yet, the part of process {', '.join(map(str, ranks))} of "
            f"{processes}; if one of them has ended, run this command again without --rank to write what is missing"
        )
    else:
        print(written)
        print(f"written: {out.resolve()}")
