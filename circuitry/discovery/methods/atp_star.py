"""Attribution patching in which attention's softmax is computed again instead of differentiated."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ...errors import CircuitryError
from ...paths.values import Node
from ...prompting.prompts import Prompts
from ..gradient import Gradients
from ..question import Question, Scores
from ..rows import Point, Rows
from ..schemes import OfInput
from ..secant import Secant
from ..softmax import using
from .by_gradient import fill


class _Recomputed(Gradients):
    """The gradient at the clean run, but for queries and keys: theirs has the exact change of the pattern in it."""

    def __init__(self, question: Question, prompts: Prompts) -> None:
        softmax = Secant(Rows(len(prompts), (Point(0.0, 1.0),)))
        scheme = OfInput(softmax.rows.points)
        super().__init__(
            question.model, question.wiring, prompts, question.metric, scheme, lambda rows: using(question.model, softmax)
        )
        softmax.exact = True
        for heads in self.wiring.heads.values():
            self._recompute(heads[0])

    def _recompute(self, head: Node) -> None:
        """Take the gradients of one layer's queries and keys again, from that of its heads' outputs; ``head`` is any of these."""
        output, *inputs = ((self.graph.place(self.graph.node(f"{head}{port}")), 0) for port in ("", ".q", ".k"))
        values = [self._taken[place].between for place in inputs]
        grads = torch.autograd.grad(self._taken[output].between, values, self._through[output], retain_graph=True)
        for place, grad in zip(inputs, grads, strict=True):
            self._at[place] = self._through[place] = grad


@dataclass(frozen=True)
class AtpStar:
    """(corrupted - clean) times the gradient at the clean run, where the pattern that a corrupted query or key would give is
    computed exactly: for a query its row, for a key its column (AtP*, Kramár et al. 2024, arXiv:2403.00745, section 3.1).

    The paper defines this for nodes: queries, keys, and by the gradient whatever comes after. An edge into a query or a key gets the
    part of the node's exact effect that the change it causes there would have, were the effect proportional. All other nodes and
    edges have the usual gradient. The paper's GradDrop (section 3.2) is left out: it adds up magnitudes over the layers that are
    dropped, and so gives no sign.
    """

    name: str = "atp-star"

    def scores(self, question: Question) -> Scores:
        """Estimated effects [example, item, label]. Raises CircuitryError for a model whose scores have a cap."""
        if (cap := getattr(question.model.hf.config, "attn_logit_softcapping", None)) is not None:
            raise CircuitryError(
                f"AtP* recomputes a softmax of scores that are linear in queries and keys, and here they have a cap ({cap}); use "
                "method='block-ig'"
            )
        scores = question.empty()
        for examples, prompts in question.batches(3, self.name):
            fill(scores, question, _Recomputed(question, prompts), examples, range(len(question.items)))
        return scores

    def passes(self, question: Question) -> float:
        """Two runs, and one with its gradient; patterns alone are computed several times."""
        return 2 + 3
