"""The usual loop of hooks over a stock GPT-2: cache two runs, then one forward pass for each cell with all prompts in the batch."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from .cases import Case, Cell
from .hooks import Hook, Ids, last_logits, pick

Cache = dict[tuple[str, int], Tensor]


class GPT2Loop:
    """Patches a cell of ``case`` by overwriting inputs and outputs of modules in the stock model."""

    def __init__(self, case: Case, ids: Ids) -> None:
        self.case, self.ids = case, ids
        self.model = case.shape.model(case.length)
        self.blocks = self.model.transformer.h
        self.d_head = case.shape.width // case.shape.heads

    def record(self) -> None:
        self.clean: Cache = {}
        self.corrupted: Cache = {}
        self.base = last_logits(self.model, self.ids.clean, self._recorders(self.clean))
        last_logits(self.model, self.ids.corrupted, self._recorders(self.corrupted))

    def effect(self, cell: Cell) -> Tensor:
        return getattr(self, f"_{self.case.experiment}")(**cell) - pick(self.base, self.ids.answer)  # type: ignore[no-any-return]

    def _recorders(self, cache: Cache) -> list[Hook]:
        def store(name: str, layer: int) -> Any:
            return lambda value: cache.__setitem__((name, layer), value)

        hooks: list[Hook] = []
        for layer, block in enumerate(self.blocks):
            hooks += [
                (block, True, store("resid", layer)),
                (block.attn.c_proj, True, store("z", layer)),
                (block.attn, False, store("attn", layer)),
                (block.mlp, False, store("mlp", layer)),
            ]
        return hooks

    def _run(self, hooks: list[Hook]) -> Tensor:
        return pick(last_logits(self.model, self.ids.clean, hooks), self.ids.answer)

    def _columns(self, head: int) -> slice:
        return slice(head * self.d_head, (head + 1) * self.d_head)

    def _write_head(self, layer: int, head: int) -> Hook:
        """The head takes its corrupted value at END only."""
        end, columns = self.case.end, self._columns(head)

        def edit(z: Tensor) -> Tensor:
            z = z.clone()
            z[:, end, columns] = self.corrupted["z", layer][:, end, columns]
            return z

        return self.blocks[layer].attn.c_proj, True, edit

    def _freeze_heads(self, *live: tuple[int, int]) -> list[Hook]:
        """All heads except the ``live`` ones take their clean values."""

        def freezer(layer: int) -> Any:
            unfrozen = [self._columns(head) for l, head in live if l == layer]

            def edit(z: Tensor) -> Tensor:
                if not unfrozen:
                    return self.clean["z", layer]
                frozen = self.clean["z", layer].clone()
                for columns in unfrozen:
                    frozen[:, :, columns] = z[:, :, columns]
                return frozen

            return edit

        return [(block.attn.c_proj, True, freezer(layer)) for layer, block in enumerate(self.blocks)]

    def _heads(self, layer: int, head: int) -> Tensor:
        return self._run([*self._freeze_heads((layer, head)), self._write_head(layer, head)])

    def _query(self, layer: int, head: int) -> Tensor:
        """Two forward passes: read the receiver's query with other heads frozen, then put it into a clean run."""
        end, (to, receiver) = self.case.end, self.case.receiver
        columns, query = self._columns(receiver), self.blocks[to].attn.c_attn  # q, k and v side by side: q comes first
        seen: list[Tensor] = []

        def read(qkv: Tensor) -> None:
            seen.append(qkv[:, end, columns])

        def write(qkv: Tensor) -> Tensor:
            qkv = qkv.clone()
            qkv[:, end, columns] = seen[0]
            return qkv

        self._run([*self._freeze_heads((layer, head), (to, receiver)), self._write_head(layer, head), (query, False, read)])
        return self._run([(query, False, write)])

    def _residual(self, layer: int, position: int) -> Tensor:
        def edit(stream: Tensor) -> Tensor:
            stream = stream.clone()
            stream[:, position] = self.corrupted["resid", layer][:, position]
            return stream

        return self._run([(self.blocks[layer], True, edit)])

    def _direct(self, layer: int, head: int) -> Tensor:
        """All that later blocks add is frozen at its clean value, so that only the head's own output changes the stream."""

        def frozen(name: str, l: int) -> Any:
            return lambda _: self.clean[name, l]

        layers = range(self.case.shape.layers)
        hooks: list[Hook] = [(self.blocks[l].attn, False, frozen("attn", l)) for l in layers if l > layer]
        hooks += [(self.blocks[l].mlp, False, frozen("mlp", l)) for l in layers if l >= layer]
        return self._run([*hooks, self._write_head(layer, head)])
