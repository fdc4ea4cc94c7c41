"""The figures of a bundled model's card: induction by distance, IOI by split, English cross-entropy."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.random import Generator
from numpy.typing import NDArray

from . import sentences
from .data import Ids, Sentences, english_rows, induction_prompts

DISTANCES = (8, 16, 32, 64, 128)


@torch.no_grad()
def _last_logits(model: Any, ids: Iterable[Ids]) -> torch.Tensor:
    return torch.cat([model(torch.from_numpy(chunk)).logits[:, -1] for chunk in ids])


def induction_accuracy(model: Any, vocabulary: Ids, distance: int, count: int, rng: Generator) -> float:
    """Share of prompts [A][B] ... [A], all other tokens distinct, whose top-1 token is B."""
    ids, answers = induction_prompts(rng, count, distance, vocabulary)
    logits = _last_logits(model, np.array_split(ids, max(1, count // 32)))
    return float((logits.argmax(-1).numpy() == answers).mean())


def ioi_accuracy(model: Any, sentence_maker: Sentences, templates: list[str], count: int, rng: Generator) -> tuple[float, float]:
    """(top-1 accuracy, mean logit difference of the indirect object over the subject)."""
    prompts = [sentence_maker.one(rng, templates) for _ in range(count)]
    logits = torch.cat([_last_logits(model, [np.array([[sentence_maker.end, *ids]])]) for ids, _, _ in prompts])
    right, wrong = (torch.tensor([p[k] for p in prompts]) for k in (1, 2))
    rows = torch.arange(count)
    correct = (logits.argmax(-1) == right).float().mean()
    return float(correct), float((logits[rows, right] - logits[rows, wrong]).mean())


@torch.no_grad()
def english_loss(model: Any, tokens: NDArray[np.uint16], rng: Generator) -> float:
    """Cross-entropy in nats per token on windows of 128 tokens."""
    ids = torch.from_numpy(english_rows(rng, 64, 128, tokens).ids)
    logits = model(ids).logits
    return float(F.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten()))


def card(model: Any, makers: dict[bool, Sentences], vocabulary: Ids, held_out: NDArray[np.uint16]) -> dict[str, float]:
    """All figures, with fixed seeds. ``makers`` are sentence makers by whether names are random tokens."""
    model.eval()
    rng = np.random.default_rng(12345)
    figures = {f"induction top-1, distance {d}": induction_accuracy(model, vocabulary, d, 256, rng) for d in DISTANCES}
    splits = [("training templates", sentences.TRAINING, False), ("held-out templates", sentences.HELD_OUT, False)]
    splits.append(("held-out templates, random tokens as names", sentences.HELD_OUT, True))
    for label, templates, random_names in splits:
        accuracy, difference = ioi_accuracy(model, makers[random_names], templates, 256, rng)
        figures |= {f"IOI top-1, {label}": accuracy, f"IOI logit difference, {label}": difference}
    figures["English cross-entropy, nats per token"] = english_loss(model, held_out, rng)
    return figures
