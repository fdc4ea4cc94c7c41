"""Many trainings in one call: those that can share a pass over the activations do."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from contextlib import nullcontext
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import CircuitryError
from ...paths.values import Node
from ...progress import together
from ...store.resumable import Resumable
from ...team import Team, team
from .checkpoints import TrainingFolder
from .grid import STREAM, Variant, grid
from .pairs import named, pairs
from .passes import Pass, Training
from .source import Batches, Source, source
from .swept import RECORD, Sweep, table
from .train import BATCH, BUFFER, CONTEXT, SAVE_EVERY, check_stream
from .trained import Trained

if TYPE_CHECKING:
    from ...models.model import Model
    from ..activations.corpus import Corpus
    from ..activations.stored import ActivationStore
    from ..activations.texts import Texts


@together()
def sweep(
    model: Model | ActivationStore | str | PathLike[str] | None,
    nodes: str | Node | Iterable[str | Node] | None = None,
    texts: Texts = None,
    *,
    out: str | PathLike[str],
    target: str | Node | Iterable[str | Node] | None = None,
    corpus: Corpus | None = None,
    activations: Batches | None = None,
    test: Corpus | None = None,
    buffer: int = BUFFER,
    context: int = CONTEXT,
    save_every: float = SAVE_EVERY,
    progress: bool = True,
    recipe: str | None = None,
    **settings: Any,
) -> Sweep:
    """Train SAEs with every combination of settings, and compare them in a table and a figure.

    A setting whose value is a list is varied. Trainings of other recipes, penalties, kinds, numbers of tokens and ``seed`` learn
    from the same batches, in one pass of the model over the text. Another ``batch``, or another ``order`` (the seed of the order
    of the tokens, 0 by default), makes other batches: such trainings take another pass, after the first. Every SAE is the same,
    bit for bit, as that of ``train_sae`` with the same settings, ``order`` and corpus.

    Args:
        model, nodes, texts, target, corpus, activations, buffer, context, save_every, progress, recipe: as for ``train_sae``;
            with ``target`` the sweep is of transcoders.
        out: the folder: a folder for every training, as ``train_sae`` writes them, ``sweep.csv`` and the figure. The same call
            resumes a killed sweep.
        test: a corpus on which every SAE is evaluated with the model, as by ``evaluate``; without it, the table has the numbers
            of the last report of each training.
        settings: ``batch``, ``seed``, ``order``, and any field of ``Recipe``: one value, or a list. A setting that one kind does
            not use is left out for that kind, if another kind of the sweep uses it.

    All SAEs of a pass are in memory with their optimizer, three times their weights. Raises what ``train_sae`` raises.

    >>> import tempfile
    >>> import torch
    >>> points = torch.randn(8, 64, 4, generator=torch.Generator().manual_seed(0))
    >>> folder = tempfile.mkdtemp()
    >>> saes = sweep(None, "resid[0]", activations=points, out=folder, l1=[1.0, 4.0], tokens=512, features=16, progress=False)
    >>> saes["l1=4.0"]["resid[0]"]
    SAE(resid[0] relu, 4 -> 16)
    >>> list(saes.frame.columns)
    ['l1', 'node', 'l0', 'explained_variance', 'dead']
    """
    if activations is not None:
        check_stream(
            model=(model, None), texts=(texts, None), corpus=(corpus, None), buffer=(buffer, BUFFER), context=(context, CONTEXT),
            **{name: (settings.get(name), None) for name in STREAM}, test=(test, None),
        )  # fmt: skip
    groups = _groups(grid(recipe, settings, BATCH))
    tokens = max(variant.recipe.tokens for group in groups for variant in group)
    with team() as crew:
        if activations is None:
            from ..activations.corpus import corpus as tokenised
            from ..activations.stored import opened
            from ..activations.stream import activations as collect

            stored = opened(model)
            if model is None or (nodes is None and stored is None):
                raise CircuitryError("name a model and its nodes, or give activations")
            if stored is not None and test is not None:
                raise CircuitryError(
                    "a test runs the model, and stored activations take its place; evaluate the SAEs with the model later"
                )
            text = corpus
            if stored is None and corpus is None:
                text = tokenised(model, texts, tokens=tokens, context=context)
            read = pairs(stored or model, nodes, target) if target is not None else {}
            both = dict.fromkeys((*read.values(), *read)) or nodes
            streams: list[Batches] = [
                collect(stored or model, both, corpus=text, batch=group[0].batch, buffer=buffer, seed=group[0].order)
                for group in groups
            ]
        else:
            read = pairs(None, nodes, target) if target is not None else {}
            streams = [activations]
        passes = [
            _pass(Path(out), number, group, source(stream, named(nodes), crew, read), crew, save_every, progress)
            for number, (group, stream) in enumerate(zip(groups, streams, strict=True))
        ]
        return _run(Path(out), groups, passes, _runs(model), test, progress)


def _runs(model: Any) -> Model | None:
    """The model, if it is one: stored activations in its place cannot evaluate."""
    return model if hasattr(model, "hf") else None


def _groups(variants: list[Variant]) -> list[list[Variant]]:
    """The variants that learn from the same batches, together."""
    groups: dict[tuple[int, int], list[Variant]] = {}
    for variant in variants:
        groups.setdefault((variant.batch, variant.order), []).append(variant)
    return list(groups.values())


def _pass(out: Path, number: int, group: list[Variant], shared: Source, crew: Team, save_every: float, progress: bool) -> Pass:
    trainings = [Training(variant.recipe, variant.seed, shared, crew, TrainingFolder(out / variant.name)) for variant in group]
    identity = {variant.name: training.identity for variant, training in zip(group, trainings, strict=True)}
    return Pass(trainings, TrainingFolder(out / f"pass-{number}"), identity, save_every, progress)


def _run(
    out: Path, groups: list[list[Variant]], passes: list[Pass], model: Model | None, test: Corpus | None, progress: bool
) -> Sweep:
    """Train, evaluate and write; the first process holds the folder."""
    crew = passes[0].trainings[0].team
    trainings = {name: identity for one in passes for name, identity in one.identity.items()}
    identity = {"trainings": trainings, "test": test.digest if test is not None else None}
    work, first = Resumable(out, RECORD, "sweep"), crew.rank == 0
    with work.held() if first else nullcontext():
        if first:
            work.begin(identity, state="running")
        crew.wait()
        trained: dict[str, Trained] = {}
        for one, group in zip(passes, groups, strict=True):
            trained |= zip((variant.name for variant in group), one.run(), strict=True)
            if first and one.folder is not None:
                shutil.rmtree(one.folder.path, ignore_errors=True)  # its checkpoints: every training has its own folder now
        if first:
            varied = {variant.name: dict(variant.varied) for group in groups for variant in group}
            Sweep(trained, table(trained, varied, model, test, progress), out).save(out)
            work.write({"identity": identity, "state": "complete", "varied": varied})
        crew.wait()
    return Sweep.load(out)
