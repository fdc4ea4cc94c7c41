"""The random-node baseline: what is drawn, what stays, and that each draw is a path like any other."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path as FilePath
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import circuitry as ct
from circuitry import Path, PathError
from circuitry.executing.suffix.executor import Suffix
from circuitry.patching.baseline import Once, once, random_cells
from circuitry.patching.experiment import compile_path
from circuitry.planning import CellPlan, Plan, cell_plan, check_effects
from circuitry.prompting import Prompts
from support.agreement import model

INDUCTION = ct.task("induction", distance=5, examples=3, prefix=2)
IOI = ct.task("ioi", examples=5, order="both")
PATHS = {
    "gpt2": (
        "head[{layer},{head}] @ B -> logits",
        "head[{layer},{head}].v @ B+1 -> logits freezing mlp",
        "(head[0,0].q @ END, head[0,0].k @ B, head[1,1].k) -> logits",
        "(mlp[{layer}] @ B, resid[{layer}] @ A) -> logits",
        "(head[0,0] @ B, head[0,1] @ B) -> head[2,0].k -> logits freezing head[1] except head[1,1]",
        "mlp[{layer}] -> logits directly",
        "head[{layer},0] @ {position} -> mlp[{target}]",
        "mlp[{layer}] @ B -> head[2,{head}].k freezing mlp except mlp[{layer}]",
    ),
    "mamba": (
        "ssm_state[{layer}] @ B+1 -> logits freezing ssm_state",
        "c[{layer}] @ {position} -> logits freezing h except h[{layer}]",
        "conv_tap[{layer},{lag}] @ B+1 -> logits",
        "(ssm_in[1].value @ B, ssm_in[1].B @ B, ssm_state[2].read @ END) -> logits",
        "conv_in[1] @ B -> ssm_in[1] @ B+1 -> logits freezing ssm_state except ssm_state[1]",
        "gate[2] @ END -> logits",
    ),
}
CASES = [(kind, path) for kind, paths in PATHS.items() for path in paths]


@functools.cache
def compiled(kind: str, path: str, task: str = "induction") -> tuple[Plan, Prompts]:
    return compile_path(model(kind), INDUCTION if task == "induction" else IOI, path)


def drawn(kind: str, path: str, count: int = 6, seed: int = 0) -> tuple[Plan, Prompts, tuple[CellPlan, ...]]:
    made, prompts = compiled(kind, path)
    return made, prompts, random_cells(made, prompts, count, seed)


def like(cell: CellPlan, plan: Plan) -> Path:
    """The cell that a draw was made from; a draw keeps the values of its axes."""
    return next(one.path for one in plan.cells if one.values == cell.values)


@given(st.sampled_from(CASES), st.integers(0, 2**32 - 1))
@settings(max_examples=60)
def test_a_draw_is_a_path_that_can_have_an_effect(case: tuple[str, str], seed: int) -> None:
    made, prompts, cells = drawn(*case, seed=seed)
    for cell in cells:
        check_effects(cell.path, made.graph, prompts.where, prompts.length, prompts.differing)
        assert {write.node for write in cell.passes[0].writes} <= set(made.graph.nx)


@given(st.sampled_from(CASES), st.integers(0, 2**32 - 1))
@settings(max_examples=60)
def test_a_draw_keeps_everything_but_where_its_sources_are(case: tuple[str, str], seed: int) -> None:
    """Same kinds of nodes and ports, no more of them, the same targets and frozen sets; and what runs is what the path says."""
    made, _, cells = drawn(*case, seed=seed)
    for cell in cells:
        path, before = cell.path, like(cell, made)
        kinds, kinds_before = ([(s.node.family, s.node.port, s.at is None) for s in p.sources] for p in (path, before))
        assert set(kinds) == set(kinds_before) and len(set(path.sources)) == len(kinds) <= len(kinds_before)
        for leg, leg_before in zip(path.legs, before.legs, strict=True):
            assert replace(leg, exempt=()) == replace(leg_before, exempt=())
        assert cell.passes == cell_plan(ct.planning.Cell(cell.values, path), made.graph, made.intervention).passes


@given(st.sampled_from(CASES), st.integers(0, 2**32 - 1))
@settings(max_examples=60)
def test_a_position_lies_between_the_first_changed_token_and_end(case: tuple[str, str], seed: int) -> None:
    made, prompts, cells = drawn(*case, seed=seed)
    for cell in cells:
        before = {site.at for site in like(cell, made).sources}
        for site in cell.path.sources:
            if site.at not in before:
                assert site.at is not None and site.at.base == "END" and site.at.offset <= 0
                at = prompts.where["END"] + site.at.offset
                assert (prompts.where["B"] <= at).all()


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=20)
def test_positions_fit_prompts_of_every_length(seed: int) -> None:
    """The corruption "all" changes IO and both S, whichever comes first."""
    made, prompts = compiled("gpt2", "head[{layer},{head}] @ S2 -> logits", "ioi")
    assert len(set(prompts.where["END"] - prompts.where["S1"])) > 1
    first = np.minimum(prompts.where["IO"], prompts.where["S1"])
    for cell in random_cells(made, prompts, 6, seed):
        (site,) = cell.path.sources
        assert site.at is not None
        at = prompts.where[str(site.at.base)] + site.at.offset
        assert (first <= at).all() and (at <= prompts.where["END"]).all()


@given(st.sampled_from(CASES), st.integers(0, 2**32 - 1))
@settings(max_examples=30)
def test_the_same_seed_draws_the_same_nodes(case: tuple[str, str], seed: int) -> None:
    made, prompts, cells = drawn(*case, seed=seed)
    assert cells == random_cells(made, prompts, 6, seed) and cells[:2] == random_cells(made, prompts, 2, seed)[:2]
    assume(len({cell.path for cell in random_cells(made, prompts, 12, seed)}) > 4)
    assert any(random_cells(made, prompts, 12, seed) != random_cells(made, prompts, 12, seed + k) for k in range(1, 4))


def test_draws_are_the_same_in_every_process() -> None:
    """Sets of positions come in another order wherever text is hashed with another seed."""
    code = "import test_baseline as t; print([str(cell.path) for cell in t.drawn(*t.CASES[2], 4)[2]])"
    folders = os.pathsep.join([str(FilePath(ct.__file__).parents[1]), *map(str, list(FilePath(__file__).parents)[:2])])
    # Without the variable this process hashes with a seed of its own.
    seed = "1" if os.environ.get("PYTHONHASHSEED") == "0" else "0"
    env = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": folders}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env)
    here = [str(cell.path) for cell in drawn(*CASES[2], 4)[2]]
    assert done.stdout.strip() == str(here) and "@ END-" in str(here)


@pytest.mark.parametrize(("kind", "path"), CASES)
def test_as_many_are_drawn_as_were_asked_for(kind: str, path: str) -> None:
    assert len(drawn(kind, path, 16)[2]) == 16 and drawn(kind, path, 0)[2] == ()


@pytest.mark.parametrize(("kind", "path"), CASES)
def test_draws_are_spread_over_nodes_and_positions(kind: str, path: str) -> None:
    """Over all that the graph lets have an effect: no index or position within reach is left out for good."""
    made, prompts, cells = drawn(kind, path, 300)
    seen = [cell.path.sources[0] for cell in cells]
    one = made.cells[0].path.sources[0]
    if len(made.cells[0].path.sources) == 1:
        possible = set()
        for indices in made.graph.indices(one.node.family):
            for cell in made.cells:
                source = replace(cell.path.sources[0], node=replace(one.node, indices=indices))
                source = replace(source, at=source.at and ct.Position("END", -1))
                moved = {cell.path.sources[0].node.indices: source.node.indices}
                legs = [
                    replace(leg, exempt=tuple(replace(n, indices=moved.get(n.indices, n.indices)) for n in leg.exempt))
                    for leg in cell.path.legs
                ]
                try:
                    check_effects(Path((source,), tuple(legs)), made.graph, prompts.where, prompts.length)
                except PathError:
                    continue
                possible.add(source.node.indices)
        assert possible <= {site.node.indices for site in seen}
    assert one.at is None or len({site.at for site in seen}) > 1


def test_what_except_spares_moves_along() -> None:
    _, _, cells = drawn("mamba", "c[{layer}] @ {position} -> logits freezing h except h[{layer}]", 40)
    assert {cell.path.sources[0].node.indices for cell in cells} == {(0,), (1,), (2,)}
    for cell in cells:
        assert [n.indices for n in cell.path.legs[0].exempt] == [cell.path.sources[0].node.indices]


def test_nodes_that_share_their_indices_move_together() -> None:
    """A key and a query of one head stay of one head, and a stream, which has a layer more, goes where its MLP can."""
    _, _, cells = drawn("gpt2", "(head[0,0].q @ END, head[0,0].k @ B, head[1,1].k) -> logits", 40)
    assert all(cell.path.sources[0].node.indices == cell.path.sources[1].node.indices for cell in cells)
    assert any(cell.path.sources[-1].node.indices != cell.path.sources[0].node.indices for cell in cells)
    _, _, cells = drawn("gpt2", "(mlp[{layer}] @ B, resid[{layer}] @ A) -> logits", 60)
    assert {cell.path.sources[1].node.indices for cell in cells} == {(0,), (1,), (2,)}


def test_a_set_keeps_its_size_and_what_stood_at_one_position_stays_together() -> None:
    _, _, cells = drawn("gpt2", "(mlp[0] @ B, mlp[1] @ B) -> logits", 40)
    assert {len({site.node for site in cell.path.sources}) for cell in cells} == {2}
    assert {len({site.at for site in cell.path.sources}) for cell in cells} == {1}
    assert len({site.at for cell in cells for site in cell.path.sources}) > 2


@pytest.mark.parametrize(("kind", "path"), [CASES[1], CASES[2], CASES[4], CASES[9], CASES[12]])
def test_the_effect_of_a_draw_is_that_of_its_path(kind: str, path: str) -> None:
    options: dict[str, Any] = {"lint": False}
    ours, (made, prompts) = model(kind), compiled(kind, path)
    table = ct.patch(ours, INDUCTION, path, baseline=ct.random_nodes(4, seed=5), **options)
    cells = random_cells(made, prompts, 4, 5)
    assert table.random is not None and len(table.random) == 4 * len(prompts)
    assert list(dict.fromkeys(table.random["draw"])) == [0, 1, 2, 3]
    for number, cell in enumerate(cells):
        rows, alone = table.random[table.random["draw"] == number], ct.patch(ours, INDUCTION, cell.path, baseline=0, **options)
        for column in ("example", "effect", "base", "source"):
            np.testing.assert_allclose(rows[column], alone.frame[column], atol=1e-10)
        assert set(rows["node"]) == {", ".join(map(str, cell.path.sources))}


def test_random_nodes_change_no_cell() -> None:
    options: dict[str, Any] = {"lint": False}
    with_, without = (ct.patch(model("gpt2"), INDUCTION, CASES[0][1], baseline=n, **options) for n in (16, 0))
    np.testing.assert_allclose(with_.frame["effect"], without.frame["effect"], atol=1e-12)
    assert without.random is None and with_.frame["example"].equals(without.frame["example"])
    assert without.statistics()["random_quantile"].isna().all() and not with_.statistics()["random_quantile"].isna().any()


def test_other_interventions_draw_too() -> None:
    options: dict[str, Any] = {"lint": False}
    for how in ({"intervention": "zero"}, {"intervention": "mean"}, {"intervention": ct.given(0.2)}):
        table = ct.patch(model("gpt2"), INDUCTION, CASES[0][1], baseline=ct.random_nodes(2, seed=3), **how, **options)
        made, prompts = compile_path(model("gpt2"), INDUCTION, CASES[0][1], intervention=how["intervention"])
        cell = random_cells(made, prompts, 2, 3)[1]
        alone = ct.patch(model("gpt2"), INDUCTION, cell.path, baseline=0, **how, **options)
        assert table.random is not None
        np.testing.assert_allclose(table.random["effect"].to_numpy()[3:], alone.frame["effect"], atol=1e-10)


def test_the_reference_patches_the_same_random_nodes() -> None:
    one, other = (
        ct.patch(model("gpt2"), INDUCTION, CASES[0][1], executor=name, baseline=5, lint=False).random
        for name in ("rows", "reference")
    )
    assert one is not None and other is not None and one["node"].equals(other["node"])
    np.testing.assert_allclose(one["effect"], other["effect"], atol=1e-10)


# --- no experiment runs twice ----------------------------------------------------------------------------------------------


def ran(kind: str, path: str, monkeypatch: pytest.MonkeyPatch, **options: Any) -> tuple[Any, list[int], int]:
    """The table, the number of cells that each run of an executor had, and how many of these were random nodes."""
    counts, extras = list[int](), list[int]()
    with monkeypatch.context() as counted:
        real = Suffix.run

        def run(self: Suffix, plan: Plan, *rest: Any, extra: int = 0) -> Any:
            counts.append(len(plan.cells))
            extras.append(extra)
            return real(self, plan, *rest, extra=extra)

        counted.setattr(Suffix, "run", run)
        table = ct.patch(model(kind), INDUCTION, path, baseline=12, lint=False, **options)
    return table, counts, extras[0]


@pytest.mark.parametrize(
    ("kind", "path"),
    [
        ("gpt2", "mlp[{layer}] -> logits"),  # every node there is
        ("gpt2", "mlp[{layer}] @ {position} -> logits"),  # positions are named from END by the one, by B by the other
        ("mamba", "ssm_state[{layer}] @ B+1 -> logits freezing ssm_state"),
        ("gpt2", "head[{layer},{head}] -> mlp[2]"),
    ],
)
def test_a_random_node_that_is_a_cell_or_was_drawn_before_is_not_run_again(
    kind: str, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    table, (count,), extra = ran(kind, path, monkeypatch)
    cells = len(table.frame.drop_duplicates(list(table.axes)))
    assert table.random is not None and table.random["draw"].nunique() == 12
    assert count == cells + extra and extra < 12

    def twice(plan: Plan, drawn: Any, prompts: Prompts) -> Once:
        return Once(replace(plan, cells=plan.cells + drawn), len(drawn), np.arange(len(plan.cells) + len(drawn)))

    with monkeypatch.context() as everything:
        everything.setattr("circuitry.patching.experiment.once", twice)
        again, (count,), extra = ran(kind, path, monkeypatch)
    assert (count, extra) == (cells + 12, 12)
    assert list(again.random["node"]) == list(table.random["node"])
    for column in ("effect", "base", "source"):
        for one, other in ((table.frame, again.frame), (table.random, again.random)):
            np.testing.assert_allclose(one[column], other[column], atol=1e-12, rtol=0)
    assert np.abs(table.random["effect"]).max() > 1e-6


def test_a_random_node_at_the_same_tokens_in_some_examples_only_is_run() -> None:
    """Its position is B+1 in one prompt and another token in the others."""
    made, prompts = compiled("gpt2", "mlp[0] @ B+1 -> logits")
    distances = prompts.where["END"] - prompts.where["B"] - 1
    uneven = replace(prompts, where={**prompts.where, "END": prompts.where["END"] - np.arange(len(distances))})
    path = ct.parse(f"mlp[0] @ END-{distances[0]} -> logits")
    same = replace(made.cells[0], path=path)
    assert once(made, [same], prompts).extra == 0 and once(made, [same], uneven).extra == 1


def test_drawing_and_sweeping_look_for_no_hints(monkeypatch: pytest.MonkeyPatch) -> None:
    """Most draws from END back to the first change are refused here, and nobody reads why; a path that is refused as a whole says it."""

    def search(*_: Any) -> None:
        raise AssertionError("searched the graph for a hint")

    path = "head[{layer},{head}] @ {pos} -> logits freezing head"
    with monkeypatch.context() as context:
        context.setattr("circuitry.planning.reasons.sorted", search, raising=False)
        made, prompts = compile_path(model("gpt2"), INDUCTION, path, axes={"pos": ["B+1", "END"]})
        assert len(random_cells(made, prompts, 6, 0)) == 6 and made.skipped
    with pytest.raises(PathError) as caught:
        compile_path(model("gpt2"), INDUCTION, path, axes={"pos": ["B+1"]})
    assert caught.value.hint.startswith("exempt one that does, for example: freezing head except head[")
