"""Values of nodes at the tokens of a corpus: every used token once an epoch, the same from wherever the stream begins."""

from __future__ import annotations

import functools
import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from circuitry.errors import CircuitryError
from circuitry.executing.activations import read
from circuitry.features.activations import Activations, Corpus, activations, corpus, forward
from circuitry.features.activations.forward import Forward
from circuitry.features.activations.passes import PASSES
from circuitry.paths import Node
from support import tiny
from support.corpora import LONG, SOURCE, bundled, corpora, numbers

# Stream: its laws, with a model whose only node's value is the token's id

NODE = Node("id", ())


class Echo:
    """Stands in for a model and for reading it, and keeps what was run."""

    device, dtype = torch.device("cpu"), torch.float32

    def __init__(self) -> None:
        self.runs: list[tuple[int, ...]] = []

    def bytes_per_row(self, length: int) -> int:
        return 100 * length

    def read(self, _: Any, nodes: tuple[Node, ...], ids: Any) -> dict[Node, torch.Tensor]:
        self.runs.append(ids.shape)
        return {node: torch.from_numpy(ids)[..., None].double() for node in nodes}

    def stream(self, made: Corpus, batch: int = 4, buffer: int = 12, seed: int = 0, memory: int = 10_000) -> Activations:
        origin = Forward(self, (NODE,), made, buffer, memory)  # type: ignore[arg-type]
        found = Activations(origin, (NODE,), made, batch, buffer, seed)
        assert found.widths == {NODE: 1}
        self.runs.clear()
        return found


@pytest.fixture
def echo(monkeypatch: pytest.MonkeyPatch) -> Echo:
    made = Echo()
    monkeypatch.setattr(forward, "read", made.read)
    return made


FIXTURE = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


def taken(found: Activations, count: int, start: int = 0) -> list[list[int]]:
    """The tokens of some batches."""
    batches = itertools.islice(found.batches(start), count)
    return [values[NODE].flatten().int().tolist() for values in batches]


@FIXTURE
@given(made=corpora(), batch=st.integers(1, 20), buffer=st.integers(1, 90), epochs=st.integers(1, 3), memory=st.integers(1, 3000))
def test_every_used_token_comes_once_an_epoch(
    echo: Echo, made: Corpus, batch: int, buffer: int, epochs: int, memory: int
) -> None:
    found = echo.stream(made, batch, buffer, memory=memory)
    tokens = taken(found, -(-epochs * made.tokens // batch))
    assert {len(some) for some in tokens} == {batch}
    sequence, used = list(itertools.chain.from_iterable(tokens)), sorted(made.ids[made.used].tolist())
    for epoch in range(epochs):
        assert sorted(sequence[epoch * made.tokens : (epoch + 1) * made.tokens]) == used


@FIXTURE
@given(made=corpora(), start=st.integers(0, 30), batch=st.integers(1, 20), buffer=st.integers(1, 90))
def test_from_any_batch_on_it_is_as_if_it_had_never_stopped(
    echo: Echo, made: Corpus, start: int, batch: int, buffer: int
) -> None:
    found = echo.stream(made, batch, buffer)
    whole = taken(found, start + 6)
    assert taken(found, 6, start) == whole[start:]


@FIXTURE
@given(made=corpora(), batch=st.integers(1, 20), buffer=st.integers(1, 90), memory=st.integers(1, 3000), start=st.integers(0, 99))
def test_in_order_gives_every_used_token_once(echo: Echo, made: Corpus, batch: int, buffer: int, memory: int, start: int) -> None:
    start = min(start, made.tokens)
    at = start
    for where, values in echo.stream(made, batch, buffer, memory=memory).in_order(start):
        assert (
            where.start == at and (where.stop % batch == 0 or where.stop == made.tokens) and values[NODE].dtype == torch.float32
        )
        assert 0 < where.stop - at <= batch and values[NODE].flatten().tolist() == made.ids[made.used][where].tolist()
        at = where.stop
    assert at == made.tokens


@FIXTURE
@given(made=corpora(most=30), buffer=st.integers(1, 400), memory=st.integers(1, 5000))
def test_a_forward_pass_stays_within_memory_and_a_share_of_the_buffer(echo: Echo, made: Corpus, buffer: int, memory: int) -> None:
    list(echo.stream(made, buffer=buffer, memory=memory).in_order())
    assert all(rows == 1 or rows * length * (100 + 3 * 4) <= memory for rows, length in echo.runs)
    assert all(rows == 1 or rows * length <= buffer / PASSES for rows, length in echo.runs)


# Positions: how many are run for a token that is used

MIXTURES = {
    "many short": (np.random.default_rng(0).integers(20, 60, 3000), 65536),
    "few long": (np.random.default_rng(1).integers(600, 1025, 40), 65536),
    "of all lengths": (np.exp(np.random.default_rng(2).uniform(3, 6.9, 800)).astype(int), 65536),
    "a buffer holds few documents": (np.random.default_rng(3).integers(20, 1025, 200), 8192),
    "a buffer is smaller than a document": (np.random.default_rng(4).integers(20, 1025, 60), 256),
    "a buffer is larger than the text": (np.exp(np.random.default_rng(5).uniform(3, 6.9, 300)).astype(int), 1 << 20),
    "two lengths": (np.array([1024, 24] * 100), 16384),
}


@pytest.mark.parametrize("name", MIXTURES)
@pytest.mark.parametrize("ordered", [True, False])
def test_few_positions_are_run_for_each_used_token(echo: Echo, name: str, ordered: bool) -> None:
    """Neither padding, nor documents that run twice; each document has a first token that is not used."""
    lengths, buffer = MIXTURES[name]
    starts = np.cumsum([0, *lengths])
    made = numbers(lengths.tolist(), set((starts[:-1] + 1).tolist()))
    found = echo.stream(made, batch=64, buffer=buffer, memory=1 << 30)
    list(found.in_order()) if ordered else taken(found, made.tokens // 64)
    assert sum(rows * length for rows, length in echo.runs) <= 1.15 * made.tokens
    assert sum(rows for rows, _ in echo.runs) == len(made)


def test_buffers_that_are_skipped_are_not_computed(echo: Echo) -> None:
    found = echo.stream(numbers([6] * 20), batch=6)
    taken(found, 1, 10**6)
    assert sum(rows for rows, _ in echo.runs) == 2
    list(itertools.islice(found.in_order(114), 1))
    assert sum(rows for rows, _ in echo.runs) == 4


def test_a_batch_that_lies_in_two_buffers_needs_no_others(echo: Echo) -> None:
    found = echo.stream(numbers([6] * 20), batch=8)
    taken(found, 1, 4)
    assert sum(rows for rows, _ in echo.runs) == 4


def test_a_document_longer_than_the_buffer_runs_once_and_only_to_its_last_used_token(echo: Echo) -> None:
    assert len(list(echo.stream(numbers([40, 3], {38, 39, 40}), batch=4).in_order())) == 10
    assert echo.runs == [(1, 37), (1, 3)]


def test_what_runs_together_depends_on_no_seed(echo: Echo) -> None:
    made = numbers([3, 1, 4, 1, 5, 9, 2, 6] * 9)
    ran = []
    for found in (echo.stream(made, buffer=99), echo.stream(made, buffer=99, seed=1)):
        taken(found, made.tokens // 4 + 1)
        ran.append(sorted(echo.runs[: len(found.origin.passes)]))
    assert ran[0] == ran[1]


def test_a_batch_does_not_change_when_the_next_one_is_made(echo: Echo) -> None:
    """A consumer may keep a batch, and keeps no buffer alive by it."""
    batches = echo.stream(numbers([6] * 20)).batches()
    first = next(batches)[NODE]
    before = first.clone()
    for _ in range(5):
        next(batches)[NODE].fill_(-1)
    _, second = next(echo.stream(numbers([6] * 20)).in_order())
    assert (first == before).all()
    assert all(values.untyped_storage().nbytes() == values.numel() * 4 for values in (first, second[NODE]))


def test_documents_are_shuffled_by_the_seed_and_anew_every_epoch(echo: Echo) -> None:
    made, every = numbers([5] * 24), list(range(1, 121))
    streams = [taken(echo.stream(made, buffer=20, seed=seed), 60) for seed in (0, 1)]
    buffers = [set(itertools.chain.from_iterable(s[k : k + 5])) for s in streams for k in range(0, 60, 5)]
    epochs = [buffers[k : k + 6] for k in range(0, 24, 6)]
    assert all(sorted(set().union(*epoch)) == every for epoch in epochs)
    natural = [set(every[k : k + 20]) for k in range(0, 120, 20)]
    assert all(one != other for one, other in itertools.combinations([natural, *epochs], 2))


def test_tokens_of_a_buffer_are_shuffled_by_the_seed_and_anew_every_time(echo: Echo) -> None:
    streams = [taken(echo.stream(numbers([120]), batch=120, buffer=120, seed=seed), 2) for seed in (0, 1)]
    orders = [list(range(1, 121)), *streams[0], *streams[1]]
    assert all(sorted(order) == orders[0] for order in orders)
    assert all(one != other for one, other in itertools.combinations(orders, 2))


# Stream: its values

KINDS = ["gpt_neox", "mamba", "mamba2", "rwkv", "jamba"]
MADE = numbers([7, 3, 11, 5, 7, 1, 9], {1, 8, 11, 22, 27, 34, 35})


@functools.cache
def small(kind: str) -> Any:
    return tiny.model(kind)


def alone(model: Any, made: Corpus, nodes: tuple[Node, ...]) -> dict[Node, torch.Tensor]:
    """Nodes at every used token [token, width], from each document run by itself."""
    rows = [read(model, nodes, made.ids[None, a:b].astype(np.int64)) for a, b in itertools.pairwise(made.starts)]
    used = torch.from_numpy(~made.special)
    return {node: torch.cat([row[node][0] for row in rows])[used].reshape(made.tokens, -1) for node in nodes}


def families(model: Any) -> list[str]:
    """Those whose nodes are in some module, the logits aside."""
    return [f.name for f in model.graph.families if f.place is not None and f.name != "logits"]


@pytest.mark.parametrize("kind", KINDS)
def test_values_are_those_of_every_document_run_alone(kind: str) -> None:
    model = small(kind)
    found = activations(model, families(model), corpus=MADE, batch=8, buffer=16, memory=1)
    together = activations(model, families(model), corpus=MADE, batch=8, buffer=16 * 64)
    expected = alone(model, MADE, found.nodes)
    for made in (found, together):
        whole = [values for _, values in made.in_order()]
        for node in made.nodes:
            got, wanted = torch.cat([values[node] for values in whole]), expected[node]
            assert got.shape == (MADE.tokens, made.widths[node]) and got.dtype == torch.float32
            assert (got - wanted).abs().max() <= 1e-6 * max(1.0, float(wanted.abs().max())), node


@pytest.mark.parametrize("kind", ["gpt_neox", "mamba"])
def test_batches_have_the_values_of_used_tokens(kind: str) -> None:
    model = small(kind)
    found = activations(model, "resid", corpus=MADE, batch=MADE.tokens)
    node = found.nodes[-1]
    [batch] = itertools.islice(found.batches(), 1)
    expected = alone(model, MADE, found.nodes)[node].float()
    distance = torch.cdist(batch[node], expected, compute_mode="donot_use_mm_for_euclid_dist")
    assert distance.min(1).values.max() < 1e-4
    assert sorted(distance.argmin(1).tolist()) == list(range(MADE.tokens))


def test_a_stream_of_a_real_model_resumes_to_the_bit() -> None:
    found = activations(bundled(), ["h[1]", "resid"], [LONG, SOURCE] * 3, batch=8, buffer=16, context=12)
    whole = list(itertools.islice(found.batches(), 6))
    for start in (1, 2, 5):
        resumed = next(found.batches(start))
        assert all((resumed[node] == whole[start][node]).all() for node in found.nodes)
    assert not (whole[0][found.nodes[0]] == whole[1][found.nodes[0]]).all()


def test_nodes_may_be_named_alone_by_family_or_by_a_short_name() -> None:
    def named(kind: str, nodes: Any) -> list[str]:
        return [str(node) for node in activations(small(kind), nodes, corpus=MADE).nodes]

    graph = small("mamba").graph
    assert named("mamba", "h") == named("mamba", graph.ssm_state) == [f"ssm_state[{layer}]" for layer in range(3)]
    assert named("mamba", ["h[1]", "resid[0]", "ssm_state[1]"]) == ["ssm_state[1]", "resid[0]"]
    assert named("mamba", [graph.ssm_state[2], "embed"]) == ["ssm_state[2]", "embed"]
    assert named("gpt_neox", "head")[:3] == ["head[0,0]", "head[0,1]", "head[1,0]"]
    assert named("gpt_neox", "head.q")[-1] == "head[2,1].q"
    assert named("jamba", "head")[0] == "head[1,0]"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"nodes": "logits"}, "logits cannot be collected"),
        ({"nodes": ["resid[0]", "resid[9]"]}, r"has no node resid\[9\]"),
        ({"nodes": "rezid"}, "did you mean 'resid'"),
        ({"nodes": "head.pattern"}, r"head\[0,0\].pattern has no fixed width"),
        ({"nodes": []}, "no node"),
        ({"batch": 0}, "expected a batch of .*got 0"),
        ({"batch": 9, "buffer": 8}, "batch of 1 to 8 tokens .*got 9"),
        ({"texts": [LONG]}, "texts or a corpus, not both"),
        ({"corpus": replace(MADE, ids=MADE.ids + 60)}, "to 103, model has 0 to 60"),
        ({"corpus": replace(MADE, special=MADE.ids > 0)}, "special tokens only"),
        ({"corpus": None, "texts": [LONG]}, "has no tokenizer"),
    ],
)
def test_what_cannot_be_streamed(options: dict[str, Any], message: str) -> None:
    asked: dict[str, Any] = {"nodes": "resid", "corpus": MADE} | options
    with pytest.raises(CircuitryError, match=message):
        activations(small("gpt_neox"), **asked)


def test_a_corpus_of_another_tokenizer_or_for_longer_contexts_is_refused() -> None:
    made = corpus(bundled(), ["word " * 2000], progress=False)
    with pytest.raises(CircuitryError, match=r"1024 tokens is longer than bundled:gpt_neox's 512 positions; .* context=512"):
        activations(bundled("gpt_neox"), "resid", corpus=made)
    with pytest.raises(CircuitryError, match="another tokenizer than that of bundled:mamba"):
        activations(bundled(), "resid", corpus=replace(made, tokenizer="another"))
    assert activations(bundled(), "resid", corpus=made, tokens=7).corpus.tokens == 7
