"""EAP-IG's graph files, read and written; and the areas of MIB's circuit track."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pytest
import torch

import circuitry as ct
from circuitry import CircuitryError
from circuitry.discovery.eap_ig import read, write
from circuitry.discovery.eap_ig_names import edge_names, receiver_names, sender_names
from circuitry.discovery.mib import SIZES, areas
from circuitry.discovery.wiring import Edge
from circuitry.prompting.vocabulary import Vocabulary
from support import parity
from support.parity import DATA, KINDS, stored

SMALL = ct.graph("gpt2", layer=2, head=2)
SCORES = {edge: number / 7 for number, edge in enumerate(edge_names(SMALL).values(), start=-20)}
INSIDE = [edge_names(SMALL)[name] for name in ("input->a0.h1<v>", "a0.h1->m0", "m0->logits", "a1.h0->logits")]
FILES = {"gpt2": "gpt2_graph.json", "qwen2": "qwen2_graph.pt", "gpt_neox": "gpt_neox_graph.pt"}


def graph(kind: str) -> ct.Graph:
    cfg = stored(kind)["cfg"]
    sizes = {"layer": cfg["n_layers"], "head": cfg["n_heads"], "parallel": int(cfg["parallel_attn_mlp"])}
    return ct.graph({"qwen2": "llama"}.get(kind, kind), **sizes)


# --- edges and their names ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_the_edges_are_those_of_eap_ig(kind: str) -> None:
    assert sorted(edge_names(graph(kind))) == sorted(stored(kind)["edges"])


@pytest.mark.parametrize("parallel", (0, 1))
def test_an_edge_is_a_way_along_the_stream_alone(parallel: int) -> None:
    g = ct.graph("gpt_neox", layer=3, head=2, parallel=parallel)
    senders, receivers = sender_names(g).values(), receiver_names(g).values()
    along = {node for node in g.nx if node.family in ("resid", "resid_mid", "attn")}
    pairs = {(one, other) for one in senders for other in receivers if one != other}
    assert set(edge_names(g).values()) == {Edge(*pair) for pair in pairs if nx.has_path(g.nx.subgraph({*along, *pair}), *pair)}


def test_every_query_head_has_a_key_and_a_value_of_its_own() -> None:
    names = edge_names(graph("qwen2"))
    assert stored("qwen2")["config"]["num_key_value_heads"] == 2
    assert {f"input->a0.h{head}<{letter}>" for head in range(4) for letter in "kv"} <= names.keys()


@pytest.mark.parametrize("name", ("mamba", "jamba", "rwkv"))
def test_other_architectures_are_refused(name: str) -> None:
    with pytest.raises(CircuitryError, match=f"{name} has other blocks"):
        edge_names(ct.graph(name))


def test_heads_that_a_norm_comes_after_are_refused() -> None:
    with pytest.raises(CircuitryError, match="in gemma2 a norm comes between its heads and the stream"):
        edge_names(ct.graph("gemma2"))


# --- files that EAP-IG wrote -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_of_eap_ig_is_read(kind: str) -> None:
    found, names, data = read(DATA / FILES[kind], graph(kind)), edge_names(graph(kind)), stored(kind)
    wanted = dict(zip(data["edges"], data["scores"][data["ranking"]], strict=True))
    for name, edge in names.items():
        assert found.scores[edge] == pytest.approx(wanted[name], rel=1e-6), "EAP-IG stores single precision"
    (circuit,) = (c for c in data["circuits"] if (c["select"], c["absolute"], c["pruned"], c["size"]) == ("topn", True, True, 20))
    assert found.in_graph == {names[data["edges"][number]] for number in circuit["edges"]}


def old_json(data: Any) -> Any:
    nodes = {name: node["in_graph"] for name, node in data["nodes"].items()}
    return {**data, "nodes": nodes}


def old_tensors(data: Any) -> Any:
    return {
        "cfg": data["cfg"],
        "src_nodes": dict(zip(data["src_nodes"], data["nodes_in_graph"].tolist(), strict=True)),
        "dst_nodes": data["dst_nodes"],
        "edges": data["edges_scores"],
        "edges_in_graph": data["edges_in_graph"],
    }


def bare_tensors(data: Any) -> Any:
    kept = ("cfg", "edges_in_graph", "nodes_in_graph")
    return {"edges": data["edges_scores"], **{name: data[name] for name in kept}}


LAYOUTS = [("file.json", old_json), ("file.pt", old_tensors), ("file.pt", bare_tensors)]


def changed(file: Path, change: Callable[[Any], Any]) -> Path:
    """A file written by circuitry, with something changed in it."""
    write(file, SMALL, SCORES, INSIDE, d_model=8)
    if file.suffix == ".json":
        file.write_text(json.dumps(change(json.loads(file.read_text()))))
    else:
        torch.save(change(torch.load(file, weights_only=True)), file)
    return file


@pytest.mark.parametrize(("name", "layout"), LAYOUTS)
def test_the_layouts_of_2024_are_read(tmp_path: Path, name: str, layout: Callable[[Any], Any]) -> None:
    found = read(changed(tmp_path / name, layout), SMALL)
    assert found.scores == SCORES and found.in_graph == set(INSIDE)


@pytest.mark.parametrize("score", (None, ...))
def test_a_circuit_without_scores_is_read(tmp_path: Path, score: object) -> None:
    def without(data: Any) -> Any:
        for entry in data["edges"].values():
            entry.update({"score": None}) if score is None else entry.pop("score")
        return data

    found = read(changed(tmp_path / "file.json", without), SMALL)
    assert found.scores == {} and found.in_graph == set(INSIDE)


# --- files that circuitry writes ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ("file.json", "file.pt"))
def test_what_is_written_is_read_back(tmp_path: Path, name: str) -> None:
    write(tmp_path / name, SMALL, SCORES, INSIDE, d_model=8)
    found = read(tmp_path / name, SMALL)
    assert found.scores == SCORES and found.in_graph == set(INSIDE)


def test_the_json_is_laid_out_as_eap_ig_does_it(tmp_path: Path) -> None:
    theirs = json.loads((DATA / FILES["gpt2"]).read_text())
    g = graph("gpt2")
    found = read(DATA / FILES["gpt2"], g)
    write(tmp_path / "file.json", g, found.scores, found.in_graph, d_model=16)
    assert json.loads((tmp_path / "file.json").read_text()) == theirs


@pytest.mark.parametrize("kind", ("qwen2", "gpt_neox"))
def test_the_tensors_are_laid_out_as_eap_ig_does_it(tmp_path: Path, kind: str) -> None:
    theirs = torch.load(DATA / FILES[kind], weights_only=True)
    found = read(DATA / FILES[kind], graph(kind))
    write(tmp_path / "file.pt", graph(kind), found.scores, found.in_graph, d_model=theirs["cfg"]["d_model"])
    ours = torch.load(tmp_path / "file.pt", weights_only=True)
    assert ours.keys() == theirs.keys()
    for part, value in theirs.items():
        same = torch.equal(ours[part], value.to(ours[part].dtype)) if isinstance(value, torch.Tensor) else ours[part] == value
        assert same, part


def test_a_node_is_in_the_graph_if_edges_enter_and_leave_it(tmp_path: Path) -> None:
    write(tmp_path / "file.json", SMALL, SCORES, INSIDE, d_model=8)
    nodes = json.loads((tmp_path / "file.json").read_text())["nodes"]
    # Nothing enters a1.h0.
    assert {name for name, node in nodes.items() if node["in_graph"]} == {"input", "a0.h1", "m0", "logits"}


def first(scores: dict[Edge, float], value: float) -> dict[Edge, float]:
    return {**scores, next(iter(scores)): value}


BACKWARDS = Edge(ct.Node("mlp", (1,)), ct.Node("mlp", (0,)))
WRITTEN = [
    ({"scores": {**SCORES, BACKWARDS: 1.0}}, r"does not have 'mlp\[1\] -> mlp\[0\]'"),
    ({"scores": dict(list(SCORES.items())[2:])}, r"missing: 'input->a0.h0<q>' \(and 1 other\)"),
    ({"in_graph": [BACKWARDS]}, r"does not have 'mlp\[1\] -> mlp\[0\]'"),
    ({"scores": first(SCORES, float("nan"))}, "expected a finite score at 'input->a0.h0<q>', got nan"),
    ({"d_model": 0}, "d_model must be at least 1"),
]


@pytest.mark.parametrize(("given", "says"), WRITTEN)
def test_what_does_not_fit_the_model_is_not_written(tmp_path: Path, given: dict[str, Any], says: str) -> None:
    file = tmp_path / "file.json"
    with pytest.raises(CircuitryError, match=says):
        write(file, SMALL, **{"scores": SCORES, "d_model": 8, **given})
    assert not file.exists()


# --- files that are refused --------------------------------------------------------------------------------------------------


def put(*keys: str, value: Any) -> Callable[[Any], Any]:
    """Set one value of a file, or remove it with ``...``."""

    def change(data: Any) -> Any:
        part = data
        for key in keys[:-1]:
            part = part[key]
        if value is ...:
            del part[keys[-1]]
        else:
            part[keys[-1]] = value
        return data

    return change


def cell(part: str, row: int, column: int, value: float) -> Callable[[Any], Any]:
    def change(data: Any) -> Any:
        data[part][row, column] = value
        return data

    return change


EDGE = {"score": 1.0, "in_graph": False}
JSON_REFUSED = [
    (put("cfg", "n_layers", value=3), "it is of another model: expected n_layers 2, got 3"),
    (put("cfg", "parallel_attn_mlp", value=True), "expected parallel_attn_mlp False, got True"),
    (put("cfg", "n_heads", value=...), "expected n_heads 2, got None"),
    (put("edges", value=...), "'edges' is missing"),
    (put("cfg", value=[]), "'cfg' is missing or of the wrong kind"),
    (lambda data: [], "this is not a graph of EAP-IG"),
    (put("edges", "m1->m0", value=EDGE), "this model does not have 'm1->m0'"),
    (put("edges", "input->a0.h2<q>", value=EDGE), "does not have 'input->a0.h2<q>'"),
    (put("edges", "m0->a1.h0", value=EDGE), "does not have 'm0->a1.h0'"),
    (put("edges", "m0->m1", value=...), "edges of this model are missing: 'm0->m1'"),
    (put("edges", "m0->m1", "score", value=...), "some edges have a score and 'm0->m1' has none"),
    (put("edges", "m0->m1", "score", value=float("inf")), "expected a finite score at 'm0->m1', got inf"),
    (put("edges", "m0->m1", "score", value="1"), "expected a number 'score'"),
    (put("edges", "m0->m1", "score", value=True), "expected a number 'score'"),
    (put("edges", "m0->m1", "in_graph", value=1), "expected a number 'score' and true or false for 'in_graph' at 'm0->m1'"),
    (put("edges", "m0->m1", value=0.5), "at 'm0->m1', got 0.5"),
    (put("nodes", "m2", value={"in_graph": True}), "does not have 'm2'"),
    (put("nodes", "m1", "score", value=0.5), "it has scores of nodes or neurons"),
]
PT_REFUSED = [
    (put("cfg", "n_heads", value=3), "expected n_heads 2, got 3"),
    (put("edges_scores", value=...), "'edges' is missing"),
    (put("edges_scores", value=torch.zeros(2, 2)), r"expected two matrices of 7 x 15, got \(2, 2\) and \(7, 15\)"),
    (put("nodes_scores", value=torch.zeros(7)), "it has scores of nodes or neurons"),
    (put("src_nodes", value=["input"]), "'src_nodes' differs"),
    (put("dst_nodes", value=["logits"]), "'dst_nodes' differs"),
    (cell("edges_scores", 6, 0, 0.5), "does not have 'm1->a0.h0<q>'"),
    (cell("edges_in_graph", 6, 0, True), "does not have 'm1->a0.h0<q>'"),
    (cell("edges_scores", 0, 0, float("nan")), "expected a finite score at 'input->a0.h0<q>', got nan"),
    (lambda data: torch.zeros(2), "this is not a graph of EAP-IG"),
]
REFUSED = [("file.json", *case) for case in JSON_REFUSED] + [("file.pt", *case) for case in PT_REFUSED]


@pytest.mark.parametrize(("name", "change", "says"), REFUSED)
def test_a_file_that_does_not_fit_is_refused(tmp_path: Path, name: str, change: Callable[[Any], Any], says: str) -> None:
    with pytest.raises(CircuitryError, match=rf"{name} cannot be read: .*{says}"):
        read(changed(tmp_path / name, change), SMALL)


class Harmful:
    def __reduce__(self) -> Any:
        return print, ("this code was run",)


def test_no_code_in_a_file_is_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file.pt").write_bytes(pickle.dumps(Harmful(), protocol=2))
    torch.save({"cfg": Harmful()}, tmp_path / "zip.pt")
    for name in ("file.pt", "zip.pt"):
        with pytest.raises(CircuitryError, match="none of its code was run"):
            read(tmp_path / name, SMALL)
    assert capsys.readouterr().out == ""


def test_a_repeated_edge_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "file.json", SMALL, SCORES, d_model=8)
    text = (tmp_path / "file.json").read_text()
    (tmp_path / "file.json").write_text(text.replace('"m0->m1"', '"m0->logits"'))
    with pytest.raises(CircuitryError, match="'m0->logits' is given twice"):
        read(tmp_path / "file.json", SMALL)


@pytest.mark.parametrize("name", ("file.json", "file.pt"))
def test_a_damaged_or_missing_file_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(CircuitryError, match=f"{name} cannot be read: .*No such file"):
        read(tmp_path / name, SMALL)
    write(tmp_path / name, SMALL, SCORES, d_model=8)
    (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:500])
    with pytest.raises(CircuitryError, match=f"{name} cannot be read: "):
        read(tmp_path / name, SMALL)


@pytest.mark.parametrize("act", (lambda file: read(file, SMALL), lambda file: write(file, SMALL, SCORES, d_model=8)))
def test_another_ending_is_refused(tmp_path: Path, act: Callable[[Path], object]) -> None:
    with pytest.raises(CircuitryError, match=r"ends with .json or .pt, got 'file.csv'"):
        act(tmp_path / "file.csv")


# --- areas -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_the_areas_are_those_of_the_track(kind: str) -> None:
    assert tuple(stored(kind)["sizes"]) == SIZES
    for case in stored(kind)["areas"]:
        assert areas(SIZES, case["faithfulness"], case["scale"]) == pytest.approx((case["cpr"], case["cmd"]), abs=1e-12)


def test_areas_by_hand() -> None:
    # On a logarithmic axis, the sizes e^-2 and e^-1 and 1 are at equal distances.
    assert areas(np.exp([-2, -1, 0]), [0, 2, 1], "log") == pytest.approx((1 + 1.5, 1 + 0.5))
    assert areas([0, 0.5, 1], [0, 2, 1]) == pytest.approx((0.5 + 0.75, 0.5 + 0.25))


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (([0.5, 1], [1, 1], "log2"), "expected scale 'linear' or 'log', got 'log2'"),
        (([0.5, 1], [1]), r"one faithfulness for each of at least two sizes, got \(1,\) for \(2,\)"),
        (([1], [1]), "at least two sizes"),
        (([0.5, 0.5], [1, 1]), "expected rising sizes"),
        (([1, 100], [1, 1]), "at most 1"),
        (([0, 1], [1, 1], "log"), "above 0 and at most 1"),
        (([-0.5, 1], [1, 1]), "at least 0 and at most 1"),
        (([float("nan"), 1], [1, 1]), "expected rising sizes"),
        (([0.5, 1], [float("nan"), 1]), "expected finite values of faithfulness"),
    ],
)
def test_areas_that_would_mean_nothing_are_refused(given: Any, says: str) -> None:
    with pytest.raises(CircuitryError, match=says):
        areas(*given)


# --- the models of the stored values ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_the_models_are_rebuilt(kind: str) -> None:
    model = parity.stock(kind)
    with torch.no_grad():
        list(model.parameters())[-1].mul_(1 + 1e-6)
    with pytest.raises(AssertionError):
        parity.check(model, kind)


@pytest.mark.parametrize("kind", KINDS)
def test_the_stored_logit_differences_are_those_of_the_models(kind: str) -> None:
    model, prompts, rows = parity.stock(kind), parity.prompts(kind), np.arange(8)
    assert len(parity.task(kind).prompts(Vocabulary.of(None, 50))) == len(prompts) == 8
    for name in ("clean", "corrupted"):
        with torch.no_grad():
            logits = model(torch.tensor(getattr(prompts, name))).logits[:, -1].numpy()
        difference = logits[rows, prompts.answer] - logits[rows, prompts.foil]
        np.testing.assert_allclose(difference, stored(kind)[name]["logit_difference"], rtol=0, atol=1e-9)
