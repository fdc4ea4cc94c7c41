"""The same loop in TransformerLens (4.0 or later), over the same weights; it computes the logits of every token."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .cases import Case, Cell
from .hooks import Ids, pick

Hook = tuple[str, Callable[..., Any]]


def missing(case: Case) -> str:
    """Why this case cannot run in TransformerLens; empty if it can."""
    if case.shape.kind != "gpt2":
        return "skipped: the case is not GPT-2-shaped"
    if importlib.util.find_spec("transformer_lens") is None:
        return "skipped: transformer_lens is not installed"
    try:
        _builder()
    except (ImportError, AttributeError) as error:
        return f"skipped: transformer_lens 4.0 or later is needed ({error})"
    return ""


def _builder() -> Any:
    """The function that wraps a module as a model of TransformerLens, without the Hub; new in 4.0."""
    return importlib.import_module("transformer_lens.model_bridge.sources").build_bridge_from_module


class LensLoop:
    """Patches a cell of ``case`` with hooks by name."""

    def __init__(self, case: Case, ids: Ids) -> None:
        self.case, self.ids = case, ids
        stock = case.shape.model(case.length)
        self.model = _builder()(stock, "GPT2LMHeadModel", hf_config=stock.config)

    @torch.no_grad()
    def record(self) -> None:
        names = ("hook_resid_pre", "hook_z", "hook_attn_out", "hook_mlp_out")

        def recorded(name: str) -> bool:
            return name.endswith(names)

        logits, self.clean = self.model.run_with_cache(self.ids.clean, names_filter=recorded)
        self.base = logits[:, -1]
        _, self.corrupted = self.model.run_with_cache(self.ids.corrupted, names_filter=recorded)

    def effect(self, cell: Cell) -> Tensor:
        return getattr(self, f"_{self.case.experiment}")(**cell) - pick(self.base, self.ids.answer)  # type: ignore[no-any-return]

    @torch.no_grad()
    def _run(self, hooks: list[Hook]) -> Tensor:
        return pick(self.model.run_with_hooks(self.ids.clean, fwd_hooks=hooks)[:, -1], self.ids.answer)

    def _write_head(self, layer: int, head: int) -> Hook:
        name, end = f"blocks.{layer}.attn.hook_z", self.case.end

        def edit(z: Tensor, hook: Any) -> Tensor:
            z = z.clone()
            z[:, end, head] = self.corrupted[name][:, end, head]
            return z

        return name, edit

    def _freeze_heads(self, *live: tuple[int, int]) -> list[Hook]:
        def freezer(layer: int) -> Hook:
            name, unfrozen = f"blocks.{layer}.attn.hook_z", [head for l, head in live if l == layer]

            def edit(z: Tensor, hook: Any) -> Tensor:
                frozen = self.clean[name].clone()
                frozen[:, :, unfrozen] = z[:, :, unfrozen]
                return frozen  # type: ignore[no-any-return]

            return name, edit

        return [freezer(layer) for layer in range(self.case.shape.layers)]

    def _heads(self, layer: int, head: int) -> Tensor:
        return self._run([*self._freeze_heads((layer, head)), self._write_head(layer, head)])

    def _query(self, layer: int, head: int) -> Tensor:
        end, (to, receiver) = self.case.end, self.case.receiver
        name = f"blocks.{to}.attn.hook_q"
        seen: list[Tensor] = []

        def read(q: Tensor, hook: Any) -> None:
            seen.append(q[:, end, receiver].clone())

        def write(q: Tensor, hook: Any) -> Tensor:
            q = q.clone()
            q[:, end, receiver] = seen[0]
            return q

        self._run([*self._freeze_heads((layer, head), (to, receiver)), self._write_head(layer, head), (name, read)])
        return self._run([(name, write)])

    def _residual(self, layer: int, position: int) -> Tensor:
        name = f"blocks.{layer}.hook_resid_pre"

        def edit(stream: Tensor, hook: Any) -> Tensor:
            stream = stream.clone()
            stream[:, position] = self.corrupted[name][:, position]
            return stream

        return self._run([(name, edit)])

    def _direct(self, layer: int, head: int) -> Tensor:
        def frozen(name: str) -> Hook:
            return name, lambda value, hook: self.clean[name]

        layers = range(self.case.shape.layers)
        hooks = [frozen(f"blocks.{l}.hook_attn_out") for l in layers if l > layer]
        hooks += [frozen(f"blocks.{l}.hook_mlp_out") for l in layers if l >= layer]
        return self._run([*hooks, self._write_head(layer, head)])
