"""How good SAEs are: features per token, variance explained, and what the model loses when it runs on reconstructions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from ...autoencoders.named import Given, by_node, check_target, check_width, read_by
from ...autoencoders.sae import SAE
from ...errors import CircuitryError, whole
from ...models.model import Model
from ...paths.values import Node
from ...progress import bar
from ..activations.passes import groups
from ..activations.stored import ActivationStore, opened
from ..activations.stream import activations

if TYPE_CHECKING:
    import pandas as pd

    from ...executing.activations import Change
    from ..activations.corpus import Corpus


def evaluate(
    model: Model | ActivationStore | str | PathLike[str],
    saes: Given,
    corpus: Corpus | None = None,
    *,
    tokens: int | None = None,
    memory: int | str = "512MiB",
    progress: bool = True,
) -> pd.DataFrame:
    """Evaluate SAEs, one at a time, at the used tokens of a corpus: a row for each.

    ``saes``: one SAE, several by node as from ``train_sae``, or several that name their node in ``config.provenance``.
    ``tokens``: only this many tokens of the corpus. Costs two forward passes, and two more for each SAE.

    Columns: ``node``; ``tokens``; ``l0``, features that fire at a token; ``explained_variance``, 1 - Σ‖x - x̂‖² / Σ‖x - mean‖²,
    0 for an SAE that always returns the mean; ``ce_clean``, ``ce_spliced``, ``ce_zero``: the cross-entropy of the next token, in
    nats, of the unchanged model, with x̂ for x, and with 0 for x; ``recovered``, (zero - spliced) / (zero - clean), 1 for a
    perfect SAE and 0 for one no better than zeros, NaN if the model does no worse with zeros; ``kl``, the mean Kullback-Leibler
    divergence KL(unchanged ‖ with x̂) of the distributions of the next token, in nats, 0 for a perfect SAE; ``dead``, the share of features
    that fired at none of these tokens. Of a transcoder, x is the value of the node that it predicts. Values of special tokens stay as they are, and their predictions are not counted.

    In place of ``model`` and ``corpus``, activations that ``store`` wrote, or their folder: the model does not run, and the table
    has ``node``, ``tokens``, ``l0``, ``explained_variance`` and ``dead``.

    Raises CircuitryError for nodes that do not exist or are not stored, for SAEs of another width, for transcoders of nodes between which
    nothing flows, and for a model without corpus.

    >>> import circuitry as ct
    >>> from circuitry.features.activations import corpus
    >>> from circuitry.features.sae import SAEConfig
    >>> model = ct.load("bundled:gpt_neox")
    >>> text = corpus(model, ["The keys to the cabinet are on the table, and the cabinet is in the hall."])
    >>> evaluate(model, {"resid[2]": SAE(SAEConfig(128, 2048))}, text, progress=False).round(1).to_dict("records")[0]["node"]
    'resid[2]'
    """
    import pandas as pd

    from ...executing.activations import read, spliced
    from ...executing.memory import parse_memory

    if (stored := opened(model)) is not None:
        return _of_stored(stored, saes, corpus, tokens, progress)
    if corpus is None or not isinstance(model, Model):
        raise CircuitryError("give a model and a corpus to evaluate on, or stored activations")
    named = by_node(model.graph, saes, model.device)
    sources = {node: _upstream(model, node, sae) for node, sae in named.items()}
    text = corpus.take(tokens) if tokens is not None else corpus
    sums = {node: _Sums(sae, node, sources[node]) for node, sae in named.items()}
    clean, counted = 0.0, 0
    with bar(total=text.tokens, desc="evaluate", unit="token", unit_scale=True, show=None if progress else False) as shown:
        for rows in _rows(model, text, named, parse_memory(memory)):
            values = read(model, [*named, *sources.values()], rows.ids)
            used = torch.from_numpy(rows.used).to(model.device)
            unchanged = spliced(model, rows.ids, {}, rows.used)
            clean += _cross_entropy(unchanged, rows)
            for node, tally in sums.items():
                x = values[sources[node]]
                tally.add(values[node][used], x[used])
                logits = spliced(model, rows.ids, {node: _reconstruct(tally.sae, x)}, rows.used)
                tally.spliced += _cross_entropy(logits, rows)
                tally.divergence += _divergence(unchanged, logits, rows)
                del logits  # else it is in memory while the next logits are computed
                tally.zero += _cross_entropy(spliced(model, rows.ids, {node: torch.zeros_like}, rows.used), rows)
            counted += int(rows.predicting.sum())
            shown.update(int(rows.used.sum()))
    return pd.DataFrame([{"node": str(node), **tally.result(clean, counted)} for node, tally in sums.items()])


def _of_stored(stored: ActivationStore, saes: Given, corpus: Corpus | None, tokens: int | None, progress: bool) -> pd.DataFrame:
    """What can be measured without running the model."""
    import pandas as pd

    named = by_node(stored, saes, stored.device)
    sources = {node: read_by(stored, node, sae) for node, sae in named.items()}
    sums = {node: _Sums(sae, node, sources[node]) for node, sae in named.items()}
    total = min(whole("tokens", tokens, 1), stored.corpus.tokens) if tokens is not None else stored.corpus.tokens
    with bar(total=total, desc="evaluate", unit="token", unit_scale=True, show=None if progress else False) as shown:
        for at, values in activations(stored, [*named, *sources.values()], corpus=corpus, batch=4096).in_order():
            if at.start >= total:
                break
            for node, tally in sums.items():
                tally.add(values[node][: total - at.start], values[sources[node]][: total - at.start])
            shown.update(min(at.stop, total) - at.start)
    return pd.DataFrame([{"node": str(node), **tally.shape()} for node, tally in sums.items()])


def _upstream(model: Model, node: Node, sae: SAE) -> Node:
    """The node that an SAE reads. Raises CircuitryError for a transcoder whose target does not depend on it or is a recurrent state."""
    source = read_by(model.graph, node, sae)
    if source != node and source not in model.graph.ancestors(node):
        raise CircuitryError(
            f"nothing flows from {source} to {node}, which the transcoder predicts from it; did you exchange them?"
        )
    if source != node and model.graph.place(node).position is None:
        raise CircuitryError(
            f"a transcoder to {node} cannot be evaluated with the model: it is a recurrent state, replaced step by step"
        )
    return source


def _reconstruct(sae: SAE, x: Tensor) -> Change:
    """The change of a node into its reconstruction; the SAE sees all dimensions after position as one row.

    A transcoder predicts it from x, which comes before it, so replacing the node leaves x as it is.
    """
    if not sae.config.transcodes:
        return lambda value: sae(value.flatten(2))[0].reshape(value.shape)
    return lambda value: sae(x.flatten(2))[0].reshape(value.shape)


@dataclass(frozen=True)
class _Rows:
    """Documents as rows [row, position], padded on the right: ids, used tokens, and those with a token after them to predict."""

    ids: NDArray[np.int64]
    used: NDArray[np.bool_]
    predicting: NDArray[np.bool_]


def _rows(model: Model, corpus: Corpus, saes: Mapping[Node, SAE], memory: int) -> Iterator[_Rows]:
    """All documents: those of similar length together, as many as fit into ``memory`` bytes."""
    lengths = np.diff(corpus.starts)
    order = np.argsort(-lengths, kind="stable")
    widest = max((sae.config.features + sae.config.width for sae in saes.values()), default=0)

    def fit(length: int) -> int:
        logits = 4 * int(model.hf.config.vocab_size)
        return memory // (model.bytes_per_row(length) + 4 * length * (logits + 2 * widest))

    for group in groups(lengths[order], order, fit):
        longest = int(lengths[group[0]])
        ids, used = np.zeros((len(group), longest), np.int64), np.zeros((len(group), longest), bool)
        for row, document in enumerate(group):
            at = slice(corpus.starts[document], corpus.starts[document + 1])
            ids[row, : lengths[document]], used[row, : lengths[document]] = corpus.ids[at], ~corpus.special[at]
        yield _Rows(ids, used, used & (np.arange(longest) < lengths[group][:, None] - 1))


def _cross_entropy(logits: Tensor, rows: _Rows) -> float:
    """The sum over the tokens whose prediction counts."""
    total = 0.0
    for row, predicting in enumerate(rows.predicting):
        (at,) = np.nonzero(predicting)
        targets = torch.from_numpy(rows.ids[row, at + 1]).to(logits.device)
        total += float(functional.cross_entropy(logits[row, at].float(), targets, reduction="sum"))
    return total


def _divergence(unchanged: Tensor, logits: Tensor, rows: _Rows) -> float:
    """KL(unchanged ‖ logits), the sum over the tokens whose prediction counts."""
    total = 0.0
    for row, predicting in enumerate(rows.predicting):
        (at,) = np.nonzero(predicting)
        p, q = (functional.log_softmax(given[row, at].float(), -1) for given in (unchanged, logits))
        total += float(functional.kl_div(q, p, reduction="sum", log_target=True))
    return total


class _Sums:
    """Sums over tokens for one SAE."""

    def __init__(self, sae: SAE, node: Node, source: Node) -> None:
        self.node, self.source = node, source
        self.sae, self.tokens, self.squares = sae, 0, 0.0
        self.counts = torch.zeros(sae.config.features, dtype=torch.int64, device=sae.W_enc.device)
        self.moments = torch.zeros(1 + sae.config.predicted, dtype=torch.float64, device=sae.W_enc.device)
        self.spliced = self.zero = self.divergence = 0.0

    @torch.no_grad()
    def add(self, values: Tensor, read: Tensor) -> None:
        """Count values [token, ...] of the node, and what the SAE reads: the same values, or those of another node."""
        y = values.flatten(1).float()
        x = read.flatten(1).float() if self.sae.config.transcodes else y
        check_width(self.source, self.sae, x)
        check_target(self.node, self.sae, y)
        for part, wanted in zip(torch.split(x, 4096), torch.split(y, 4096), strict=True):
            reconstruction, features = self.sae(part)
            self.counts += (features > 0).sum(0)
            self.tokens += len(part)
            self.squares += float((wanted - reconstruction).double().square().sum())
            self.moments += torch.cat([wanted.double().square().sum()[None], wanted.double().sum(0)])

    def shape(self) -> dict[str, Any]:
        """What the activations alone say."""
        spread = float(self.moments[0] - self.moments[1:].square().sum() / self.tokens)
        return {
            "tokens": self.tokens,
            "l0": int(self.counts.sum()) / self.tokens,
            "explained_variance": 1 - self.squares / spread if spread > 0 else float("nan"),
            "dead": float((self.counts == 0).double().mean()),
        }

    def result(self, clean: float, counted: int) -> dict[str, Any]:
        """The same, with what the model loses."""
        shape = self.shape()
        dead = shape.pop("dead")
        ablated = self.zero - clean
        entropies = {"ce_clean": clean, "ce_spliced": self.spliced, "ce_zero": self.zero}
        return {
            **shape,
            **{name: total / counted if counted else float("nan") for name, total in entropies.items()},
            "recovered": (self.zero - self.spliced) / ablated if ablated > 0 else float("nan"),
            "kl": self.divergence / counted if counted else float("nan"),
            "dead": dead,
        }
