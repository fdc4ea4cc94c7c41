"""In a browser: what is clicked shows the numbers of the tables, the slider those of the curve, and keys reach everything."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import circuitry as ct
from circuitry.explorer import write_explorer, write_pair
from support.browsing import Open
from support.explored_runs import discovery, suite
from support.run_folders import EVIL, run_folder

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page


@pytest.fixture(scope="module")
def found() -> Path:
    return write_explorer(discovery())


@pytest.fixture(scope="module")
def ran() -> Path:
    return write_explorer(suite())


@pytest.fixture(scope="module")
def both() -> Path:
    return write_pair(suite(), suite("bundled:mamba"))


def lines(file: Path) -> list[dict[str, str]]:
    with file.open(encoding="utf-8", newline="") as opened:
        return list(csv.DictReader(opened))


def written(text: str | float) -> str:
    """A number as a page writes it, if it is neither very large nor very small."""
    value = float(text)
    assert 0.01 <= abs(value) < 100
    return f"{value:+.2f}".replace("-", "−")


def node(page: Page, label: str) -> Locator:
    return page.locator(f'g.node[aria-label^="{label}"]')


def edge(page: Page, source: str, target: str) -> Locator:
    return page.locator(f'g.edge[aria-label^="{source} to {target}:"]')


def facts(page: Page, where: str) -> dict[str, str]:
    names, values = (page.locator(f"{where} {tag}").all_text_contents() for tag in ("dt", "dd"))
    return dict(zip(names, values, strict=True))


def slide(page: Page, size: int) -> None:
    """Move the slider to the stop at which so many edges are above the threshold."""
    page.evaluate(
        """size => { const slider = document.getElementById("slider");
        for (let stop = 0; stop <= slider.max; stop += 1) {
          slider.value = stop; slider.dispatchEvent(new Event("input"));
          if (document.querySelector("#kept span:nth-child(2)").textContent.startsWith(`${size} edges`)) return; } }""",
        size,
    )


def test_the_pointer_on_an_edge_shows_its_effect_and_interval(show: Open, found: Path) -> None:
    page, row = show(found), lines(discovery() / "tables" / "ranking.csv")[0]
    source, target = (f"{end} @ {row['position']}" for end in row["edge"].split(" -> "))
    assert not page.locator("#tip").is_visible()
    edge(page, source, target).locator(".hit").hover(force=True)
    said = facts(page, "#tip")
    assert page.locator("#tip p").inner_text() == f"{source} → {target}"
    assert said["attribution"] == written(row["attribution"]) and said["exact effect"] == written(row["exact"])
    assert said["95 % interval"] == f"{written(row['low'])} to {written(row['high'])}"
    page.mouse.move(1, 1)
    assert not page.locator("#tip").is_visible()


def test_a_click_on_a_node_shows_its_rows_of_the_tables(show: Open, ran: Path) -> None:
    page, summary = show(ran), json.loads((suite() / "summary.json").read_text())
    head = summary["components"][0]["node"]
    node(page, head).click()
    rows = page.locator("#panel tr[data-table]")
    tables = {row.get_attribute("data-table"): None for row in rows.all()}
    assert "heads_to_logits" in tables and rows.count() > 3
    for name in tables:
        told = lines(suite() / "tables" / f"{name}-statistics.csv")
        axes = list(told[0])[: list(told[0]).index("mean")]
        places = {", ".join(f"{axis} {line[axis]}" for axis in axes): line for line in told}
        for row in page.locator(f'#panel tr[data-table="{name}"]').all():
            line = places[str(row.get_attribute("data-place"))]
            if abs(float(line["mean"])) >= 0.01:
                assert row.locator(".mean").inner_text() == written(line["mean"])
            assert row.locator("td").nth(3).inner_text() == f"{float(line['normalized']):.0%}".replace("%", " %").replace(
                "-0", "0"
            ).replace("-", "−")


def test_a_click_on_an_edge_shows_the_cell_that_it_is_from(show: Open, ran: Path) -> None:
    page, drawn = show(ran), json.loads((suite() / "circuit.json").read_text())["edges"]
    last = next(each for each in drawn if each["target"] == "logits")
    edge(page, last["source"], "logits").press("Enter")
    row = page.locator('#panel tr[data-table="heads_to_logits"]')
    assert row.count() == 1 and facts(page, "#panel")["effect"] == written(last["effect"])


def test_one_prompt_shows_its_own_numbers_and_tokens(show: Open, ran: Path) -> None:
    page, seen = show(ran), json.loads((suite() / "explorer.json").read_text())["prompts"]
    head = json.loads((suite() / "summary.json").read_text())["components"][0]
    page.select_option("#prompt", "3")
    node(page, head["node"]).click()
    cell = "distance 8, layer {}, head {}".format(*re.findall(r"\d+", head["node"]))
    shown = page.locator(f'#panel tr[data-place="{cell}"] .prompt').first.inner_text()
    effects = {
        (row["distance"], f"head[{row['layer']},{row['head']}]", row["example"]): row["effect"]
        for row in lines(suite() / "tables" / "heads_to_logits.csv")
    }
    assert shown == written(effects["8", head["node"], "3"])
    tokens = page.locator("#words .tokens").first.locator(".token").all_inner_texts()
    assert [token.replace("␣", " ").strip() for token in tokens] == [token.strip() for token in seen[3]["clean"]]
    page.keyboard.press(".")
    assert page.locator("#prompt").input_value() == "4"
    page.keyboard.press("m")
    assert page.locator("#prompt").input_value() == "mean" and page.locator("#words .token").count() == 0


def test_a_head_shows_the_attention_that_was_saved(show: Open, ran: Path) -> None:
    page, patterns = show(ran), json.loads((suite() / "explorer.json").read_text())["patterns"]
    head = next(iter(patterns))
    node(page, head).first.click()
    assert page.locator("#panel .pattern td:not(:empty)").all_inner_texts() == [
        f"{value:.2f}" for row in patterns[head]["mean"] for value in row
    ]
    page.select_option("#prompt", "0")
    assert page.locator("#panel .heat rect").count() > 5 and page.locator("#panel .token.shaded").count() > 5


def test_the_slider_redraws_and_shows_the_curve(show: Open, found: Path) -> None:
    page, curve = show(found), lines(discovery() / "curve.csv")
    size = int(curve[0]["edges"])
    for count in (size, 12):
        slide(page, count)
        drawn = page.locator("g.edge").evaluate_all("all => all.map(edge => edge.getAttribute('aria-label').split(':')[0])")
        assert page.locator("g.edge").count() == len(drawn)
        try:
            cells = ct.discovery.read(discovery() / "edges.json").circuit(count).cells
        except ct.CircuitryError:
            cells = ()
        assert sorted(name.split(" to ")[0] for name in drawn) == sorted(f"{text.split(' -> ')[0]} @ {at}" for text, at in cells)
    slide(page, size)
    said, point = page.locator("#kept").inner_text(), curve[0]
    numbers = [f"{float(point[name]):.2f}".replace("-", "−") for name in ("faithfulness", "low", "high")]
    assert f"faithfulness {numbers[0]} ({numbers[1]} to {numbers[2]}) of the best {size} edges" in said
    assert numbers[0] in str(page.locator("#slider").get_attribute("aria-valuetext"))


def test_a_run_opens_at_its_own_circuit(show: Open, found: Path) -> None:
    page, results = show(found), json.loads((discovery() / "results.json").read_text())
    assert page.locator("g.edge").count() == results["circuit"]
    keeps = f"this circuit keeps {results['scores']['faithfulness']:.0%} of the behaviour".replace("%", " %").replace("-0", "0")
    assert keeps.replace("-", "−") in page.locator("#kept").inner_text()


def test_keys_reach_nodes_edges_and_details(show: Open, found: Path) -> None:
    page = show(found)
    page.focus("g.node[tabindex='0']")
    label = "document.activeElement.getAttribute('aria-label')"
    node(page, "logits at END").focus()
    page.keyboard.press("ArrowDown")
    below = page.evaluate(label)
    assert not below.startswith("logits") and page.locator("#tip").is_visible()
    page.keyboard.press("ArrowUp")
    assert page.evaluate(label).startswith("logits at END")
    page.keyboard.press("e")
    assert "to logits @ END" in page.evaluate(label) and "attribution" in facts(page, "#tip")
    page.keyboard.press("Escape")
    assert page.evaluate(label).startswith("logits at END")
    page.keyboard.press("e")
    page.keyboard.press("ArrowDown")
    assert page.evaluate("document.activeElement.classList.contains('edge')")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "panel" and "→" in page.locator("#panel h2").inner_text()
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.classList.contains('edge')") and page.locator("#panel h2").count() == 0
    before = page.locator("g.edge").count()
    page.keyboard.press("[")
    assert page.locator("g.edge").count() <= before and page.locator("g.edge[tabindex='0']").count() == 1


@pytest.mark.parametrize("which", ["found", "ran", "both"])
def test_a_narrow_page_does_not_scroll_sideways(show: Open, which: str, request: pytest.FixtureRequest) -> None:
    page = show(request.getfixturevalue(which), width=400)
    node(page, "logits").first.click()
    page.select_option("#prompt", "0")
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    box = node(page, "logits").first.bounding_box()
    assert box and box["x"] >= 0 and box["x"] + box["width"] <= 400


CONTRAST = """() => {
  const channels = text => (text.match(/[\\d.]+/g) || [0, 0, 0, 0]).map(Number);
  const light = ([r, g, b]) => [r, g, b].map(c => { const v = c / 255; return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; })
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const ratio = (a, b) => { const [x, y] = [light(a), light(b)].sort((p, q) => q - p); return (x + 0.05) / (y + 0.05); };
  const ground = element => { for (let at = element; at; at = at.parentElement) { const c = getComputedStyle(at).backgroundColor;
    if (c.startsWith("color(")) return channels(c.replace("color(srgb", "")).slice(0, 3).map(v => v * 255); if (channels(c)[3] !== 0) return channels(c); } return [255, 255, 255]; };
  const boxes = [...document.querySelectorAll("g.node")].map(node => [node.ariaLabel, ratio(channels(getComputedStyle(node.querySelector("text")).fill), channels(getComputedStyle(node.querySelector("rect")).fill))]);
  const texts = [...document.querySelectorAll("#panel *, #controls *, header *, #legend *, #list summary, footer *")].filter(e => [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim()) && !e.closest("svg"))
    .map(e => [e.textContent.slice(0, 30), ratio(channels(getComputedStyle(e).color), ground(e))]);
  return [...boxes, ...texts].filter(([, value]) => value < 4.5);
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_has_contrast(show: Open, found: Path, ran: Path, scheme: Any) -> None:
    for file in (found, ran):
        page = show(file, color_scheme=scheme)
        assert page.evaluate(CONTRAST) == []
        node(page, "head").first.click()
        page.mouse.move(1, 1)
        assert page.evaluate(CONTRAST) == []


def test_print_is_light_in_a_dark_room(show: Open, found: Path) -> None:
    page = show(found, color_scheme="dark")
    fill = "getComputedStyle(document.querySelector('g.node rect')).fill"
    dark = page.evaluate(fill)
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.evaluate(fill) != dark
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(252, 252, 251)"
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.evaluate(fill) == dark


def test_two_models_are_on_one_scale_with_links(show: Open, both: Path) -> None:
    page = show(both, width=1600)
    fills = page.locator('g.node[aria-label^="logits"] rect').evaluate_all("all => all.map(rect => rect.style.fill)")
    assert len(fills) == 2 and fills[0] == fills[1]
    faint = page.locator("#links path").count()
    assert faint >= 2 and page.locator("#links path.strong").count() == 0
    node(page, "head[1").first.click()
    strong = page.locator("#links path.strong").count()
    matched = page.locator("#panel p", has_text="keeps it and hands it to the answer").locator("button")
    assert strong == matched.count() > 0
    matched.first.click()
    assert "ssm_state" in page.locator("#panel h2").inner_text()


def test_text_of_a_run_stays_text(show: Open, tmp_path: Path) -> None:
    page = show(write_explorer(run_folder(tmp_path, model=EVIL, command=EVIL)))
    assert EVIL in page.locator("footer code").inner_text() and EVIL in page.locator("h1").inner_text()
    node(page, "keys of these heads").click()
    assert "No cell of the run's tables names this node" in page.locator("#panel").inner_text()
