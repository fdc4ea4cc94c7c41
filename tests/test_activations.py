"""Text, its tokens, and the values of nodes there: every used token once an epoch, the same from wherever the stream begins."""

from __future__ import annotations

import functools
import gzip
import itertools
import json
import sys
import sysconfig
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

import circuitry as ct
import tiny
from circuitry.errors import CircuitryError
from circuitry.paths import Node
from circuitry.running.activations import read
from circuitry.universality.activations import Activations, Corpus, activations, corpus, describe, documents, manual, stream
from circuitry.universality.activations.corpus import special_ids

LONG = "Mary and John went to the store"
OTHER = "The other document is this one."


# Text


def test_a_folder_gives_its_plain_files_sorted_and_two_blank_lines_separate_documents(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "b.txt").write_text(f"{LONG}\n\nsecond paragraph\n\n\n  \nshort\n \n\n{OTHER}\n")
    (tmp_path / "a.md").write_text("The first of all documents.")
    (tmp_path / "deep" / "c.txt").write_text("The last of all documents.")
    (tmp_path / "a.py").write_text("# no text at all, although long enough")
    found = list(documents(tmp_path))
    assert found == [
        "The first of all documents.",
        f"{LONG}\n\nsecond paragraph",
        OTHER,
        "The last of all documents.",
    ]
    assert list(documents(str(tmp_path / "b.txt"))) == found[1:3]
    assert describe(tmp_path) == f"the folder {tmp_path.name}" and describe(tmp_path / "b.txt") == "the file b.txt"


@pytest.mark.parametrize("packed", [False, True])
def test_lines_of_json(packed: bool, tmp_path: Path) -> None:
    lines = [{"text": LONG, "title": "x"}, {"number": 3, "body": OTHER}]
    raw = "\n\n".join(map(json.dumps, lines)).encode()
    file = tmp_path / ("a.jsonl.gz" if packed else "a.jsonl")
    file.write_bytes(gzip.compress(raw) if packed else raw)
    assert list(documents(file)) == [LONG, OTHER]


@pytest.mark.parametrize(
    ("name", "raw", "message"),
    [
        ("a.jsonl", b'{"a": "x", "b": "y"}', "line 1 of a.jsonl has no field 'text', and 2 fields of text"),
        ("a.jsonl", b'\n{"a": 1}', r"line 2 of a.jsonl has no field 'text', and 0 fields of text \(none\)"),
        ("a.jsonl", b'["x"]', "line 1 of a.jsonl is no JSON object"),
        ("a.jsonl", b"{", "a.jsonl cannot be read as lines of JSON"),
        ("a.jsonl.gz", gzip.compress(b"{}" * 99)[:-9], "a.jsonl.gz cannot be read"),
        ("a.parquet", b"x", "a.parquet cannot be read as Parquet"),
        ("a.csv", b"x", "a.csv is no file of text"),
    ],
)
def test_a_file_that_holds_no_text_says_why(name: str, raw: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(raw)
    with pytest.raises(CircuitryError, match=message):
        list(documents(tmp_path / name))


def test_parquet(tmp_path: Path) -> None:
    pyarrow.parquet.write_table(pyarrow.table({"id": [1, 2, 3], "text": [LONG, None, OTHER]}), tmp_path / "a.parquet")
    pyarrow.parquet.write_table(pyarrow.table({"body": [LONG]}), tmp_path / "b.parquet")
    assert list(documents(tmp_path / "a.parquet")) == [LONG, OTHER]
    with pytest.raises(CircuitryError, match=r"no column 'text'; its columns are body"):
        list(documents(tmp_path / "b.parquet"))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("nowhere.txt", "no file or folder 'nowhere.txt'"),
        (LONG, "a text itself is given in a list"),
        (Path("nowhere"), "no file or folder 'nowhere'"),
        ([LONG, 3], "text number 1 is of type int"),
    ],
)
def test_a_source_that_is_not_there(source: Any, message: str) -> None:
    with pytest.raises(CircuitryError, match=message):
        list(documents(source))


def test_a_folder_without_text(tmp_path: Path) -> None:
    with pytest.raises(CircuitryError, match=r"no \.txt or \.md file"):
        list(documents(tmp_path))


def test_a_hugging_face_data_set_is_streamed(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def load_dataset(*names: Any, **options: Any) -> Iterator[Any]:
        asked.append((names, options))
        yield from ({"text": text} for text in [LONG, "short", OTHER])
        raise AssertionError("read further than it was asked for")

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))
    assert list(itertools.islice(documents("owner/name:part"), 2)) == [LONG, OTHER]
    assert asked == [(("owner/name", "part"), {"split": "train", "streaming": True})]
    assert describe("owner/name:part") == "the Hugging Face data set owner/name:part"


def test_a_hugging_face_data_set_without_the_extra_or_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def load_dataset(*_: Any, **__: Any) -> Any:
        raise ConnectionError("nobody answers\nand more")

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))
    with pytest.raises(CircuitryError, match=r"did not give .* \(nobody answers\). Offline, give a folder"):
        next(documents("owner/name"))
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(CircuitryError, match=r"pip install 'circuitry-lm\[datasets\]'"):
        next(documents("owner/name"))


def test_the_default_is_the_interpreters_own_documentation() -> None:
    texts = list(documents())
    assert texts == list(documents()) and len(texts) == len(set(texts))
    made = manual.manual()
    assert 10 < sum(text in made.passages for text in texts[: len(made.passages) * 5]) < len(made.passages), "not shuffled"
    assert sum(len(text.split()) for text in texts) > 200_000
    assert any("JSON" in text for text in texts) and any(
        "``while`` statement" in text or '"while" statement' in text for text in texts
    )
    assert describe().startswith(f"the documentation of Python {sys.version.split()[0]}: ")


def test_the_documentation_is_read_and_not_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {
        "json/__init__.py": '"""Of the package."""\nraise SystemExit\n',
        "json/tests/test_it.py": '"""Of a test."""',
        "string.py": 'try:\n    class A:\n        "Of A."\nexcept E:\n    def f():\n        """\n        Of f.\n        """\n',
        "random.py": '"Of the package."',
        "queue.py": "this is no Python",
        "mine.py": '"""Not of the standard library."""',
        "pydoc_data/topics.py": f"topics = {{'a': 'A paragraph.\\n\\n{'x' * 1000}\\n\\nThe rest.'}}\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(sysconfig, "get_path", lambda _: str(tmp_path))
    found = manual.manual.__wrapped__()
    assert found.docstrings == ("Of the package.", "Of A.", "Of f.")
    assert found.passages == (f"A paragraph.\n\n{'x' * 1000}", "The rest.")
    monkeypatch.setattr(sysconfig, "get_path", lambda _: str(tmp_path / "nowhere"))
    with pytest.raises(CircuitryError, match="without its sources"):
        manual.manual.__wrapped__()


# Corpus


@functools.cache
def bundled(name: str = "mamba") -> Any:
    return ct.load(f"bundled:{name}")


WORDS = st.lists(st.sampled_from(["Mary", "went", "to", "the", "store.", "<|endoftext|>", "Ünïcode"]), min_size=6, max_size=40)
TEXTS = st.lists(WORDS.map(" ".join).filter(lambda text: len(text) >= 20), min_size=1, max_size=6)


@settings(max_examples=40)
@given(TEXTS, st.integers(2, 40))
def test_documents_begin_with_the_first_token_are_cut_and_special_tokens_are_masked_by_id(texts: list[str], context: int) -> None:
    words = bundled().tokenizer
    made = corpus(words, texts, context=context, progress=False)
    expected = [[0, *words.encode(text, add_special_tokens=False)][:context] for text in texts]
    assert [made.ids[a:b].tolist() for a, b in itertools.pairwise(made.starts)] == expected
    assert (made.special == (made.ids == 0)).all() and made.tokens == int((made.ids != 0).sum())
    assert (made.used == np.flatnonzero(made.ids)).all()


def test_every_special_token_is_masked_and_nothing_is_put_first_where_there_is_no_such_token() -> None:
    vocabulary = {word: k for k, word in enumerate(["[U]", "[E]", "Mary", "and", "John"])}
    plain = Tokenizer(models.WordLevel(vocabulary, "[U]"))
    plain.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    words = PreTrainedTokenizerFast(tokenizer_object=plain, eos_token="[E]", unk_token="[U]")
    words.add_tokens([AddedToken("[X]", special=True), AddedToken("[Y]", special=False)])  # named by nothing, but special
    made = corpus(words, ["Mary and [E] John [X] and [Y] unknown Mary"], progress=False)
    assert made.ids.tolist() == [2, 3, 1, 4, 5, 3, 6, 0, 2]
    assert np.flatnonzero(made.special).tolist() == [2, 4, 7]


def test_special_tokens_of_a_tokenizer_that_lists_no_added_ones() -> None:
    words = SimpleNamespace(all_special_ids=[7, 3], bos_token_id=2, get_vocab=dict)
    assert special_ids(words) == [2, 3, 7]


def test_no_more_text_is_read_than_the_tokens_need() -> None:
    texts = iter([LONG] * 10_000)
    made = corpus(bundled(), texts, tokens=100, progress=False)
    assert made.tokens == 100 and made.source == "texts given in Python"
    assert len(list(texts)) > 9_000
    assert corpus(bundled(), [LONG], tokens=10**6, progress=False).tokens < 100


def test_a_document_is_no_longer_than_the_model_has_positions() -> None:
    texts = ["word " * 2000]
    assert [len(corpus(bundled(name), texts, progress=False).ids) for name in ("mamba", "gpt_neox")] == [1024, 512]
    assert len(corpus(bundled("gpt_neox").tokenizer, texts, progress=False).ids) == 1024


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: corpus(tiny.model("gpt2"), [LONG]), "has no tokenizer, so it cannot read text"),
        (lambda: corpus("bundled:mamba", [LONG]), "'bundled:mamba' has no tokenizer"),
        (lambda: corpus(bundled(), ["short"]), "texts given in Python: no document of 20 characters"),
        (lambda: corpus(bundled(), [LONG], context=1), "a document has 2 tokens or more"),
        (lambda: corpus(bundled(), [LONG], tokens=0), "a corpus 1 used token or more"),
        (lambda: numbers([3, 2]).take(0), "ask for 1 or more"),
        (lambda: numbers([3, 2]).split(0.1), "leaves one part empty"),
        (lambda: replace(numbers([3, 2]), starts=np.array([0, 5, 5])), "none of them empty"),
        (lambda: replace(numbers([3, 2]), starts=np.array([0, 4])), "fill its ids"),
        (lambda: replace(numbers([3, 2]), special=np.zeros(4, bool)), "a mask as long"),
    ],
)
def test_a_corpus_that_cannot_be(make: Any, message: str) -> None:
    with pytest.raises(CircuitryError, match=message):
        make()


def numbers(lengths: list[int], masked: set[int] = frozenset()) -> Corpus:  # type: ignore[assignment]
    """Token ids that say where they are, from 1; those in ``masked`` are not used."""
    starts = np.cumsum([0, *lengths])
    ids = np.arange(1, starts[-1] + 1, dtype=np.int32)
    return Corpus(ids, starts, np.isin(ids, list(masked)), "numbers", "")


@st.composite
def corpora(draw: st.DrawFn, most: int = 12) -> Corpus:
    """Of up to ``most`` documents; some may have no used token, but not all."""
    lengths = draw(st.lists(st.integers(1, 9), min_size=1, max_size=most))
    total = sum(lengths)
    masked = draw(st.sets(st.integers(1, total), max_size=total - 1))
    return numbers(lengths, masked)


@given(corpora(), st.integers(1, 130))
def test_the_first_tokens_are_cut_off_exactly(made: Corpus, tokens: int) -> None:
    taken = made.take(tokens)
    assert taken.tokens == min(tokens, made.tokens)
    assert (taken.ids == made.ids[: len(taken.ids)]).all() and (taken.special == made.special[: len(taken.ids)]).all()
    assert (taken.starts[:-1] == made.starts[: len(taken)]).all()
    assert taken is made or not taken.special[-1]


@given(corpora(), st.floats(0.05, 0.95))
def test_two_parts_make_the_whole(made: Corpus, share: float) -> None:
    if not 0 < round(share * len(made)) < len(made):
        return
    first, second = made.split(share)
    assert len(first) == round(share * len(made)) and len(first) + len(second) == len(made)
    assert np.concatenate([first.ids, second.ids]).tolist() == made.ids.tolist()
    assert np.concatenate([first.starts, len(first.ids) + second.starts[1:]]).tolist() == made.starts.tolist()
    assert np.concatenate([first.special, second.special]).tolist() == made.special.tolist()


def test_a_digest_tells_ids_documents_and_masks_apart() -> None:
    base = numbers([3, 2])
    others = [numbers([2, 3]), numbers([3, 2], {4}), replace(base, ids=base.ids + 1), base.take(4)]
    assert len({made.digest for made in (base, *others)}) == 5
    assert replace(base, ids=base.ids.copy()).digest == base.digest


def test_a_corpus_survives_a_file_and_a_changed_file_is_refused(tmp_path: Path) -> None:
    made = corpus(bundled(), [LONG, OTHER], progress=False)
    made.save(tmp_path / "corpus.safetensors")
    again = Corpus.load(tmp_path / "corpus.safetensors")
    assert repr(again) == repr(made) and again.tokenizer == made.tokenizer
    assert [str(values.dtype) for values in (again.ids, again.starts, again.special)] == ["int32", "int64", "bool"]
    assert [file.name for file in tmp_path.iterdir()] == ["corpus.safetensors"]
    raw = bytearray((tmp_path / "corpus.safetensors").read_bytes())
    raw[raw.rindex(made.ids[1:3].tobytes())] ^= 1
    (tmp_path / "changed").write_bytes(raw)
    with pytest.raises(CircuitryError, match=f"was changed: its tokens are not those of corpus {made.digest}"):
        Corpus.load(tmp_path / "changed")
    (tmp_path / "broken").write_bytes(b"x" * 99)
    for name in ("nowhere", "broken"):
        with pytest.raises(CircuitryError, match=f"{name} holds no corpus"):
            Corpus.load(tmp_path / name)


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
@given(made=corpora(), start=st.integers(0, 30), each=st.integers(1, 4), world=st.integers(1, 5))
def test_from_any_batch_on_it_is_as_if_it_had_never_stopped(echo: Echo, made: Corpus, start: int, each: int, world: int) -> None:
    found = echo.stream(made, each=each, rank=world - 1, world=world)
    whole = taken(found, start + 6)
    assert taken(found, 6, start) == whole[start:]


@FIXTURE
@given(made=corpora(), each=st.integers(1, 4), world=st.integers(1, 9))
def test_processes_share_the_stream(echo: Echo, made: Corpus, each: int, world: int) -> None:
    whole = taken(echo.stream(made, each=each), 3 * world)
    shared = [taken(echo.stream(made, each=each, rank=rank, world=world), 3) for rank in range(world)]
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
    found = activations(bundled(), ["h[1]", "resid"], [LONG, OTHER] * 3, batch=8, buffer=16, context=12)
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
        ({"nodes": "logits"}, "logits are no activations"),
        ({"nodes": ["resid[0]", "resid[9]"]}, r"has no node resid\[9\]"),
        ({"nodes": "rezid"}, "did you mean 'resid'"),
        ({"nodes": "head.pattern"}, r"head\[0,0\].pattern has as many numbers at a token as there are tokens"),
        ({"nodes": []}, "no node"),
        ({"batch": 0}, "a batch of 0 tokens"),
        ({"batch": 9, "buffer": 8}, "does not come out of a buffer of 8"),
        ({"rank": 2, "world": 2}, "there is no process 2 of 2"),
        ({"texts": [LONG]}, "texts or a corpus, not both"),
        ({"corpus": replace(MADE, ids=MADE.ids + 60)}, "token 103 is none of model's 61"),
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
