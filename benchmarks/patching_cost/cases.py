"""The sweeps that are timed: a path, a model's shape, prompts of one length, and the cells of the table one by one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch

Cell: TypeAlias = dict[str, int]

A, B = 3, 4  # the positions of the induction task's first two tokens; the second one is changed
LATE = 17  # tokens from [A] to the end of the prompt if the source is near END
OFFSETS = 8  # positions of the residual sweep


@dataclass(frozen=True)
class Shape:
    """The sizes of a model. ``heads`` is 0 for Mamba."""

    layers: int
    width: int
    heads: int = 0
    vocab: int = 50257
    state: int = 16
    rank: int = 48

    @property
    def kind(self) -> str:
        return "gpt2" if self.heads else "mamba"

    def model(self, length: int) -> Any:
        """A stock Hugging Face model with random weights, the same at every call."""
        from transformers import AutoConfig, AutoModelForCausalLM

        torch.manual_seed(0)
        special = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0, "vocab_size": self.vocab}
        if self.heads:
            # Wider than the usual initialisation, so that attention is not flat and a head's effect is well above rounding.
            sizes = {"n_layer": self.layers, "n_head": self.heads, "n_embd": self.width, "n_positions": max(length, 64)}
            config = AutoConfig.for_model("gpt2", **sizes, **special, initializer_range=1.7 * self.width**-0.5)
        else:
            sizes = {"num_hidden_layers": self.layers, "hidden_size": self.width, "state_size": self.state}
            sizes |= {"time_step_rank": self.rank}
            config = AutoConfig.for_model("mamba", **sizes, **special, initializer_range=self.width**-0.5)
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
        if not self.heads:
            _temper(model)
        return model


@torch.no_grad()
def _temper(mamba: Any) -> None:
    """Make blocks change the stream moderately, and states matter beside the skip connection, as in a trained Mamba."""
    # In an untrained one the stream explodes in the first blocks, and 24 of them amplify float32's rounding to 0.1 % of the logits.
    mamba.backbone.embeddings.weight.mul_(mamba.config.hidden_size**0.5)
    for block in mamba.backbone.layers:
        block.mixer.x_proj.weight.mul_(2)
        block.mixer.out_proj.weight.mul_(2)


@dataclass(frozen=True)
class Case:
    """One sweep. ``experiment`` names the method of a hook loop and the formula of the floor; ``at`` is the source's position.
    ``first`` is the position of the task's [A].
    """

    name: str
    experiment: str
    path: str
    shape: Shape
    length: int
    prompts: int
    cells: tuple[Cell, ...]
    at: int = -1
    first: int = A

    @property
    def end(self) -> int:
        return self.length - 1

    @property
    def receiver(self) -> tuple[int, int]:
        """Layer and number of the head whose query case (b) reads."""
        return receiver(self.shape)

    @property
    def axes(self) -> dict[str, list[int]]:
        """The values of every axis, in the order of the cells."""
        return {axis: list(dict.fromkeys(cell[axis] for cell in self.cells)) for axis in self.cells[0]}

    def path_of(self, cell: Cell) -> str:
        return self.path.format(**cell)

    def sampled(self, count: int | None) -> tuple[Cell, ...]:
        """``count`` cells, spread evenly over all; all of them if ``count`` is None or not smaller."""
        if count is None or count >= len(self.cells):
            return self.cells
        step = len(self.cells) / count
        return tuple(self.cells[int((k + 0.5) * step)] for k in range(count))

    def __str__(self) -> str:
        s = self.shape
        size = f"{s.layers} layers, {f'{s.heads} heads, ' if s.heads else ''}width {s.width}"
        return f"({self.name}) {self.path}\n    {len(self.cells)} cells, {self.prompts} prompts of {self.length} tokens; {size}"


def receiver(shape: Shape) -> tuple[int, int]:
    """The layer three quarters up, and the number of a head in it."""
    layer = shape.layers * 3 // 4
    return layer, min(layer, shape.heads - 1)


def heads(name: str, shape: Shape, length: int, prompts: int, layers: Sequence[int] = (), directly: bool = False) -> Case:
    """Every head at END to the logits, with other heads frozen or ``directly``; only heads of ``layers`` if these are given."""
    cells = tuple({"layer": l, "head": h} for l in layers or range(shape.layers) for h in range(shape.heads))
    experiment, ending = ("direct", "directly") if directly else ("heads", "freezing head")
    path = f"head[{{layer}},{{head}}] @ END -> logits {ending}"
    return Case(name, experiment, path, shape, length, prompts, cells, at=length - 1)


def queries(name: str, shape: Shape, length: int, prompts: int) -> Case:
    """Every head of earlier layers to one head's query, and from there to the logits."""
    to, number = receiver(shape)
    query = f"head[{to},{number}].q @ END"
    cells = tuple({"layer": l, "head": h} for l in range(to) for h in range(shape.heads))
    path = f"head[{{layer}},{{head}}] @ END -> {query} freezing head -> logits"
    return Case(name, "query", path, shape, length, prompts, cells, at=length - 1)


def residual(name: str, shape: Shape, length: int, prompts: int) -> Case:
    """The residual stream before every layer, at positions spread from the changed token to END."""
    positions = [B + k * (length - 1 - B) // (OFFSETS - 1) for k in range(OFFSETS)]
    # Before the first layer only the changed token differs.
    cells = tuple({"layer": l, "position": p} for l in range(shape.layers) for p in positions if l or p == B)
    return Case(name, "residual", "resid[{layer}] @ {position} -> logits", shape, length, prompts, cells)


def states(name: str, shape: Shape, length: int, prompts: int, late: bool = False) -> Case:
    """The state of every layer after the changed token, or four tokens before END; other states frozen."""
    at, text = (length - 5, "END-4") if late else (B + 1, "B+1")
    first = length - LATE if late else A  # near enough to the source for the state to remember the changed token
    cells = tuple({"layer": l} for l in range(shape.layers))
    path = f"ssm_state[{{layer}}] @ {text} -> logits freezing ssm_state"
    return Case(name, "state", path, shape, length, prompts, cells, at, first)


def scan_inputs(name: str, shape: Shape, length: int, prompts: int) -> Case:
    """The input of every layer's scan at five positions; in the first layer, the convolution sees the change at four only."""
    cells = tuple({"layer": l, "position": p} for l in range(shape.layers) for p in range(B, B + 5) if l or p < B + 4)
    return Case(name, "scan_input", "ssm_in[{layer}] @ {position} -> logits", shape, length, prompts, cells)


GPT2, MAMBA = Shape(12, 768, heads=12), Shape(24, 768, vocab=50280)
SMALL_GPT2, SMALL_MAMBA = Shape(4, 16, heads=2, vocab=97), Shape(3, 16, vocab=97, state=4, rank=3)


def every_case(quick: bool, length: int, prompts: int) -> Iterator[Case]:
    """All cases, (a) to (f); case (e) has an eighth of the prompts."""
    gpt2, mamba = (SMALL_GPT2, SMALL_MAMBA) if quick else (GPT2, MAMBA)
    yield heads("a", gpt2, length, prompts)
    yield queries("b", gpt2, length, prompts)
    yield residual("c", gpt2, length, prompts)
    yield states("d", mamba, length, prompts)
    yield scan_inputs("d", mamba, length, prompts)
    for long in (32, 48) if quick else (256, 1024):
        yield heads("e", gpt2, long, max(1, prompts // 8))
        yield states("e", mamba, long, max(1, prompts // 8), late=True)
    yield heads("f", gpt2, length, prompts, directly=True)
