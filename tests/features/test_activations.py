"""Values of nodes at the tokens of a corpus: every used token once an epoch, the same from wherever the stream begins."""

from __future__ import annotations

import functools
import itertools
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from circuitry.errors import CircuitryError
from circuitry.executing.activations import read
from circuitry.features.activations import Activations, Corpus, activations, corpus, stream
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

    def stream(self, made: Corpus, batch: int = 4, each: int = 3, **options: Any) -> Activations:
        options = {"seed": 0, "memory": 10_000} | options
        found = Activations(self, (NODE,), made, batch, batch * each, **options)  # type: ignore[arg-type]
        assert found.widths == {NODE: 1}
        self.runs.clear()
        return found


@pytest.fixture
def echo(monkeypatch: pytest.MonkeyPatch) -> Echo:
    made = Echo()
    monkeypatch.setattr(stream, "read", made.read)
    return made


FIXTURE = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


def taken(found: Activations, count: int, start: int = 0) -> list[list[int]]:
    """The tokens of some batches."""
    batches = itertools.islice(found.batches(start), count)
    return [values[NODE].flatten().int().tolist() for values in batches]


@FIXTURE
@given(made=corpora(), batch=st.integers(1, 5), each=st.integers(1, 4), buffers=st.integers(1, 8), memory=st.integers(1, 3000))
def test_every_used_token_comes_once_an_epoch(echo: Echo, made: Corpus, batch: int, each: int, buffers: int, memory: int) -> None:
    found = echo.stream(made, batch, each, memory=memory)
    tokens = taken(found, buffers * each)
    assert {len(some) for some in tokens} == {batch}
    epochs, rest = divmod(buffers * each * batch, made.tokens)
    times = Counter(itertools.chain.from_iterable(tokens))
    assert set(times) <= set(made.ids[made.used].tolist())
    assert sorted((times[token] for token in made.ids[made.used].tolist()), reverse=True) == [
        *[epochs + 1] * rest,
        *[epochs] * (made.tokens - rest),
    ]


@FIXTURE
@given(made=corpora(), start=st.integers(0, 30), each=st.integers(1, 4), world_size=st.integers(1, 5))
def test_from_any_batch_on_it_is_as_if_it_had_never_stopped(
    echo: Echo, made: Corpus, start: int, each: int, world_size: int
) -> None:
    found = echo.stream(made, each=each, rank=world_size - 1, world_size=world_size)
    whole = taken(found, start + 6)
    assert taken(found, 6, start) == whole[start:]


@FIXTURE
@given(made=corpora(), each=st.integers(1, 4), world_size=st.integers(1, 9))
def test_processes_share_the_stream(echo: Echo, made: Corpus, each: int, world_size: int) -> None:
    whole = taken(echo.stream(made, each=each), 3 * world_size)
    shared = [taken(echo.stream(made, each=each, rank=rank, world_size=world_size), 3) for rank in range(world_size)]
    assert [batch for group in zip(*shared, strict=True) for batch in group] == whole


@FIXTURE
@given(made=corpora(), batch=st.integers(1, 5), each=st.integers(1, 4), memory=st.integers(1, 3000), start=st.integers(0, 99))
def test_in_order_gives_every_used_token_once(echo: Echo, made: Corpus, batch: int, each: int, memory: int, start: int) -> None:
    start = min(start, made.tokens)
    at = start
    for where, values in echo.stream(made, batch, each, memory=memory).in_order(start):
        assert where.start == at and 0 < where.stop - at <= batch and values[NODE].dtype == torch.float32
        assert values[NODE].flatten().tolist() == made.ids[made.used][where].tolist()
        at = where.stop
    assert at == made.tokens


@FIXTURE
@given(made=corpora(most=30), memory=st.integers(1, 5000))
def test_a_forward_pass_stays_within_memory_and_rows_are_alike(echo: Echo, made: Corpus, memory: int) -> None:
    found = echo.stream(made, each=99, memory=memory)
    next(found.batches())
    assert all(rows == 1 or rows * length * (100 + 3 * 4) <= memory for rows, length in echo.runs)
    lengths = [length for _, length in echo.runs]
    assert lengths == sorted(lengths, reverse=True)


def test_buffers_that_are_skipped_are_not_computed(echo: Echo) -> None:
    found = echo.stream(numbers([6] * 20), batch=6, each=2)
    taken(found, 1, 10**6)
    assert sum(rows for rows, _ in echo.runs) == 2
    list(itertools.islice(found.in_order(114), 1))
    assert sum(rows for rows, _ in echo.runs) == 4


def test_a_document_is_run_only_as_far_as_the_buffer_needs_it(echo: Echo) -> None:
    assert len(list(echo.stream(numbers([40]), batch=4, each=3).in_order())) == 10
    assert echo.runs == [(1, 12), (1, 24), (1, 36), (1, 40)]


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
    streams = [taken(echo.stream(made, each=5, seed=seed), 60) for seed in (0, 1)]
    buffers = [set(itertools.chain.from_iterable(s[k : k + 5])) for s in streams for k in range(0, 60, 5)]
    epochs = [buffers[k : k + 6] for k in range(0, 24, 6)]
    assert all(sorted(set().union(*epoch)) == every for epoch in epochs)
    natural = [set(every[k : k + 20]) for k in range(0, 120, 20)]
    assert all(one != other for one, other in itertools.combinations([natural, *epochs], 2))


def test_tokens_of_a_buffer_are_shuffled_by_the_seed_and_anew_every_time(echo: Echo) -> None:
    streams = [taken(echo.stream(numbers([120]), batch=120, each=1, seed=seed), 2) for seed in (0, 1)]
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
    together = replace(found, memory=1 << 30)
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
        ({"rank": 2, "world_size": 2}, "rank from 0 to 1 .*got 2"),
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


def test_a_buffer_is_whole_batches_and_no_larger_than_the_corpus_needs() -> None:
    assert [activations(small("gpt2"), "mlp", corpus=MADE, batch=8, buffer=b).buffer for b in (8, 17, 1000)] == [8, 24, 40]
