"""What the documents state as a fact, and no block of code there prints, is what the code, a run and the model cards say."""

from __future__ import annotations

import inspect
import re
import shlex
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer

import circuitry as ct
from circuitry.architecture import model_types
from circuitry.cli import app
from circuitry.compiled import NAMES, stream
from circuitry.content import BUNDLED
from circuitry.evidence import grid, offsets
from circuitry.executing.open import EXECUTORS
from circuitry.features import activations
from circuitry.features.activations.storing import store
from circuitry.features.activations.stream import activations as collect
from circuitry.features.activations.texts import SHORTEST
from circuitry.features.dashboard.contexts import CONTEXTS, WINDOW
from circuitry.features.dashboard.endpoint import SETTINGS, EndpointScorer
from circuitry.features.dashboard.page import LIMIT
from circuitry.features.dashboard.score import _LETTERS, BELOW
from circuitry.features.dashboard.study import CASES, study
from circuitry.features.matching.matches import CHANCE, COLUMNS
from circuitry.features.matching.shards import index_dtype
from circuitry.features.matching.writer import Writer
from circuitry.features.sae.sweep import sweep
from circuitry.models.loading import bundled
from circuitry.patching import METRICS
from circuitry.planning import INTERVENTIONS, plan
from circuitry.reports import compare, nodes
from circuitry.studies import circuits, experiment
from circuitry.studies.causal.pairs import NEAR
from circuitry.studies.causal.run import PROMPTS, TOP, causal
from circuitry.studies.experiment.plan import Settings
from circuitry.studies.replication.run import replicate
from circuitry.suites.induction import DISTANCES
from circuitry.suites.runner import SHIPPED
from circuitry.thresholds import CARRIES, EFFECTS_APART, KEY_EFFECT, MOST_KEYS, NEAR_ZERO, WRITE_FLOOR
from circuitry.thresholds import SIGNIFICANT as Q
from circuitry.training.__main__ import SAVE_EVERY, arguments
from circuitry.training.recipes import RECIPES
from circuitry.universality import Recipe, corpus, encode, mppc, train_sae
from support import compiled, some_matches
from support.layers import LEVEL, heavy_after_importing
from support.pages import ROOT


def _words(name: str) -> str:
    """A page as one line, so that a sentence is found wherever it is wrapped."""
    return " ".join((ROOT / name).read_text().split())


def _default(function: Callable[..., Any], name: str) -> Any:
    return inspect.signature(function).parameters[name].default


def _first_cells(name: str, header: str) -> list[str]:
    """What stands in backticks in the first column of the table with this header."""
    rows = (ROOT / name).read_text().partition(f"\n{header}\n")[2].split("\n\n")[0].splitlines()[1:]
    assert rows, header
    return [text for row in rows for text in re.findall(r"`([^`]+)`", row.split("|")[1])]


# --- the models ------------------------------------------------------------------------------------------------------------

FIGURES = (
    "induction top-1, distance 8",
    "induction top-1, distance 32",
    "induction top-1, distance 128",
    "IOI top-1, held-out templates",
    "IOI top-1, held-out templates, random tokens as names",
    "English cross-entropy, nats per token",
)
"""The lines of a model card that docs/models.md shows, in the order of its columns."""
SHIPPED_MODELS = [name.removeprefix("bundled:") for name in bundled()]


def _card(name: str) -> str:
    return (BUNDLED / name / "README.md").read_text()


@pytest.mark.parametrize("name", SHIPPED_MODELS)
def test_the_table_of_models_is_that_of_their_cards(name: str) -> None:
    [row] = re.findall(rf"^\| `bundled:{name}` \| (.+) \|$", (ROOT / "docs/models.md").read_text(), re.MULTILINE)
    parameters, *figures = row.split(" | ")
    card = {key: float(value) for key, value in re.findall(r"^\| ([^|]+?) \| ([\d.]+) \|$", _card(name), re.MULTILINE)}
    assert int(parameters.replace(",", "")) == ct.load(f"bundled:{name}").parameters
    assert all(abs(float(shown) - card[key]) <= 0.0051 for shown, key in zip(figures, FIGURES, strict=True))


@pytest.mark.parametrize("name", SHIPPED_MODELS)
def test_a_card_says_what_the_model_is_and_how_it_is_trained(name: str) -> None:
    model, card = ct.load(f"bundled:{name}"), " ".join(_card(name).split())
    kind, layers = model.graph.name, model.graph.sizes["layer"]
    assert f"A small {kind} model ({model.parameters:,} parameters, {layers} layers, float32)" in card
    assert f"({sum(stage.steps for stage in RECIPES[kind].stages)} steps)" in card
    assert f"byte-level BPE with {len(model.tokenizer)} tokens" in card
    [command] = re.findall(r"^    python -m circuitry\.training (.+)$", _card(name), re.MULTILINE)
    read = arguments().parse_args(shlex.split(command))
    assert (read.model, read.seed) == (kind, int((*re.findall(r"_s(\d)", name), "0")[0]))


def test_the_command_that_trains_again_can_be_read() -> None:
    [command] = re.findall(r"^    python -m circuitry\.training (.+)$", (ROOT / "docs/models.md").read_text(), re.MULTILINE)
    assert arguments().parse_args(shlex.split(command)).model in RECIPES


def test_the_documents_count_the_models_that_ship() -> None:
    numbers = {6: "six", 8: "eight", 9: "nine"}
    assert f"{numbers[len(bundled())]} trained models ship" in _words("docs/models.md").lower()
    assert f"[{numbers[len(NAMES)]} more](compiled.md)" in _words("docs/models.md").lower()


# --- limits, thresholds and defaults ---------------------------------------------------------------------------------------

FACTS = {
    "README.md": [f"`{SHIPPED[0]}` (the paper's", f"`{SHIPPED[1]}` (the paper's"],
    "docs/activations.md": [
        f"A document of fewer than {SHORTEST} characters is dropped",
        f"cut to `context` tokens, {_default(corpus, 'context'):,} unless you say otherwise",
        f"bounded by `memory` ({_default(activations, 'memory').replace('MiB', ' MiB')} by default)",
    ],
    "docs/architecture.md": [f"at least {KEY_EFFECT:.0%} of the effect with q < {Q}"],
    "docs/compiled.md": [
        f"| `compiled:mamba` | `MambaForCausalLM` | induction | {stream.TOKENS} numbers |",
        f"nothing else has an effect above {compiled.NOTHING:.4f} on the logits",
        f"It is {stream.ON:.0f} times as large",
        "at distances {}, {}, {}, {} and {}".format(*compiled.DISTANCES),
        f"a vocabulary of {compiled.SMALL} tokens",
    ],
    "docs/features.md": [
        f"The page holds {LIMIT} matches (about 2 MB) unless `--limit` says otherwise",
        f"windows of {WINDOW} tokens around its highest activations",
        f"takes {_LETTERS} characters for a token",
        f"A request has `temperature={SETTINGS['temperature']}` and `max_tokens={SETTINGS['max_tokens']}`",
        f"matches with an MPPC below {BELOW} whose feature",
        f"a page of the {CASES} lowest",
    ],
    "docs/how-to/new-suite.md": [f"at least {KEY_EFFECT:.0%} of the whole effect and q < {Q}"],
    "docs/models.md": [f"a checkpoint every {SAVE_EVERY} steps"],
    "docs/mppc.md": [
        f"on fewer than `min_count` tokens ({_default(mppc, 'min_count')} by default)",
        f"whose MPPC is at most the {CHANCE:.0%} quantile of the null",
        f"safetensors, with about {_default(Writer, 'shard'):,} tokens in a file",
    ],
    "docs/causal.md": [
        f"the `top` ones ({TOP} by default)",
        f"drawn from the {NEAR} with the nearest counts",
        f"an MPPC above `alike` ({_default(causal, 'alike')}), normalized effects at least {EFFECTS_APART} apart, and q < {Q}",
        f"ablated on `prompts` ({PROMPTS})",
    ],
    "docs/off-by-one.md": [
        f"A cell is a *write* if its effect is at least {WRITE_FLOOR:.0%}",
        f"a position counts if its whole interval lies above {CARRIES:.0%}",
        f"not within {offsets.APART:.0%} of the whole effect",
        f"the maximum in {_default(ct.off_by_one, 'level'):.0%} of the resamples",
    ],
    "docs/paper.md": [f"{ct.task('induction').examples} prompts of random tokens, distances {DISTANCES[0]} to {DISTANCES[-1]}"],
    "docs/report.md": [f"At most {nodes.MOST} cells are shown", f"the page shows the {compare.MOST} cells that differ most"],
    "docs/sae.md": [f"every {({300.0: 'five'})[_default(train_sae, 'save_every')]} minutes (`save_every`, in seconds)"],
    "docs/universality.md": [
        f"ours is ±{NEAR_ZERO}",
        f"of {Settings().expansion * 128:,} features on a {({1_000_000: 'million'})[Settings().tokens]} tokens each",
        f"matches them on {Settings().match_tokens:,} other tokens",
    ],
}
"""Sentences by page, with the number put in that the code has."""


@pytest.mark.parametrize(("name", "said"), [(name, said) for name, some in FACTS.items() for said in some])
def test_a_number_in_a_page_is_the_codes(name: str, said: str) -> None:
    assert said in _words(name)


def test_the_readme_counts_the_types_that_work() -> None:
    stated = re.search(r"over (\d+) model types", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert stated and int(stated[1]) < len(model_types()) <= int(stated[1]) + 10


def test_words_that_stand_for_numbers() -> None:
    assert (CONTEXTS, MOST_KEYS) == (10, 8)
    assert "ten windows of" in _words("docs/features.md")
    assert "the eight strongest" in _words("docs/how-to/new-suite.md")
    assert (_default(experiment, "scored"), _default(EndpointScorer, "attempts")) == (LIMIT, 6)


def test_random_nodes_and_dtype_are_those_that_the_page_says() -> None:
    model, task = ct.load("bundled:mamba"), ct.task("induction", distance=8, examples=4)
    random = ct.patch(model, task, "h[{layer}] @ B+3 -> logits freezing h").random
    assert random is not None
    assert f"`dtype` is {str(model.dtype).removeprefix('torch.')} unless you say otherwise" in _words("docs/how-to/big-models.md")
    assert f"compared with, {random['draw'].nunique()} unless `baseline` says otherwise" in _words("docs/how-to/big-models.md")


def test_the_bytes_of_an_activation() -> None:
    said = 'takes two bytes (four from 65,536 features on), its value two (four with `stored_dtype="float32"`)'
    assert said in _words("docs/mppc.md")
    assert [index_dtype(features).itemsize for features in (65_535, 65_536)] == [2, 4]
    assert _default(encode, "stored_dtype") == "float16"


# --- lists -----------------------------------------------------------------------------------------------------------------


def test_imports_go_the_way_that_the_page_says() -> None:
    said = _words("docs/architecture.md").partition("those before it: ")[2].partition(". ")[0].split(";")
    levels = [{LEVEL[name] for name in re.findall(r"`(\w+)`", row)} for row in said]
    assert all(len(level) == 1 for level in levels), "neighbours stand in one row"
    assert len(levels) > 6 and [min(level) for level in levels] == sorted({min(level) for level in levels})


def test_the_page_on_architecture_has_every_package() -> None:
    packages = {f"circuitry/{path.parent.name}" for path in (ROOT / "circuitry").glob("*/__init__.py")}
    assert {*_first_cells("docs/architecture.md", "| folder | what is in it | imports torch |")} == packages | {
        "graphs/",
        "tasks/",
    }


def test_packages_that_the_page_calls_light_import_no_torch() -> None:
    light = re.findall(r"^\| `circuitry/(\w+)` \| .+ \| no \|$", (ROOT / "docs/architecture.md").read_text(), re.MULTILINE)
    assert "results" in light and "torch" not in heavy_after_importing(*(f"circuitry.{name}" for name in light))


def test_extras_and_python_in_the_readme_are_those_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    said = _words("README.md").partition("Extras: ")[2].partition("The pinned")[0]
    assert {*re.findall(r"`\[([\w-]+)\]`", said)} == {*project["optional-dependencies"]}
    assert f"Python {project['requires-python'].removeprefix('>=')} or newer" in _words("README.md")


def test_help_lists_what_there_is() -> None:
    commands: Any = typer.main.get_command(app)
    helps = {
        (name, one.name): re.sub(r" \([^)]+\)", "", one.help or "")
        for name, command in commands.commands.items()
        for one in command.params
    }
    assert {*re.split(", | or ", helps["patch", "metric"])} == METRICS.keys()
    assert {*re.split(", | or ", helps["patch", "intervention"])} == {*INTERVENTIONS} - {"given"}, "a value cannot be given there"
    assert {*re.split(", | or ", helps["patch", "executor"].partition(": ")[2])} == EXECUTORS.keys()
    assert helps["run", "suite"].startswith(", ".join(SHIPPED))


LIBRARY: dict[str, tuple[Callable[..., Any], ...]] = {
    "run": (ct.run,),
    "patch": (ct.patch, ct.task),
    "explain": (ct.task,),
    "offsets": (ct.off_by_one,),
    "circuits": (circuits,),
    "universality": (experiment, Settings),
    "mppc": (mppc,),
    "features": (study, EndpointScorer),
    "sae train": (train_sae, Recipe),
    "sae encode": (encode,),
    "sae sweep": (sweep,),
    "sae latents": (ct.task, ct.Model.latents),
    "replicate": (replicate,),
    "activations": (collect, store),
}
"""What a command calls: an option and the argument of the same name have the same default."""


@pytest.mark.parametrize("name", LIBRARY)
def test_defaults_of_a_command_are_those_of_what_it_calls(name: str) -> None:
    command: Any = typer.main.get_command(app)
    for part in name.split():
        command = command.commands[part]
    calls = {key: one.default for call in LIBRARY[name] for key, one in inspect.signature(call).parameters.items()}
    none, shared = (None, inspect.Parameter.empty), 0
    for option in command.params:
        known = calls.get(option.name)
        if option.default in none or known in none or callable(known) or option.name in ("out", "corpus"):
            continue
        assert option.default == known, option.name
        shared += 1
    assert shared


def test_the_table_of_hand_written_models_is_what_they_are() -> None:
    rows = re.findall(r"^\| `compiled:(\w+)` \| `(\w+)` \| .+ \| (.+) \|$", (ROOT / "docs/compiled.md").read_text(), re.MULTILINE)
    assert [name for name, _, _ in rows] == ["transformer", "mamba", "mamba2", "rwkv", "gated_delta", "ioi"] and {
        name for name, _, _ in rows
    } == {*NAMES}
    for name, kind, tokens in rows:
        model = ct.load(f"compiled:{name}")
        assert type(model.hf).__name__ == kind
        assert tokens == (f"{model.hf.config.vocab_size} numbers" if model.tokenizer is None else "those of the bundled models")


def _argument(function: Callable[..., Any], name: str) -> set[str]:
    """The names in quotation marks in what a docstring says of an argument."""
    said = re.search(rf"^ +{name}: (.*?)(?=^ +\w+: |\n\n)", inspect.getdoc(function) or "", re.M | re.S)
    return set(re.findall(r'"(\w+)"', said[1] if said else ""))


def test_names_in_docstrings_are_those_that_are_known() -> None:
    named = {name for name, one in INTERVENTIONS.items() if not one.needs_value}
    assert _argument(ct.patch, "metric") == {*METRICS}
    assert _argument(ct.patch, "intervention") == named
    assert _argument(ct.patch, "direction") == {*grid.DIRECTIONS}
    assert _argument(ct.executor, "name") == {*EXECUTORS}
    assert {*grid.METRICS} <= {*METRICS}


def test_settings_and_columns_of_a_sensitivity_are_those_in_the_page() -> None:
    model, task = ct.load("bundled:mamba"), ct.task("induction", distance=8, examples=4)
    how: Any = {"ablations": ["resample"], "directions": ["noising"], "metrics": ["logit"], "frozen": {}}
    made = ct.sensitivity(model, task, "h[{layer}] @ B+3 -> logits freezing h", **how)
    page = "docs/sensitivity.md"
    assert [*grid.SETTING, *_first_cells(page, "| column | what it is |")] == [*made.frame]
    assert _first_cells(page, "| choice | values | what it is |") == []
    for choice, values in (("ablation", grid.ABLATIONS), ("direction", grid.DIRECTIONS), ("metric", grid.METRICS)):
        assert f"| {choice} | {', '.join(f'`{one}`' for one in values)} |" in _words(page)


def test_columns_of_matches_are_those_in_the_page() -> None:
    assert sorted(_first_cells("docs/mppc.md", "| column | what it is |")) == sorted(COLUMNS)


def test_figures_of_an_experiment_are_those_in_the_page() -> None:
    scores = some_matches.found().comparisons["architecture"].forward[["layer_a", "feature_a"]]
    scores = scores.set_axis(["layer", "feature"], axis=1).assign(complexity=1.0, monosemanticity=5.0, scorer="me", proxy=True)
    figures = {f"figures/{name}" for name in some_matches.found(scores=scores).figures()}
    assert {*re.findall(r"`(figures/\w+)`", (ROOT / "docs/universality.md").read_text())} == figures


# --- what a page says of itself --------------------------------------------------------------------------------------------


def test_the_message_in_the_page_on_paths_is_what_is_said() -> None:
    prompts = ct.task("induction").prompts(ct.load("bundled:mamba").vocabulary)
    with pytest.raises(ct.PathError) as caught:
        plan("c[17] @ B+1 -> logits freezing h", ct.graph("mamba"), where=prompts.where, length=prompts.length)
    assert f"```\n{caught.value}\n```" in (ROOT / "docs/path-language.md").read_text()


@pytest.mark.parametrize("section", ["3.3", "4.2", "5", "6.1", "6.2", "6.3"])
def test_the_page_on_the_paper_has_every_section_with_an_experiment(section: str) -> None:
    assert re.search(rf"[Ss]ections? (\d[\d.]* (and|to) )?{re.escape(section)}\b", _words("docs/paper.md"))


@pytest.mark.parametrize("page", sorted(Path(ROOT / "docs").glob("*.md")), ids=lambda page: page.name)
def test_no_page_says_that_a_command_is_missing(page: Path) -> None:
    """A page that was true once: what it calls missing has a command now."""
    assert not re.search(r"(not in circuitry yet|Not in this version)", page.read_text())


@pytest.mark.parametrize("name", ["README.md", *(f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md"))])
def test_tests_that_a_page_names_are_there(name: str) -> None:
    text = (ROOT / name).read_text()
    assert all((ROOT / file).is_file() for file in re.findall(r"`((?:tests|benchmarks)/[\w/.]+)`", text))
    for file, chosen in re.findall(r"pytest (?:-s )?(tests/\w+\.py) (?:-k (\w+))?", text):
        assert re.search(rf"^def test_\w*{chosen}", (ROOT / file).read_text(), re.MULTILINE), (file, chosen)


def test_every_function_and_command_of_the_table_exists() -> None:
    page = (ROOT / "docs/which.md").read_text()
    for name in re.findall(r"`ct\.([\w.]+)", page):
        owner: object = ct
        for part in name.split("."):
            owner = getattr(owner, part)
    known = set(typer.main.get_command(app).commands)  # type: ignore[attr-defined]
    named = set(re.findall(r"`circuitry (\w+)", page))
    assert named and named <= known
