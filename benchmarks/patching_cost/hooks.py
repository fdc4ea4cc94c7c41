"""Shared by the hook loops: the prompts as tensors, hooks for one call, and the answer's logit."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import torch
from torch import Tensor

from .cases import Case, Cell

Hook: TypeAlias = tuple[Any, bool, Callable[..., Any]]
"""A module, whether its input is changed (else its output), and a function from the value to its replacement, or None to keep it."""


@dataclass(frozen=True)
class Ids:
    """Prompts: ``clean`` and ``corrupted`` [prompt, pos], ``answer`` [prompt]."""

    clean: Tensor
    corrupted: Tensor
    answer: Tensor


class Loop(Protocol):
    """One cell at a time: ``record`` runs both inputs once, ``effect`` is the change of the answer's logit [prompt]."""

    base: Tensor
    """Logits of the last token in the clean run [prompt, vocab]."""

    def __init__(self, case: Case, ids: Ids) -> None: ...
    def record(self) -> None: ...
    def effect(self, cell: Cell) -> Tensor: ...


@contextmanager
def hooked(hooks: Sequence[Hook]) -> Iterator[None]:
    handles = [_register(*hook) for hook in hooks]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _register(module: Any, before: bool, edit: Callable[..., Any]) -> Any:
    if before:

        def pre(_: Any, args: Any) -> Any:
            changed = edit(args[0])
            return None if changed is None else (changed, *args[1:])

        return module.register_forward_pre_hook(pre)

    def post(_: Any, __: Any, out: Any) -> Any:
        changed = edit(out[0] if isinstance(out, tuple) else out)
        return changed if changed is None or not isinstance(out, tuple) else (changed, *out[1:])

    return module.register_forward_hook(post)


@torch.no_grad()
def last_logits(model: Any, ids: Tensor, hooks: Sequence[Hook] = ()) -> Tensor:
    """Logits of the last token [prompt, vocab]; those of other tokens are not computed."""
    with hooked(hooks):
        return model(ids, use_cache=False, logits_to_keep=1).logits[:, -1]  # type: ignore[no-any-return]


def pick(logits: Tensor, answer: Tensor) -> Tensor:
    """The answer's logit [prompt]."""
    return logits.gather(1, answer[:, None])[:, 0]
