"""Words that a newcomer does not know are defined on every page where they stand, and in notebooks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from circuitry.html.glossary import MEANINGS, explained, found
from circuitry.reports import write_comparison, write_report
from support.defined_terms import Page, defined
from support.outputs import each
from support.run_folders import SUMMARY, run_folder, text_of

VERDICT = """faithfulness 0.93 (0.90 to 0.95): the circuit alone, 2 nodes
random sets of that size: 0.10 on average, 0.20 at most, of 4
completeness: without a subset, circuit and model differ by 0.01 on average and 0.02 at most, over 2 subsets
minimality: 2 of 2 nodes change the faithfulness by more than any of 4 nodes from outside"""


def scored(folder: Path, **changes: Any) -> Path:
    """A run folder whose summary has scores and roles."""
    run = run_folder(folder, head=True, **changes)
    roles = ("name mover", "S suppressor", "induction head", "writes the k ([A'])")
    components = [{"node": f"head[1,{n}]", "role": role, "normalized": 0.5, "position": "END"} for n, role in enumerate(roles)]
    summary = {**SUMMARY, "components": components, "verdict": VERDICT}
    (run / "summary.json").write_text(json.dumps(summary))
    return run


def test_a_report_defines_its_words(tmp_path: Path) -> None:
    page = text_of(write_report(scored(tmp_path)))
    shown = defined(page)
    assert {
        "faithfulness",
        "completeness",
        "minimality",
        "random sets",
        "normalized effect",
        "whole effect",
        "name mover",
        "S suppressor",
    } <= set(shown)
    lines = dict(Page(page).lines)
    assert {"q", "q, k, v", "[X']", "random nodes", "top-1 accuracy"} <= lines.keys()


def test_the_line_stands_below_the_table_where_the_word_stands_first(tmp_path: Path) -> None:
    page = text_of(write_report(scored(tmp_path)))
    table, line, circuit = page.index(">name mover<"), page.index("<dt>name mover</dt>"), page.index('id="circuit"')
    assert table < line < circuit < page.index("<dt>random nodes</dt>")


def test_a_comparison_defines_its_words(tmp_path: Path) -> None:
    one, two = scored(tmp_path / "one", model="a"), run_folder(tmp_path / "two", model="b")
    page = text_of(write_comparison(one, two, tmp_path / "out"))
    assert {"minimality", "completeness", "normalized effect"} <= set(defined(page))


@pytest.mark.parametrize("name", ["scores", "edge scores"])
def test_scores_in_a_notebook_define_their_words(name: str) -> None:
    assert {"faithfulness", "completeness", "minimality"} <= set(defined(each("brackets")[name]._repr_html_()))


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("at the end of a sentence", []),
        ("q < 0.05", ["q"]),
        ("queries and so on", []),
        ("Earlier heads to the induction heads' k ([A'])", ["q, k, v", "[X']", "induction head"]),
        ("S1+2 and END-1", ["B+1, END-1", "END"]),
        ("S-inhibition heads", []),
        ("Denoising", ["corrupted", "denoising"]),
        ("a state-space model with states", ["state"]),
        ("incompleteness", []),
    ],
)
def test_terms_are_found_as_whole_words(text: str, terms: list[str]) -> None:
    assert list(found(text)) == terms


def test_a_term_has_its_meaning_where_it_stands_first_and_text_is_escaped() -> None:
    shown = explained("<b> complement & complement")
    assert shown.count("<abbr") == 1 and shown.startswith("&lt;b&gt; <abbr title=") and shown.endswith(" &amp; complement")


def test_meanings_are_one_sentence_each_and_use_no_word_that_is_not_explained() -> None:
    for name, meaning in MEANINGS.items():
        assert meaning[0].islower() and not meaning.endswith(".") and len(meaning) < 130, name


@pytest.mark.parametrize("text", ["state.csv", "facebook/opt-S", "runs/state/x", "EleutherAI/S-2", "U.S. law", "FOIL", "a@END/b"])
def test_a_part_of_another_name_is_no_term(text: str) -> None:
    assert not found(text) and "abbr" not in explained(text)


@pytest.mark.parametrize("text", ["at END.", "a state, then", "States: two", "Completeness", "the state (of", "q below 0.05"])
def test_a_term_may_stand_anywhere_in_a_sentence(text: str) -> None:
    assert len(found(text)) == 1 and explained(text).count("<abbr") == 1


def test_names_are_those_of_ioi_only_where_the_task_is() -> None:
    assert not found("S, IO") and found("S, IO", "ioi (order ABBA)").keys() == {"IO", "S"} and "IO" in found("name mover")
    assert "abbr" not in explained("patched at S2") and "abbr" in explained("patched at S2; ioi (order ABBA)")
