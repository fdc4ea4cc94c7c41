"""Faithfulness, completeness and minimality: of circuits that are known, and by definition on models where none is."""

from __future__ import annotations

import functools
import itertools
import re
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.patches import Rectangle

import circuitry as ct
from circuitry import CircuitryError
from circuitry.evidence.scores import Scores, score
from circuitry.evidence.scores_figure import draw
from circuitry.executing.reference.follow import follow
from support import agreement, known
from support.agreement import model

TASK = known.task(examples=12)
TINY = ct.task("induction", distance=5, examples=4, prefix=2)
OPTIONS: dict[str, Any] = {"executor": ct.executor(memory="64MiB")}

# What a head does: (block read, lag or None, block written). Only 0.0, which copies B one token on, and 1.0, which takes it from
# there to the logits, carry anything there; what 0.1 and 1.1 write nobody reads.
ONE_WAY = ([(0, 1, 1), (0, 1, 0)], [(1, None, 2), (0, None, 0)])
CIRCUIT = {"mover": ["head[1,0]"], "copier": ["head[0,0]"]}


@functools.cache
def one_way() -> Any:
    return known.llama(*ONE_WAY)


@functools.cache
def scored(**options: Any) -> Scores:
    return score(one_way(), TASK, CIRCUIT, **{"random": 3, "subsets": 3, **OPTIONS, **options})


# --- a known circuit -------------------------------------------------------------------------------------------------------


def test_the_known_circuit_is_all_and_only_what_matters() -> None:
    found = scored()
    assert found.faithfulness == pytest.approx(1, abs=1e-3) and found.interval == pytest.approx((1, 1), abs=1e-3)
    assert found.completeness["gap"].max() == pytest.approx(0, abs=1e-3)
    assert found.minimality["change"].min() == pytest.approx(1, abs=1e-3), "without either head nothing arrives"
    assert max(found.outsiders) < 1e-3 and len(found.outsiders) == 2
    assert max(found.random) < 1e-3 and len(found.random) == 3, "no other pair of heads carries anything"


@pytest.mark.parametrize("missing", ("head[0,0]", "head[1,0]"))
def test_a_circuit_that_misses_a_head_is_not_faithful(missing: str) -> None:
    (kept,) = {"head[0,0]", "head[1,0]"} - {missing}
    found = score(one_way(), TASK, {"half": [kept]}, random=2, subsets=2, **OPTIONS)
    assert found.faithfulness == pytest.approx(0, abs=1e-3)


def test_a_head_that_does_nothing_is_not_needed() -> None:
    roles = {**CIRCUIT, "idle": ["head[1,1]"]}
    found = score(one_way(), TASK, roles, random=4, subsets=2, **OPTIONS)
    change = found.minimality.set_index("node")["change"]
    assert change["head[1,1]"] < 1e-3 and change["head[1,0]"] == pytest.approx(1, abs=1e-3)
    assert found.faithfulness == pytest.approx(1, abs=1e-3)


TWINS = ([(0, None, 2), (0, None, 2), (0, 1, 0)], [(0, 1, 0), (0, 1, 0), (0, 1, 0)])


def test_two_heads_that_do_the_same_are_each_half_of_it() -> None:
    """One of them alone is half as faithful, and incomplete: without it the circuit has nothing, the model a half."""
    twins = known.llama(*TWINS)
    both = score(twins, TASK, {"copier": ["head[0,0]", "head[0,1]"]}, random=4, subsets=4, **OPTIONS)
    assert both.faithfulness == pytest.approx(1, abs=1e-3) and both.completeness["gap"].max() < 1e-3
    np.testing.assert_allclose(both.minimality[["from the circuit", "without its role"]], 0.5, atol=1e-3)
    halves = both.completeness[both.completeness["without"].str.startswith("half")]
    np.testing.assert_allclose(halves["circuit"], 0.5, atol=1e-3)
    one = score(twins, TASK, {"copier": ["head[0,0]"]}, random=4, subsets=4, **OPTIONS)
    assert one.faithfulness == pytest.approx(0.5, abs=1e-3)
    assert one.completeness["without"].tolist() == ["all copier"], "a single node has no halves"
    assert one.completeness["gap"].tolist() == pytest.approx([0.5], abs=1e-3)


def test_states_are_scored_like_heads() -> None:
    """Layer 1 takes nothing up and layers 0 and 2 weigh as their taps."""
    taps = [known.lags(0, 2), known.lags(0, 0), known.lags(0, 0, 1)]
    weight = known.written(*taps).max(axis=(1, 2))
    found = score(known.mamba(*taps), TASK, {"state": ["ssm_state[0]"]}, random=2, subsets=1, **OPTIONS)
    assert found.faithfulness == pytest.approx(weight[0] / weight.sum(), abs=1e-3)


# --- by definition ---------------------------------------------------------------------------------------------------------

NODES = {"gpt2": [f"head[{l},{h}]" for l in range(3) for h in range(2)], "mamba": [f"ssm_state[{l}]" for l in range(3)]}
ROLES: dict[str, dict[str, list[str]]] = {
    "gpt2": {"first": ["head[0,0]", "head[1,1]"], "last": ["head[2,0]"]},
    "mamba": {"early": ["ssm_state[0]"], "late": ["ssm_state[2]"]},
}


@functools.cache
def tiny_scores(kind: str) -> Scores:
    return score(model(kind), TINY, ROLES[kind], random=3, subsets=3, **OPTIONS)


def replaced(kind: str, nodes: set[str]) -> Any:
    """Logit difference [example] with these nodes replaced at every position, by the reference engine, all at once."""
    prompts = TINY.prompts(model(kind).vocabulary)
    clean, corrupted = torch.from_numpy(prompts.clean), torch.from_numpy(prompts.corrupted)
    path = ct.parse(f"({', '.join(sorted(nodes))}) -> logits") if nodes else ct.parse("embed -> logits")
    base, _, patched = follow(model(kind).hf, path, clean, clean if not nodes else corrupted, agreement.where(prompts))
    logits, rows = patched if nodes else base, torch.arange(len(prompts))
    return (logits[rows, torch.from_numpy(prompts.answer)] - logits[rows, torch.from_numpy(prompts.foil)]).numpy()


def by_brute_force(kind: str, kept: set[str]) -> float:
    """f of the nodes kept: the metric less that of the empty set, as a share of the whole model's less that of the empty set."""
    m = {name: replaced(kind, set(NODES[kind]) - nodes).mean() for name, nodes in (("kept", kept), ("none", set()))}
    whole = replaced(kind, set()).mean()
    return float((m["kept"] - m["none"]) / (whole - m["none"]))


@pytest.mark.parametrize("kind", NODES)
def test_scores_are_what_the_definitions_say(kind: str) -> None:
    f, found = functools.partial(by_brute_force, kind), tiny_scores(kind)
    inside, every = set(itertools.chain(*ROLES[kind].values())), set(NODES[kind])
    assert found.faithfulness == pytest.approx(f(inside), abs=1e-9)
    for role, nodes in ROLES[kind].items():
        row = found.completeness.set_index("without").loc[f"all {role}"]
        circuit, whole = f(inside - set(nodes)), f(every - set(nodes))
        assert list(row[["circuit", "model", "gap"]]) == pytest.approx([circuit, whole, abs(circuit - whole)], abs=1e-9)
        for node in nodes:
            row = found.minimality.set_index("node").loc[node]
            all_of_it = abs(f(inside) - f(inside - {node}))
            alone = abs(f(inside - set(nodes) | {node}) - f(inside - set(nodes)))
            assert row["role"] == role
            assert list(row[["from the circuit", "without its role"]]) == pytest.approx([all_of_it, alone], abs=1e-9)
            assert row["change"] == max(row["from the circuit"], row["without its role"])
    others = [abs(f(inside | {node}) - f(inside)) for node in sorted(every - inside)]
    assert sorted(found.outsiders) == pytest.approx(
        sorted(others)[: len(found.outsiders)] if len(others) > 3 else sorted(others), abs=1e-9
    )
    sets = {frozenset(one): f(set(one)) for one in itertools.combinations(NODES[kind], len(inside)) if set(one) != inside}
    assert len(found.random) == min(3, len(sets)) or kind == "mamba"
    for value in found.random:
        assert min(abs(value - one) for one in sets.values()) < 1e-9, "a random set is another set of the same size"


@pytest.mark.parametrize("kind", NODES)
def test_every_set_was_measured_as_a_path_of_its_own(kind: str) -> None:
    found, every = tiny_scores(kind), set(NODES[kind])
    inside = set(itertools.chain(*ROLES[kind].values()))
    role, nodes = next(iter(ROLES[kind].items()))
    removed = {"nothing kept": every, "circuit": every - inside, f"model without all {role}": set(nodes)}
    removed |= {"": every - inside | {nodes[0]}}  # measured once, perhaps under the label of a role or a random half
    labels = found.table.frame["set"].unique()
    for label, gone in removed.items():
        options: dict[str, Any] = {"metric": "logit_difference", "baseline": 0, "lint": False, **OPTIONS}
        alone = ct.patch(model(kind), TINY, f"({', '.join(sorted(gone))}) -> logits", **options)
        numbers = [found.table.select("set", one).frame for one in ([label] if label else labels)]
        same = [np.allclose(rows["effect"], alone.frame["effect"], rtol=0, atol=1e-10) for rows in numbers]
        assert sum(same) == 1, "each set is measured, and once"
        np.testing.assert_allclose(numbers[0][["base", "source"]], alone.frame[["base", "source"]], atol=1e-10)


def test_the_interval_contains_the_value_and_is_that_of_resampled_examples() -> None:
    for found in (tiny_scores("gpt2"), tiny_scores("mamba")):
        assert found.interval[0] <= found.faithfulness <= found.interval[1]
    frame = tiny_scores("gpt2").table
    lost, gone = (frame.select("set", label).frame["effect"].to_numpy() for label in ("circuit", "nothing kept"))
    possible = [1 - lost[list(k)].mean() / gone[list(k)].mean() for k in itertools.product(range(len(lost)), repeat=len(lost))]
    for end, level in zip(tiny_scores("gpt2").interval, (0.025, 0.975), strict=True):
        assert np.quantile(possible, level - 0.015) <= end <= np.quantile(possible, level + 0.015)


def test_all_nodes_are_a_perfect_circuit_with_nothing_outside() -> None:
    found = score(model("mamba"), TINY, {"all": NODES["mamba"]}, random=3, subsets=2, **OPTIONS)
    assert (found.faithfulness, found.interval, found.random, found.outsiders) == (1.0, (1.0, 1.0), [], [])
    assert (found.completeness["gap"] == 0).all()
    assert "no random set was measured" in found.text()
    assert len(draw(found).axes) == 3


def test_options_are_those_of_patch() -> None:
    zeroed = score(model("gpt2"), TINY, ROLES["gpt2"], metric="logit", random=0, subsets=0, intervention="zero", **OPTIONS)
    gone = "(head[0,1], head[1,0], head[2,1]) -> logits"
    every = f"({', '.join(NODES['gpt2'])}) -> logits"
    means = [
        float(ct.patch(model("gpt2"), TINY, path, intervention="zero", baseline=0, lint=False, **OPTIONS).mean().iloc[0])
        for path in (gone, every)
    ]
    assert zeroed.faithfulness == pytest.approx(1 - means[0] / means[1], abs=1e-9)
    assert zeroed.random == [] and zeroed.outsiders == []


def test_the_same_seed_gives_the_same_scores() -> None:
    one, again, other = (
        score(model("gpt2"), TINY, {"a": ["head[0,0]"]}, random=2, subsets=2, seed=seed, **OPTIONS) for seed in (0, 0, 3)
    )
    assert one.text() == again.text() and one.table.frame.equals(again.table.frame)
    assert not one.table.frame.equals(other.table.frame)


# --- names -----------------------------------------------------------------------------------------------------------------


def test_a_short_name_is_the_node_itself() -> None:
    short = score(model("mamba"), TINY, {"early": ["h[0]"], "late": ["h[2]"]}, random=3, subsets=3, **OPTIONS)
    long = tiny_scores("mamba")
    assert short.faithfulness == long.faithfulness and short.roles == long.roles == ROLES["mamba"]


def test_ports_are_nodes_of_their_own() -> None:
    """Of all values, keep those of two heads; queries, keys and patterns are recomputed."""
    found = score(model("gpt2"), TINY, {"a": ["head[0,1].v", "head[2,0].v"]}, random=2, subsets=0, **OPTIONS)
    gone = {"head[0,0].v", "head[1,0].v", "head[1,1].v", "head[2,1].v"}
    effects = [
        ct.patch(
            model("gpt2"),
            TINY,
            f"({', '.join(sorted(nodes))}) -> logits",
            metric="logit_difference",
            baseline=0,
            lint=False,
            **OPTIONS,
        )
        for nodes in (gone, gone | {"head[0,1].v", "head[2,0].v"})
    ]
    assert found.faithfulness == pytest.approx(1 - float(effects[0].mean().iloc[0] / effects[1].mean().iloc[0]), abs=1e-9)


def test_a_circuit_may_be_a_plain_list() -> None:
    nodes = list(itertools.chain(*ROLES["gpt2"].values()))
    listed = score(model("gpt2"), TINY, nodes, random=2, subsets=2, **OPTIONS)
    assert listed.roles == {"node": nodes} and listed.faithfulness == tiny_scores("gpt2").faithfulness


@pytest.mark.parametrize("circuit", [["head[0,0]", "head[1,0]"], {"a": ["head[0,0]"], "b": ["head[1,0]", "head[2,0]"]}])
def test_no_subset_is_counted_twice(circuit: Any) -> None:
    """Two nodes have two halves, however many are asked for; a half that is a role is none."""
    found = score(model("gpt2"), TINY, circuit, random=0, subsets=12, **OPTIONS)
    halves = [label for label in found.completeness["without"] if label.startswith("half")]
    assert len(halves) == 2 and len(found.completeness) == len(found.roles) + 2
    rows = found.completeness[["circuit", "model"]].round(12)
    assert len(rows.drop_duplicates()) == len(rows)


@pytest.mark.parametrize(
    ("circuit", "message"),
    [
        ({}, "an empty circuit has no scores; name at least one node"),
        ({"mover": []}, "an empty circuit has no scores; name at least one node"),
        ({"a": ["head[0,0]"], "b": ["head[0,0]"]}, "head[0,0] is in the circuit twice; give it one role"),
        ({"a": ["head[0,0]", "head[0,0].z"]}, "head[0,0] is in the circuit twice; give it one role"),
        ({"a": ["head[0,0]", "mlp[1]"]}, "expected nodes of one kind, got 2 kinds; score those of one kind, such as heads"),
        ({"a": ["head[0,0]", "head[0,1].q"]}, "expected nodes of one kind, got 2 kinds; score those of one kind, such as heads"),
        (
            {"a": ["head[7,0]"]},
            "<gpt2 graph: layer=3, head=2, parallel=0; 45 nodes, 65 edges> has no node head[7,0]; there are head[0,0] to head[2,1]",
        ),
        ({"a": ["haed[0,0]"]}, "gpt2 has no node 'haed'; did you mean 'head'?"),
    ],
)
def test_what_is_no_circuit_is_refused(circuit: dict[str, list[str]], message: str) -> None:
    with pytest.raises(CircuitryError) as found:
        score(model("gpt2"), TINY, circuit, **OPTIONS)
    assert str(found.value) == message


def test_an_empty_role_is_left_out() -> None:
    found = score(model("gpt2"), TINY, {**ROLES["gpt2"], "none": []}, random=0, subsets=0, **OPTIONS)
    assert list(found.roles) == ["first", "last"]


def test_the_python_in_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (Path(__file__).parents[2] / "docs" / "scores.md").read_text()
    (block,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    exec(compile(block.replace("examples=64", "distance=8, examples=4"), "docs/scores.md", "exec"), {})
    assert (tmp_path / "scores.png").exists()


# --- words and picture -----------------------------------------------------------------------------------------------------


def test_the_table_says_what_it_is() -> None:
    provenance = tiny_scores("gpt2").table.provenance
    assert (provenance["path"], provenance["paths"], provenance["title"]) == (
        "(every node outside the set) -> logits",
        {},
        "What is lost when all but a set of nodes is replaced (normalized: 1 - f)",
    )
    labels = list(dict.fromkeys(tiny_scores("gpt2").table.frame["set"]))
    assert labels[:2] == ["nothing kept", "circuit"] and len(labels) == len(set(labels))
    assert {"circuit without all first", "model without all last"} <= set(labels)


def made(**changes: Any) -> Scores:
    completeness = pd.DataFrame({"without": ["all a", "half 1"], "circuit": [0.2, 0.5], "model": [0.3, 0.9], "gap": [0.1, 0.4]})
    minimality = pd.DataFrame(
        {
            "node": ["head[0,0]", "head[0,1]"],
            "role": "a",
            "from the circuit": 0.1,
            "without its role": [0.3, 0.05],
            "change": [0.3, 0.1],
        }
    )
    parts = {"random": [0.1, 0.3], "outsiders": [0.2, 0.0], "table": tiny_scores("gpt2").table, **changes}
    roles = {"a": ["head[0,0]", "head[0,1]"]}
    return Scores(roles, 0.8, (0.7, 0.9), completeness=completeness, minimality=minimality, **parts)


def test_the_text_counts_what_is_needed() -> None:
    assert made().text().splitlines() == [
        "faithfulness 0.80 (0.70 to 0.90): the circuit alone, 2 nodes",
        "random sets of that size: 0.20 on average, 0.30 at most, of 2",
        "completeness: without a subset, circuit and model differ by 0.25 on average and 0.40 at most, over 2 subsets",
        "minimality: 1 of 2 nodes change the faithfulness by more than any of 2 nodes from outside (the least by 0.10, head[0,1])",
    ]
    assert made(random=[]).text().splitlines()[1] == "no random set was measured"
    alone = "minimality: each of 2 nodes was measured, but no node from outside (the least by 0.10, head[0,1])"
    assert made(outsiders=[]).text().splitlines()[3] == alone


def test_scores_print_their_text() -> None:
    said = made().caption()
    assert repr(made()) == str(made()) == f"{made().text()}\n({said})" and "direction noising, intervention resample; " in said


def test_the_picture_shows_every_number_and_hides_none() -> None:
    figure = draw(made())
    figure.draw_without_rendering()
    first, second, third = figure.axes
    assert [ax.get_title() for ax in figure.axes] == ["faithfulness", "completeness", "minimality"]
    assert sum(bar.get_bbox().height for bar in cast(list[Rectangle], first.patches[:12])) == 2, "the random sets"
    points = {c.get_label(): np.asarray(c.get_offsets()).tolist() for c in second.collections}
    assert points == {"a role removed": [[0.3, 0.2]], "a random half removed": [[0.9, 0.5]]}
    assert {label.get_text(): bar.get_width() for label, bar in zip(third.get_yticklabels(), third.patches, strict=True)} == {  # type: ignore[attr-defined]
        "head[0,1]": 0.1,
        "head[0,0]": 0.3,
    }
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [
        "2 random sets",
        "the circuit, with its interval",
        "a role removed",
        "a random half removed",
        "the most that a node from outside changes",
    ]
    boxes = [*(ax.get_tightbbox() for ax in figure.axes), legend.get_window_extent()]
    assert not any(one.overlaps(other) for one, other in itertools.combinations(filter(None, boxes), 2)), "nothing is hidden"
