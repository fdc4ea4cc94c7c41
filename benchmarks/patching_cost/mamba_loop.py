"""The loop for a stock Mamba. Hooks cannot reach into its scan, so mixers run the stock operations here, with edits between."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .cases import Case, Cell
from .hooks import Ids, last_logits, pick

Writes = tuple[Tensor, Tensor, Tensor]
"""The values written to the state: value and step size [prompt, channel, pos], B [prompt, pos, state]."""


@dataclass
class Edit:
    """The changes in one mixer during a forward pass."""

    scan_input: tuple[int, Tensor] | None = None
    """A position, and the scan's new input [prompt, channel] there."""
    frozen: Writes | None = None
    """The clean values that are written, which give the clean states. The states of long prompts would not fit in memory."""
    state: tuple[int, Tensor] | None = None
    """A position, and the new state [prompt, channel, state] there."""


@dataclass
class Recorded:
    """Values of one mixer: the scan's input [prompt, channel, pos], the values written, and the state at the source's position."""

    scan_input: Tensor
    writes: Writes
    state: Tensor


class MambaLoop:
    """Patches a cell of ``case`` by an edit in one mixer; for the experiment "state", the other mixers' states are frozen."""

    def __init__(self, case: Case, ids: Ids) -> None:
        self.case, self.ids = case, ids
        self.model = case.shape.model(case.length)
        self.mixers = [block.mixer for block in self.model.backbone.layers]
        self.edits: dict[int, Edit] = {}
        self.recorded: dict[int, Recorded] = {}
        self.recording = False
        for layer, mixer in enumerate(self.mixers):
            mixer.forward = self._forward_of(layer)

    def record(self) -> None:
        self.recording, self.edits = True, {}
        self.base = last_logits(self.model, self.ids.clean)
        self.clean, self.recorded = self.recorded, {}
        last_logits(self.model, self.ids.corrupted)
        self.corrupted, self.recorded, self.recording = self.recorded, {}, False

    def effect(self, cell: Cell) -> Tensor:
        layer = cell["layer"]
        if self.case.experiment == "state":
            self.edits = {l: Edit(frozen=self.clean[l].writes) for l in self.clean if l != layer}
            self.edits[layer] = Edit(state=(self.case.at, self.corrupted[layer].state))
        else:
            at = cell["position"]
            self.edits = {layer: Edit(scan_input=(at, self.corrupted[layer].scan_input[:, :, at]))}
        return pick(last_logits(self.model, self.ids.clean) - self.base, self.ids.answer)

    def _forward_of(self, layer: int) -> Any:
        def forward(hidden: Tensor, *_: Any, **__: Any) -> Tensor:
            return self._mixer(layer, hidden)

        return forward

    def _mixer(self, layer: int, hidden: Tensor) -> Tensor:
        """The stock mixer's path without compiled kernels, in the stock order."""
        mixer, edit = self.mixers[layer], self.edits.get(layer, Edit())
        x, gate = mixer.in_proj(hidden).transpose(1, 2).chunk(2, dim=1)
        c = F.silu(mixer.conv1d(x)[:, :, : x.shape[2]])
        if edit.scan_input is not None:
            c = c.clone()
            c[:, :, edit.scan_input[0]] = edit.scan_input[1]
        low, B, C = mixer.x_proj(c.transpose(1, 2)).split([mixer.time_step_rank, *[mixer.ssm_state_size] * 2], dim=-1)
        delta = F.softplus(mixer.dt_proj.weight @ low.transpose(1, 2) + mixer.dt_proj.bias[:, None])
        writes = (c, delta, B) if edit.frozen is None else edit.frozen
        y, state = self._scan(-torch.exp(mixer.A_log), writes, C, edit)
        if self.recording:
            self.recorded[layer] = Recorded(c, writes, state)
        out = (y + c * mixer.D[:, None]) * F.silu(gate)
        return mixer.out_proj(out.transpose(1, 2))  # type: ignore[no-any-return]

    def _scan(self, A: Tensor, writes: Writes, C: Tensor, edit: Edit) -> tuple[Tensor, Tensor]:
        """The values read [prompt, channel, pos], and the state at the source's position."""
        value, delta, B = writes
        decay = torch.exp(A[None, :, None] * delta[..., None])
        drive = delta[..., None] * B[:, None] * value[..., None]
        state = at_source = torch.zeros_like(decay[:, :, 0])
        read = []
        for t in range(decay.shape[2]):
            state = decay[:, :, t] * state + drive[:, :, t]
            if edit.state is not None and t == edit.state[0]:
                state = edit.state[1]
            if t == self.case.at:
                at_source = state
            read.append((state @ C[:, t, :, None])[..., 0])
        return torch.stack(read, -1), at_source
