"""Gradients through the recurrences: those of autograd token by token, at a cost that grows with the length alone."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

import circuitry as ct
from circuitry.models import linear_state, mamba, mamba2, rwkv, rwkv7
from support import tiny
from support.recurrences import RECURRENCES, plain_delta, plain_scan, plain_ssd, plain_wkv

EXACT = 1e-10
NAMES = tuple(RECURRENCES)


@contextmanager
def small_blocks(block: int, rows: int) -> Iterator[None]:
    """Blocks of so many tokens, and groups of so many rows."""
    with pytest.MonkeyPatch.context() as patched:
        for module in (sys.modules[f"circuitry.models.{name}"] for name in ("scan", "wkv")):
            patched.setattr(module, "BLOCK", block)
            patched.setattr(module, "_rows", lambda *_: rows)
        patched.setattr(sys.modules["circuitry.models.ssd"], "CHUNK", block)
        for name in ("CHUNK", "CHUNK_BY_CHANNEL"):
            patched.setattr(sys.modules["circuitry.models.delta_rule"], name, block)
        yield


def outputs(run: Callable[..., Tensor], tensors: Sequence[Tensor], stops: Sequence[int]) -> tuple[Tensor, ...]:
    """What is read, and the state at every stop; there the state is changed, in one way for this token and in another for later."""
    states = list[Tensor]()

    def at_stop(h: Tensor) -> tuple[Tensor, Tensor]:
        states.append(h)
        return h * (1.2 + 0.1 * weights(h)), h * (0.8 + 0.1 * weights(h))

    return run(*tensors, stops, at_stop), *states


def weights(value: Tensor) -> Tensor:
    """Numbers of a value's shape that are all different."""
    return torch.arange(1, value.numel() + 1, dtype=torch.float64).sin().view(value.shape).to(value.dtype)


def gradients(run: Callable[..., Tensor], tensors: Sequence[Tensor], stops: Sequence[int] = ()) -> list[Tensor]:
    """Gradients of a sum over all outputs, by every input."""
    inputs = [tensor.detach().requires_grad_() for tensor in tensors]
    loss = sum((out * weights(out)).sum() for out in outputs(run, inputs, stops))
    return list(torch.autograd.grad(loss, inputs, allow_unused=True, materialize_grads=True))  # type: ignore[arg-type]


def error(found: Sequence[Tensor], wanted: Sequence[Tensor]) -> float:
    """The largest difference of two lists of gradients, relative to the largest number of each gradient."""
    pairs = zip(found, wanted, strict=True)
    return max(((one - other).abs().max() / other.abs().max().clamp(min=1e-3)).item() for one, other in pairs)


@contextmanager
def keeping() -> Iterator[list[Tensor]]:
    """The tensors that are kept for a backward pass."""
    kept = list[Tensor]()

    def pack(tensor: Tensor) -> Tensor:
        kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield kept


# --- of one recurrence -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
@given(
    seed=st.integers(0, 99), rows=st.integers(1, 4), length=st.integers(1, 40), stops=st.sets(st.integers(0, 45), max_size=5),
    block=st.sampled_from((1, 4, 16)), group=st.integers(1, 3),
)  # fmt: skip
@settings(max_examples=40, deadline=None)
def test_gradients_are_those_of_the_recurrence(
    name: str, seed: int, rows: int, length: int, stops: set[int], block: int, group: int
) -> None:
    recurrence = RECURRENCES[name]
    tensors = recurrence.draw(seed, rows, length)
    with small_blocks(block, group):
        found = gradients(recurrence.ours, tensors, sorted(stops))
    assert error(found, gradients(recurrence.plain, tensors, sorted(stops))) < EXACT


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("rows", "length", "stops"), [(1, 1, ()), (1, 1, (0,)), (3, 4, ()), (1, 4, (0, 2, 3)), (1, 7, (5,))])
def test_gradients_are_those_of_finite_differences(name: str, rows: int, length: int, stops: tuple[int, ...]) -> None:
    """Two groups of rows, or three blocks of tokens: the cost grows with the square of both."""
    recurrence = RECURRENCES[name]
    tensors = [tensor.requires_grad_() for tensor in recurrence.draw(0, rows, length)]
    with small_blocks(3, 2):
        assert torch.autograd.gradcheck(lambda *inputs: outputs(recurrence.ours, inputs, stops), tensors)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("stops", ((), (0, 15, 36)))
def test_values_have_the_same_bits_with_gradients_and_without(name: str, stops: tuple[int, ...]) -> None:
    recurrence = RECURRENCES[name]
    tensors = [tensor.float() for tensor in recurrence.draw(0, 3, 37)]
    plain = outputs(recurrence.ours, tensors, stops)
    learning = outputs(recurrence.ours, [tensor.requires_grad_() for tensor in tensors], stops)
    assert all(torch.equal(one, other) and other.requires_grad for one, other in zip(plain, learning, strict=True))


@pytest.mark.parametrize("name", NAMES)
def test_float32_only_rounds(name: str) -> None:
    recurrence = RECURRENCES[name]
    tensors = recurrence.draw(0, 3, 100)
    found = gradients(recurrence.ours, [tensor.float() for tensor in tensors], (0, 50, 99))
    wanted = gradients(recurrence.ours, tensors, (0, 50, 99))
    assert EXACT < error([gradient.double() for gradient in found], wanted) < 1e-4
    assert all(gradient.dtype == torch.float32 for gradient in found)


@pytest.mark.parametrize("name", ("scan", "ssd", "wkv"))
def test_in_half_precision_the_state_and_its_gradient_are_wide(name: str) -> None:
    """Weights and start state are float32, as in the models; what has been rounded is the other inputs and their gradients."""
    recurrence = RECURRENCES[name]
    by_token = {"scan": (0, 1, 3, 4), "ssd": (0, 1, 3, 4), "wkv": (0, 1, 2, 3)}[name]
    tensors = [t.bfloat16() if k in by_token else t.float() for k, t in enumerate(recurrence.draw(0, 3, 30))]
    found, wanted = gradients(recurrence.ours, tensors), gradients(recurrence.plain, [tensor.double() for tensor in tensors])
    assert [one.dtype for one in found] == [tensor.dtype for tensor in tensors]
    assert error([one.double() for one in found], wanted) < 0.05


@pytest.mark.parametrize("name", NAMES)
def test_a_state_has_a_gradient_even_if_no_input_has_one(name: str) -> None:
    """As in a model whose weights are frozen, where only a patched state varies. Nor is every token's step recorded then."""
    recurrence, found, kept = RECURRENCES[name], list[Tensor](), list[int]()
    tensors = recurrence.draw(0, 2, 20)
    for run in (recurrence.ours, recurrence.plain):
        factor = torch.ones((), dtype=torch.float64, requires_grad=True)
        with keeping() as tensors_kept:
            y = run(*tensors, (7,), lambda h, factor=factor: (h, h * factor ** h.sign()))
        found += torch.autograd.grad((y * weights(y)).sum(), factor)
        kept.append(len(tensors_kept))
    assert error(found[:1], found[1:]) < EXACT and found[1].abs() > 1e-3
    assert kept[0] < kept[1] / 2


def test_where_two_exponents_are_the_maximum_both_get_half_of_its_gradient() -> None:
    """Only a loss that reads the maximum itself sees it."""
    recurrence = RECURRENCES["wkv"]
    tensors = recurrence.draw(0, 2, 12)
    for k in (0, 2, 4, 5):
        tensors[k] = tensors[k].round()
    tensors[4] = -torch.ones(3, dtype=torch.float64)
    carried = tensors[0][:, :-1] - 1
    assert (carried == tensors[0][:, 1:]).any()
    assert error(gradients(recurrence.ours, tensors, (11,)), gradients(recurrence.plain, tensors, (11,))) < EXACT


@pytest.mark.parametrize("name", NAMES)
def test_exponents_that_would_overflow_have_finite_gradients(name: str) -> None:
    recurrence = RECURRENCES[name]
    tensors = [tensor.float() for tensor in recurrence.draw(0, 2, 100)]
    for number in {"wkv": (0, 2), "delta": (4,), "delta by channel": (4,)}.get(name, (1, 2)):
        tensors[number] *= 200
    assert all(gradient.isfinite().all() for gradient in gradients(recurrence.ours, tensors, (50,)))


@pytest.mark.parametrize("name", NAMES)
def test_threads_give_the_same_bits(name: str) -> None:
    recurrence, threads = RECURRENCES[name], torch.get_num_threads()
    tensors = recurrence.draw(0, 5, 20)
    with small_blocks(8, 2):
        found = list[list[Tensor]]()
        for count in (1, 2):
            torch.set_num_threads(count)
            try:
                found.append(gradients(recurrence.ours, tensors, (7,)))
            finally:
                torch.set_num_threads(threads)
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


def test_there_are_no_second_derivatives() -> None:
    for name in ("scan", "wkv"):
        tensors = [tensor.requires_grad_() for tensor in RECURRENCES[name].draw(0, 1, 3)]
        loss = outputs(RECURRENCES[name].ours, tensors, ())[0].square().sum()
        (gradient,) = torch.autograd.grad(loss, tensors[:1], create_graph=True)
        with pytest.raises(RuntimeError, match="once_differentiable"):
            gradient.sum().backward()  # type: ignore[no-untyped-call]


# --- what they cost --------------------------------------------------------------------------------------------------------


class Counting(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the numbers that operations return."""

    numbers = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = function(*args, **(kwargs or {}))
        self.numbers += sum(
            value.numel() for value in (out if isinstance(out, tuple | list) else [out]) if torch.is_tensor(value)
        )
        return out


def cost(name: str, length: int, every: int) -> tuple[int, int, int]:
    """Numbers that forward and backward compute, and numbers that are kept between them; with a stop after ``every`` tokens."""
    recurrence = RECURRENCES[name]
    tensors = [tensor.requires_grad_() for tensor in recurrence.draw(0, 1, length)]
    forward, backward = Counting(), Counting()  # type: ignore[no-untyped-call]
    with keeping() as kept, forward:
        loss = sum(out.sum() for out in outputs(recurrence.ours, tensors, range(0, length, every)))
    storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in kept}
    with backward:
        loss.backward()  # type: ignore[union-attr]
    return forward.numbers, backward.numbers, sum(storages.values())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("every", (1, 1000))
def test_the_cost_grows_no_faster_than_the_length(name: str, every: int) -> None:
    """The stock loop's backward pass computes numbers with the square of the length, as do slices of its inputs."""
    with small_blocks(8, 1):
        short, long = (cost(name, length, every) for length in (80, 160))
    assert all(one < 2.1 * other for one, other in zip(long, short, strict=True)), (short, long)


@pytest.mark.parametrize("name", ("scan", "wkv"))
def test_no_state_is_kept_but_those_before_blocks(name: str) -> None:
    """Of 160 tokens: the inputs, and ten states."""
    recurrence = RECURRENCES[name]
    tensors = recurrence.draw(0, 1, 160)
    state = tensors[-1].numel() if name == "scan" else 9
    with keeping() as kept:
        recurrence.ours(*(tensor.requires_grad_() for tensor in tensors))
    assert sum(tensor.numel() for tensor in kept) <= sum(tensor.numel() for tensor in tensors) + 13 * state


# --- of a model ------------------------------------------------------------------------------------------------------------

PLAIN: dict[str, tuple[Any, str, Callable[..., Tensor]]] = {
    "mamba": (mamba, "scan", lambda u, delta, A, B, C, *rest, exact: plain_scan(u, delta, A, B, C, A.new_zeros(()), *rest)),
    "mamba2": (mamba2, "ssd", lambda x, delta, A, B, C, *rest, exact: plain_ssd(x, delta, A, B, C, A.new_zeros(()), *rest)),
    "qwen3_next": (linear_state, "delta_rule", plain_delta),
    "rwkv": (rwkv, "wkv", plain_wkv),
    "rwkv7": (rwkv7, "delta_rule", plain_delta),
}
"""Where each kind of model calls its recurrence, and the same token by token."""
STOPS = (0, 4, 10, 11)


def by_hook_point(model: ct.Model, ids: Tensor) -> dict[str, list[Tensor]]:
    """The gradient of a logit by the value at every hook point of the recurrent blocks, in the order of its calls."""
    probes, handles = dict[str, list[Tensor]](), []

    def probe(name: str) -> Callable[[Any, Any, Tensor], Tensor]:
        def hook(_: Any, __: Any, out: Tensor) -> Tensor:
            probes.setdefault(name, []).append(torch.zeros_like(out, requires_grad=True))
            return out + probes[name][-1]

        return hook

    for name, module in model.hf.named_modules():
        if ".circuitry." in name and not list(module.children()):
            handles.append(module.register_forward_hook(probe(name)))
        if hasattr(getattr(module, "circuitry", None), "stops"):
            module.circuitry.stops = STOPS
    logit = model.hf(ids, use_cache=False).logits[:, -1, 7].sum()
    for handle in handles:
        handle.remove()
    flat = [one for each in probes.values() for one in each]
    found = iter(torch.autograd.grad(logit, flat, allow_unused=True, materialize_grads=True))
    return {name: [next(found) for _ in each] for name, each in probes.items()}


@pytest.mark.parametrize(
    "kind", ("mamba", "falcon_mamba", "jamba", "mamba2", "mamba2-single", "rwkv", "rwkv7", "qwen3_next", "kimi_linear")
)
def test_gradients_at_every_hook_point_are_those_of_a_plain_loop(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, ids = tiny.model(kind), torch.randint(1, 61, (2, 12), generator=torch.Generator().manual_seed(0))
    found = by_hook_point(model, ids)
    family = {"falcon_mamba": "mamba", "jamba": "mamba", "mamba2-single": "mamba2", "kimi_linear": "qwen3_next"}.get(kind, kind)
    monkeypatch.setattr(*PLAIN[family])
    wanted = by_hook_point(model, ids)
    states = [name for name in found if name.endswith(".state")]
    assert found.keys() == wanted.keys() and len(states) >= 2 and all(len(found[name]) == 4 for name in states)
    for name, each in found.items():
        assert error(each, wanted[name]) < EXACT, name
        assert any(gradient.abs().max() > 0 for gradient in each), name


@pytest.mark.parametrize("kind", ("mamba", "falcon_mamba", "jamba", "rwkv7", "qwen3_next", "kimi_linear"))
def test_gradients_of_parameters_are_those_of_the_stock_model(kind: str) -> None:
    """For Mamba-2 and RWKV see their own tests."""
    ids, found = torch.arange(1, 20)[None], []
    for hf in (tiny.stock(kind, dtype=torch.float32), tiny.model(kind, dtype=torch.float32).hf):
        hf(ids, use_cache=False).logits.sin().sum().backward()
        found.append({name: parameter.grad for name, parameter in hf.named_parameters()})
    for name, wanted in found[0].items():
        assert (found[1][name] - wanted).abs().max() < 1e-3 * wanted.abs().max() and wanted.abs().max() > 0, name
