"""Examples on a report's page: the strip, those that disagree most, and the numbers for the page's script."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import Any

import numpy as np

from circuitry import PatchingTable
from circuitry.colours import paint
from circuitry.prompting.texts import PromptTexts
from circuitry.reports import write_report
from circuitry.results.cells import cells_of
from circuitry.results.strips import data, strips, tokens, worst
from support.run_folders import EVIL, made, prompted, run_folder, text_of


def stored(page: str) -> dict[str, Any]:
    (text,) = re.findall(r'<script type="application/json" id="examples-data">(.*?)</script>', page)
    return json.loads(text)  # type: ignore[no-any-return]


def test_the_pages_numbers_are_the_tables(tmp_path: Path) -> None:
    folder = run_folder(tmp_path, {"states": prompted(), "plain": made([{}], np.ones((1, 4)))})
    tables = stored(text_of(write_report(folder)))["tables"]
    table = PatchingTable.from_json(folder / "tables" / "states.json")
    effects = np.frombuffer(base64.b64decode(tables["1"]["effects"]), "<f4").reshape(len(table.mean()), -1)
    assert np.allclose(effects, table.values(), rtol=1e-6) and tables["1"]["numbers"] == list(range(16))
    assert tables["2"]["sets"] == -1, "this table was made without its prompts"


def test_the_strip_marks_a_bad_example(tmp_path: Path) -> None:
    (strip,) = strips(prompted())
    assert [number for number, _ in strip.outliers] == [11] and strip.marks.startswith("M11.5 1v")
    assert strip.bars.count("M") == 15 and "M11.5" not in strip.bars
    page = text_of(write_report(run_folder(tmp_path, {"states": prompted()})))
    assert "outliers: example 11 (z " in page and strip.marks in page


def test_the_worst_three_are_in_the_page_without_a_script(tmp_path: Path) -> None:
    page = text_of(write_report(run_folder(tmp_path, {"states": prompted()})))
    shown = re.findall(r'<td class="number" data-name="example">(\d+)</td>', page)
    assert shown == [str(n) for n in prompted().outlying()["example"][:3]] and shown[0] == "11"
    assert '<span class="tok differs"><small>B</small><b> cat11</b><i> dog</i></span>' in page
    tip = cells_of(prompted())[4].tip.splitlines()[-1]
    assert tip.startswith("examples that disagree most: 11 (")


def test_long_stretches_of_a_prompt_are_left_out() -> None:
    ids = [*range(40), 50]
    texts = PromptTexts([ids], [[*ids[:-1], 51]], [50], [51], {"END": [40]}, {n: f" t{n}" for n in range(60)})
    shown = tokens(texts, 0)
    assert [token.text for token in shown[:5]] == [" t0", " t1", " t2", " t3", " t4"] and shown[5].left_out == 30
    assert (shown[-1].text, shown[-1].other, shown[-1].name) == (" t50", " t51", "END") and len(shown) == 12


def test_what_a_prompt_contains_cannot_leave_the_page(tmp_path: Path) -> None:
    texts = PromptTexts([[1, 2]] * 4, [[1, 3]] * 4, [2] * 4, [3] * 4, {EVIL: [1] * 4}, {1: EVIL, 2: "</script>" + EVIL, 3: EVIL})
    table = PatchingTable.of([{"layer": 0}], np.arange(4.0)[None], np.zeros(4), np.ones(4), EVIL, {"title": EVIL}, prompts=texts)
    page = text_of(write_report(run_folder(tmp_path, {"evil": table})))
    assert "<script>window.hacked" not in page and page.count("</script>") == 2
    assert stored(page)["sets"][0]["tokens"][0][1] == EVIL


def test_tables_that_do_not_fit_are_left_out_and_the_next_may_fit() -> None:
    big, small = (made([{"layer": n} for n in range(cells)], np.ones((cells, 16))) for cells in (400, 2))
    kept = json.loads(data([(1, big), (2, small)], 5_000))["tables"]
    assert list(kept) == ["2"]
    text = data([(1, big), (2, small)], 60_000)
    assert list(json.loads(text)["tables"]) == ["1", "2"] and len(text) < 60_000


def test_a_page_with_many_examples_stays_under_five_megabytes(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    heads = [{"layer": layer, "head": h} for layer in range(30) for h in range(12)]
    many = {f"heads{n}": made(heads, rng.normal(0, 1, (360, 256))) for n in range(8)}
    page = text_of(write_report(run_folder(tmp_path, many)))
    kept = stored(page)["tables"]
    assert 4_000_000 < len(page.encode()) < 5_000_000 and 3 <= len(kept) < 8


def test_prompts_are_written_once() -> None:
    texts = json.loads(data([(1, prompted()), (2, prompted())], 10**6))
    assert len(texts["sets"]) == 1 and [texts["tables"][n]["sets"] for n in "12"] == [0, 0]


def test_the_worst_of_several_sets_of_prompts() -> None:
    quiet = prompted(bad=0.0)
    both = PatchingTable.stack({8: quiet, 16: prompted(other=True)}, "distance")
    assert [strip.label for strip in strips(both)] == ["distance 8", "distance 16"]
    strip, row, shown = worst(strips(both))[0]
    assert (strip.label, row["example"]) == ("distance 16", 11) and shown


def test_text_on_a_cell_can_be_read_on_light_and_dark_pages() -> None:
    def luminance(colour: str) -> float:
        linear = (((int(colour[i : i + 2], 16) / 255 + 0.055) / 1.055) ** 2.4 for i in (1, 3, 5))
        return float(sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True)))

    for value in np.linspace(-2, 2, 41):
        for found in (True, False):
            fills, inks = (re.findall("#[0-9a-f]{6}", colour) for colour in paint(float(value), 2.0, found))
            for fill, ink, least in zip(fills, inks, (3.9 if found else 4.5, 4.5), strict=True):
                low, high = sorted((luminance(fill), luminance(ink)))
                assert (high + 0.05) / (low + 0.05) >= least, (fill, ink)
