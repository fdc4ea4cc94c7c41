"""Two runs side by side: what stands in the page, which parts correspond, and that nothing is overwritten."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from circuitry.reports import write_comparison
from circuitry.reports.roles import aligned
from support.no_pictures import no_pictures
from support.run_folders import circuit, compared, run_folder, tables, text_of


@pytest.fixture(scope="module")
def comparison(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compared(tmp_path_factory.mktemp("both"))


def test_a_comparison_has_both(comparison: Path) -> None:
    page = text_of(comparison)
    for said in ("bundled:mamba", "bundled:gpt_neox", "keeps it and hands it to the answer", "the tables have different axes"):
        assert said in page, said
    assert sorted(file.name for file in (comparison.parent / "tables").glob("*.csv")) == ["senders.csv", "sets.csv", "states.csv"]
    assert all((comparison.parent / link).is_file() for link in re.findall(r'href="(tables/[^"]+)"', page))
    strongest = re.search(r"<td>layer 1, position B\+1</td>(.*?)</tr>", page, re.S)
    assert strongest and re.findall(r"[+−][\d.]+", strongest[1])[:3] == ["+0.50", "+0.25", "+0.25"]


@no_pictures()
def test_a_comparison_takes_a_free_name_unless_it_is_the_same(comparison: Path, tmp_path: Path) -> None:
    one, two = comparison.parents[1] / "one", comparison.parents[1] / "two"
    taken = tmp_path / "taken"
    taken.mkdir()
    assert write_comparison(one, two, taken) == taken / "compare.html", "an empty folder is free"
    before = text_of(taken / "compare.html")
    assert write_comparison(one, two, taken) == taken / "compare.html", "the same comparison is made anew"
    assert write_comparison(two, one, taken) == tmp_path / "taken-2" / "compare.html"
    assert write_comparison(two, one, taken) == tmp_path / "taken-2" / "compare.html"
    assert text_of(taken / "compare.html") == before != text_of(tmp_path / "taken-2" / "compare.html")
    assert write_comparison(one, two, one).parent.name == "one-2", "a run is not written over"
    shutil.rmtree(comparison.parents[1] / "one-2")


def test_circuits_are_aligned_by_role() -> None:
    parts = {part.name: part for part in aligned([circuit(), circuit(head=True)], [{}, {}])}
    sides = {name: [[node.label for node in side] for side in part.sides] for name, part in parts.items()}
    assert sides == {
        "the answer": [["logits"], ["logits"]],
        "keeps it and hands it to the answer": [["ssm_state[1]"], ["head[1,0]"]],
        "brings earlier tokens together and writes them": [["ssm_in[1]"], ["head[0,1]"]],
        "mlp": [["keys of these heads"], ["keys of these heads"]],
    }


def test_the_summarys_word_for_a_node_is_finer_than_its_family() -> None:
    roles = {"head[1,0]": "S-inhibition head", "head[0,1]": "induction head"}
    said = {"components": [{"node": node, "role": role} for node, role in roles.items()]}
    names = [part.name for part in aligned([circuit(head=True)], [said])]
    assert names == ["the answer", "S-inhibition head", "mlp", "induction head"], "only an induction head at END hands over"
    written = {"components": [{"node": "head[1,0]", "role": "writes the answering heads' v"}]}
    assert aligned([circuit(head=True)], [written])[-1].sides[0][0].name == "head[1,0]"


def test_two_runs_of_one_model_are_told_apart_by_folder(tmp_path: Path) -> None:
    first, second = (run_folder(tmp_path / name, {name: tables()["all"]}) for name in ("first-run", "second-run"))
    for name in ("circuit.json", "summary.json"):
        (second / name).unlink()
    page = text_of(write_comparison(first, second, tmp_path / "out"))
    assert "<title>first-run and second-run</title>" in page
    assert "No table has the same name in both runs" in page and "has no circuit" in page and "has no summary" in page
