"""Instrumented models compute what the stock ones do, and a model that cannot be loaded says why."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import circuitry as ct
from circuitry import ModelError
from circuitry.models import Vocabulary, mamba, mixers, scan
from support import tiny
from support.agreement import both, model, ragged
from support.rounding import only_rounded
from support.stub_kernels import STUB, logits_beside

EXACT = 1e-10
TRANSFORMERS = [
    k for k in tiny.CONFIGS if {*ct.architecture.definition_for(k.split("-")[0]).instrumentation.values()} == {"attention"}
]


def tokens(rows: int = 3, length: int = 20, seed: int = 0) -> Tensor:
    return torch.randint(1, 61, (rows, length), generator=torch.Generator().manual_seed(seed))


def logits(hf: Any, ids: Tensor, **more: Any) -> Tensor:
    with torch.no_grad():
        found: Tensor = hf(ids, use_cache=False, **more).logits
    return found


def left_padded(rows: int = 3, length: int = 20) -> tuple[Tensor, Tensor]:
    """Token ids and attention mask: row k has k tokens of padding in front."""
    ids, mask = tokens(rows, length), torch.ones(rows, length, dtype=torch.long)
    for row in range(rows):
        ids[row, : 2 * row], mask[row, : 2 * row] = 0, 0
    return ids, mask


# --- parity with the stock model -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", TRANSFORMERS)
@pytest.mark.parametrize("dtype", (torch.float32, torch.bfloat16))
@pytest.mark.parametrize("padded", (False, True))
def test_attend_attention_gives_the_same_bits(kind: str, dtype: torch.dtype, padded: bool) -> None:
    hf = tiny.stock(kind, dtype=dtype)
    hf.set_attn_implementation("eager")
    ids, mask = left_padded()
    more = {"attention_mask": mask} if padded else {}
    stock = logits(hf, ids, **more)
    assert torch.equal(logits(ct.load(hf, dtype=dtype).hf, ids, **more), stock)


@pytest.mark.parametrize("dtype", (torch.float32, torch.bfloat16, torch.float16))
@pytest.mark.parametrize("padded", (False, True))
def test_instrumented_mamba_gives_the_same_bits(dtype: torch.dtype, padded: bool) -> None:
    hf = tiny.stock("mamba", dtype=dtype)
    ids, mask = left_padded()
    more = {"attention_mask": mask} if padded else {}
    stock = logits(hf, ids, **more)
    ours = ct.load(hf, dtype=dtype)
    with mixers.exact(ours.mixers):
        assert torch.equal(logits(ours.hf, ids, **more), stock)
    assert only_rounded(logits(ours.hf, ids, **more), stock, tiny.stock("mamba", dtype=dtype), ids, **more)


def test_padding_on_the_left_is_as_if_it_were_not_there() -> None:
    ours = model("mamba")
    ids, mask = left_padded()
    for row in range(len(ids)):
        alone = logits(ours.hf, ids[row : row + 1, 2 * row :])
        assert (logits(ours.hf, ids, attention_mask=mask)[row, 2 * row :] - alone[0]).abs().max() < 1e-5


@pytest.mark.parametrize("kind", tiny.CONFIGS)
def test_instrumenting_twice_is_instrumenting_once(kind: str) -> None:
    first = tiny.model(kind)
    wanted, taps = logits(first.hf, tokens()), {n for n, _ in first.hf.named_modules()}
    again = ct.load(first.hf, dtype="float64")
    assert torch.equal(logits(again.hf, tokens()), wanted)
    assert {n for n, _ in again.hf.named_modules()} == taps
    assert (both(first, "embed @ B -> logits", ragged())[0].error, both(again, "embed @ B -> logits", ragged())[0].error) < (
        EXACT,
        EXACT,
    )


def test_an_attention_that_is_something_else_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from circuitry.models import attention

    real = attention._attend
    monkeypatch.setattr(attention, "_attend", lambda *a, **k: tuple(1.01 * t for t in real(*a, **k)))
    with pytest.raises(
        ModelError,
        match=r"gpt2: instrumented logits differ from the stock model's by .*; the hook points do not compute what this model computes",
    ):
        tiny.model("gpt2")
    monkeypatch.setattr(attention, "_attend", lambda module, *a, **k: (real(module, *a, **k), real(module, *a, **k))[0])
    with pytest.raises(ModelError, match="gpt2: expected one call of the instrumented attention in each of 3 layers, got 6"):
        tiny.model("gpt2")
    monkeypatch.undo()
    tiny.model("gpt2")  # registers the real one again, which is the same for all models


def test_a_mamba_that_is_something_else_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mixers, "_stock_logits", lambda hf, ids: 1.01 * logits(hf, ids))
    with pytest.raises(ModelError, match=r"Mamba: instrumented logits differ from the stock model's by"):
        tiny.model("mamba")
    monkeypatch.undo()
    monkeypatch.setattr(mamba, "scan", lambda *args, **options: scan(*args, **options) * (1.001 if options["exact"] else 1))
    with pytest.raises(ModelError, match=r"Mamba: instrumented logits differ from the stock model's by"):
        tiny.model("mamba")
    monkeypatch.setattr(mamba, "scan", lambda *args, **options: scan(*args, **options) * (1 if options["exact"] else 1.5))
    with pytest.raises(ModelError, match="the fast scan differs from the exact one by"):
        tiny.model("mamba")


@pytest.mark.parametrize(
    ("package", "module", "function"),
    [("mamba_ssm", "ops/selective_scan_interface.py", "selective_scan_fn"), ("causal_conv1d", "extra.py", "causal_conv1d_fn")],
)
def test_compiled_kernels_that_cannot_run_here_are_not_needed(tmp_path: Path, package: str, module: str, function: str) -> None:
    """Where mamba-ssm is importable without a GPU, transformers calls its kernels and fails; circuitry never does."""
    stub = STUB.format(function=function)
    ours = logits_beside(tmp_path, "mamba", {f"{package}/{module}": stub, f"{package}/__init__.py": stub})
    wanted = logits(tiny.stock("mamba", dtype=torch.float32), torch.arange(20)[None] + 3)
    assert torch.equal(ours, wanted)


# --- every node ------------------------------------------------------------------------------------------------------------


def hook(hf: Any, place: ct.architecture.Place, change: Callable[[Tensor], Tensor]) -> Any:
    """A plain PyTorch hook at a place, independent of every engine."""
    module = hf.get_submodule(place.module)
    if not place.module:
        return module.register_forward_hook(lambda _, __, out: type(out)(logits=change(out.logits)))
    if place.io == "output":
        return module.register_forward_hook(
            lambda _, __, out: (change(out[0]), *out[1:]) if isinstance(out, tuple) else change(out)
        )
    return module.register_forward_pre_hook(lambda _, args: (change(args[0]), *args[1:]))


@pytest.mark.parametrize("kind", tiny.CONFIGS)
def test_writing_a_nodes_own_value_back_changes_nothing(kind: str) -> None:
    """And every node is there to be written: its place is called, once or once a stop, and a change in it is seen."""
    ours, ids = model(kind), tokens(2, 5)
    for mixer in ours.mixers:
        mixer.circuitry.stops = tuple(range(5))
    try:
        wanted, places = logits(ours.hf, ids), {node: ours.graph.place(node) for node in ours.graph.nodes(ports=True)}
        calls = Counter[Any]()

        def seen(node: Any) -> Callable[[Tensor], Tensor]:
            return lambda t: (calls.update([node]), t.clone())[1]

        handles = [hook(ours.hf, place, seen(node)) for node, place in places.items()]
        assert torch.equal(logits(ours.hf, ids), wanted)
        assert calls == {node: 5 if place.position is None else 1 for node, place in places.items()}
        for handle in handles:
            handle.remove()
        for node, place in places.items():
            handle = hook(ours.hf, place, lambda t: 1.5 * t + 0.5)
            assert not torch.equal(logits(ours.hf, ids), wanted), node
            handle.remove()
    finally:
        for mixer in ours.mixers:
            mixer.circuitry.stops = ()


def test_states_are_what_the_recurrence_says() -> None:
    """The state tap shows h of one token after the other, whatever the stops between are."""
    ours, ids = model("mamba"), tokens(2, 8)
    every: list[Tensor] = []
    some: list[Tensor] = []
    for stops, seen in ((range(8), every), ((1, 5, 7), some)):
        ours.mixers[1].circuitry.stops = tuple(stops)
        handle = ours.mixers[1].circuitry.state.register_forward_hook(lambda _, __, out, seen=seen: seen.append(out.clone()))
        logits(ours.hf, ids)
        handle.remove()
    ours.mixers[1].circuitry.stops = ()
    assert len(every) == 8
    for one, stop in zip(some, (1, 5, 7), strict=True):
        assert (one - every[stop]).abs().max() < 1e-12 < one.abs().max()


@pytest.mark.parametrize("kind", ("llama", "mistral", "qwen2", "qwen3"))
@pytest.mark.parametrize("port", ("k", "v"))
def test_one_head_of_a_group_is_patched_alone(kind: str, port: str) -> None:
    """Heads 0 and 1 share one key and value; what head 0 sees of it can be patched without head 1."""
    one, other, group = (
        both(model(kind), path, ragged())[0]
        for path in (
            f"head[1,0].{port} @ B -> logits",
            f"head[1,1].{port} @ B -> logits",
            f"(head[1,0].{port} @ B, head[1,1].{port} @ B) -> logits",
        )
    )
    assert max(cell.error for cell in (one, other, group)) < EXACT
    for first, second in ((one, other), (one, group), (other, group)):
        assert (first.engine - second.engine).abs().max() > 1e-3


# --- the scan --------------------------------------------------------------------------------------------------------------


def scanned(seed: int, batch: int, length: int, **more: Any) -> list[Tensor]:
    """The block scan and the exact one on random inputs."""
    make = torch.Generator().manual_seed(seed)
    u, z = (torch.randn(batch, length, 6, generator=make, dtype=torch.float64) for _ in range(2))
    B, C = (torch.randn(batch, length, 4, generator=make, dtype=torch.float64) for _ in range(2))
    A = -torch.rand(6, 4, generator=make, dtype=torch.float64)
    delta = torch.nn.functional.softplus(z)
    return [scan(u, delta, A, B, C, exact=exact, **more) for exact in (False, True)]


lengths = st.integers(1, 40)


@given(st.integers(0, 99), st.integers(1, 4), lengths, st.booleans(), st.sets(st.integers(0, 45), max_size=6))
@settings(max_examples=60)
def test_block_scan_equals_exact_scan(seed: int, batch: int, length: int, begun: bool, stops: set[int]) -> None:
    """With states changed at some positions, read and carried on differently; positions past the end are never reached."""
    h0 = torch.randn(batch, 6, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) if begun else None
    called: list[int] = []

    def at_stop(h: Tensor) -> tuple[Tensor, Tensor]:
        called.append(1)
        return 2 * h + 1, h - 0.5

    stopped = [stop for stop in stops if stop < length]
    blocks, exact = scanned(seed, batch, length, stops=stopped, at_stop=at_stop, h0=h0)
    assert blocks.shape == exact.shape == (batch, length, 6)
    assert (blocks - exact).abs().max() < EXACT
    assert len(called) == 2 * len(stopped)


def test_a_stop_that_changes_nothing_changes_nothing() -> None:
    plain, _ = scanned(0, 2, 37)
    stopped, exact = scanned(0, 2, 37, stops=(0, 15, 16, 36))
    assert (plain - stopped).abs().max() < EXACT > (plain - exact).abs().max()


def test_what_is_read_and_what_is_carried_are_two_things() -> None:
    plain, _ = scanned(0, 2, 9)
    read, _ = scanned(0, 2, 9, stops=(4,), at_stop=lambda h: (0 * h, h))
    carried, _ = scanned(0, 2, 9, stops=(4,), at_stop=lambda h: (h, 0 * h))
    changed = [((plain - other).abs().amax((0, 2)) > 1e-9).tolist() for other in (read, carried)]
    assert changed == [[k == 4 for k in range(9)], [k > 4 for k in range(9)]]


def test_rows_in_groups_for_the_cache_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    whole, _ = scanned(1, 7, 20, stops=(3,))
    monkeypatch.setattr(sys.modules["circuitry.models.scan"], "_CACHE", 2 * 16 * 24 * 8)
    assert torch.equal(scanned(1, 7, 20, stops=(3,))[0], whole)


def test_a_state_of_before_is_continued() -> None:
    """Two halves, the second begun with the last state of the first, are the whole."""
    seen: list[Tensor] = []
    make = torch.Generator().manual_seed(0)
    u, B, C = (torch.randn(2, 20, n, generator=make, dtype=torch.float64) for n in (6, 4, 4))
    A, delta = -torch.rand(6, 4, generator=make, dtype=torch.float64), torch.rand(2, 20, 6, generator=make, dtype=torch.float64)
    whole = scan(u, delta, A, B, C)
    scan(u[:, :9], delta[:, :9], A, B[:, :9], C[:, :9], (8,), lambda h: (seen.append(h), (h, h))[1])  # type: ignore[func-returns-value]
    rest = scan(u[:, 9:], delta[:, 9:], A, B[:, 9:], C[:, 9:], h0=seen[0])
    assert (rest - whole[:, 9:]).abs().max() < 1e-12


def test_gradients_flow_through_an_instrumented_mamba() -> None:
    ours, ids = tiny.model("mamba"), tokens(1, 9)
    ours.hf(ids, use_cache=False).logits.sum().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for name, p in ours.hf.named_parameters() if "mixer" in name)


# --- vocabulary ------------------------------------------------------------------------------------------------------------


class Toy:
    """A tokenizer with special tokens, two tokens that read alike, one that is half a character, and one past the logits."""

    words = ("<s>", "a", "Ġa", "b", "<|image|>", "ab", "a", "\ufffd", "", "<0x61>", "past")
    all_special_ids = (0,)

    def get_vocab(self) -> dict[str, int]:
        return {f"{word}{'.' * (index == 6)}": index for index, word in enumerate(self.words)}

    def decode(self, ids: list[int]) -> str:
        return "".join(self.words[i].replace("Ġ", " ").replace("<0x61>", "a") for i in ids)

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        return [0] * add_special_tokens + [self.words.index(letter) for letter in text]


def test_vocabulary_has_no_special_and_no_duplicate_tokens() -> None:
    known = Vocabulary.of(Toy(), size=10)
    assert known.ordinary.tolist() == [1, 2, 3, 5] and known.ordinary.dtype == np.int64
    assert [known.decode(i) for i in known.ordinary] == ["a", " a", "b", "ab"]
    assert known.encode("ab") == [1, 3]


def test_vocabulary_of_a_real_tokenizer() -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    made = Tokenizer(models.WordLevel({"<eos>": 0, "red": 1, "blue": 2, "<|pad|>": 3}, unk_token="<eos>"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    known = Vocabulary.of(PreTrainedTokenizerFast(tokenizer_object=made, eos_token="<eos>"), size=61)
    assert known.ordinary.tolist() == [1, 2] and known.encode("blue red") == [2, 1] and known.decode(2) == "blue"


def test_a_model_without_tokenizer_has_numbers_for_tokens() -> None:
    known = model("gpt2").vocabulary
    assert known.ordinary.tolist() == list(range(61)) and known.decode(7) == "7"
    with pytest.raises(ValueError, match="this model was loaded without a tokenizer"):
        known.encode("a")


# --- an architecture of one's own ----------------------------------------

OWN = """
from circuitry.architecture import transformer

ARCHITECTURE = transformer(
    name="jais2", model_types=("jais2",), citations=(), embed="model.embed_tokens", layers="model.layers.{layer}",
    sizes=lambda c: {"layer": c.num_hidden_layers, "head": c.num_attention_heads, "parallel": 0},
    attention="self_attn", middle="post_attention_layernorm", final_norm="model.norm", example={"layer": 2, "head": 4, "parallel": 0},
)
"""


def test_a_graph_file_of_ones_own_loads_a_model_that_has_no_shipped_one(tmp_path: Path) -> None:
    from transformers import Jais2Config, Jais2ForCausalLM

    file = tmp_path / "mine.py"
    file.write_text(OWN)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    stock = Jais2ForCausalLM(Jais2Config(vocab_size=61, num_key_value_heads=2, **sizes))
    with pytest.raises(ModelError, match=r"no graph for models of type 'jais2'.*graph='./mine.py'"):
        ct.load(stock)
    made = ct.load(stock, graph=str(file))
    assert made.graph.name == "jais2"
    table = ct.patch(made, ct.task("induction", distance=8, examples=2), "mlp[0] @ B -> logits", lint=False)
    assert table.frame["effect"].abs().min() > 0


def test_a_graph_file_for_other_models_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(OWN)
    with pytest.raises(ModelError, match="is for models of type jais2; this one is of type 'mamba'"):
        ct.load("bundled:mamba", graph=str(file))
