"""Training SAEs: many nodes from one stream, each with its own optimizer, in one process or several."""

from __future__ import annotations

from collections.abc import Iterable
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import CircuitryError, no_effect
from ...paths.values import Node
from ...progress import together
from ...team import team
from .checkpoints import TrainingFolder
from .pairs import named, pairs
from .passes import Pass, Training
from .recipe import Recipe
from .source import Batches, source
from .trained import Trained

if TYPE_CHECKING:
    from ...models.model import Model
    from ..activations.corpus import Corpus
    from ..activations.stored import ActivationStore
    from ..activations.texts import Texts

BATCH, BUFFER, CONTEXT, SAVE_EVERY = 1024, 65536, 1024, 300.0
"""Defaults: tokens of a batch, of a buffer and of a document, and seconds between checkpoints."""


@together()
def train_sae(
    model: Model | ActivationStore | str | PathLike[str] | None,
    nodes: str | Node | Iterable[str | Node] | None = None,
    texts: Texts = None,
    *,
    target: str | Node | Iterable[str | Node] | None = None,
    corpus: Corpus | None = None,
    activations: Batches | None = None,
    out: str | PathLike[str] | None = None,
    seed: int = 0,
    order: int | None = None,
    batch: int = BATCH,
    buffer: int = BUFFER,
    context: int = CONTEXT,
    save_every: float = SAVE_EVERY,
    progress: bool = True,
    recipe: str | None = None,
    **settings: Any,
) -> Trained:
    """Train a sparse autoencoder on each node, all of them from one pass of the model over the text.

    ReLU with L1 as in appendix A of the paper, or another ``kind``. Weights are float32.

    Args:
        model, nodes, texts, corpus, context, batch, buffer: as for ``circuitry.activations``. In place of model and text,
            activations that ``store`` wrote, or their folder.
        target: train transcoders (Dunefsky et al. 2024): each reads one of ``nodes`` and predicts the target in its place, such as
            ``"mlp[3]"`` for ``"resid_mid[3]"``. The result has them by target.
        seed: for the weights, and for the order of the tokens if ``order`` is None.
        order: seed of the order of the tokens, if it is another one.
        activations: in place of model and texts, a stream (any object with ``batches(start)``), or an iterable of tensors
            [token, width] of the one node named, or of dictionaries from nodes to tensors. An iterable is read from its
            beginning again when a training is resumed.
        out: the folder. Every ``save_every`` seconds a checkpoint is written there; the same call resumes a killed training and
            ends with the same bits (with the same number of threads). A complete training is read back.
        progress: show a bar with L0, explained variance and the share of dead features, means over nodes.
        recipe: "paper" for the paper's recipe, which does not clip gradients; by default they are clipped.
        settings: any field of ``Recipe``, which gives each default and its reason.

    Under ``torchrun`` each process trains the autoencoders of some nodes and runs some of the passes of the model, whose values
    are exchanged; all of them return all autoencoders, which do not depend on the number of processes. Raises CircuitryError for unknown settings,
    batches that end before ``tokens``, and a folder with other settings; FileError for a folder that another training writes to,
    and for a disk that is full or cannot be written: the last checkpoint is then valid, and the same call resumes.

    >>> import torch
    >>> points = torch.randn(8, 64, 4, generator=torch.Generator().manual_seed(0))
    >>> saes = train_sae(None, "resid[0]", activations=points, tokens=512, features=16, progress=False)
    >>> saes["resid[0]"]
    SAE(resid[0] relu, 4 -> 16)
    """
    chosen = Recipe.of(recipe, **settings)
    if activations is not None:
        check_stream(
            model=(model, None), texts=(texts, None), corpus=(corpus, None),
            batch=(batch, BATCH), buffer=(buffer, BUFFER), context=(context, CONTEXT), order=(order, None),
        )  # fmt: skip
    if out is None and save_every != SAVE_EVERY:
        raise no_effect(
            "save_every", save_every, "checkpoints go to a folder, and there is none", "give out=, or leave save_every out"
        )
    with team() as crew:
        if activations is None:
            from ..activations.stored import opened
            from ..activations.stream import activations as collect

            stored = opened(model)
            if model is None or (nodes is None and stored is None):
                raise CircuitryError("name a model and its nodes, or give activations")
            given = stored is not None or corpus is not None
            text: dict[str, Any] = {"corpus": corpus} if given else {"tokens": chosen.tokens}
            options: dict[str, Any] = {"batch": batch, "buffer": buffer, "seed": seed if order is None else order}
            read = pairs(stored or model, nodes, target) if target is not None else {}
            both = dict.fromkeys((*read.values(), *read)) or nodes
            activations = collect(stored or model, both, texts, **text, context=context, **options)
        else:
            read = pairs(None, nodes, target) if target is not None else {}
        folder = TrainingFolder(Path(out)) if out is not None else None
        training = Training(chosen, seed, source(activations, named(nodes), crew, read), crew, folder)
        (trained,) = Pass([training], folder, training.identity, save_every, progress).run()
        return trained


def check_stream(**given: tuple[Any, Any]) -> None:
    """Refuse settings of how to collect activations, (value, default), if the activations are given.

    >>> check_stream(buffer=(BUFFER, BUFFER))
    >>> check_stream(buffer=(9, BUFFER))
    Traceback (most recent call last):
    circuitry.errors.CircuitryError: buffer=9 has no effect: the activations are given already; leave buffer out, or leave activations out
    """
    for name, (value, default) in given.items():
        if value is not None and value != default:
            shown = value if isinstance(value, int) else ...
            raise no_effect(name, shown, "the activations are given already", f"leave {name} out, or leave activations out")
