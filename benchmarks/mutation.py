"""The mutation score: how many small changes of the planner, the executors and the instrumentation the tests notice.

python benchmarks/mutation.py --resume runs/mutation.jsonl

Each mutant has one change: a comparison, a boundary, an operator, a number, an end of a slice, a keyword or a statement that is
left out. It is killed if one of the tests that call its function fails or does not end. Docstrings, annotations, messages and
progress bars are never changed.

One process imports torch and other slow packages once, and forks for each mutant. The fork imports circuitry with the changed
module, so no file is written. Among the libraries for this, cosmic-ray and mutatest start an interpreter for each mutant, which
imports for 7 s before the first test. mutmut forks, but it changes no decorated function and no constant, and it draws no sample
from a seed.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import random
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mutation_score.changes import Mutant, mutants_of
from mutation_score.forks import FAILED, Watch, forked, run_tests
from mutation_score.modules import Changed
from mutation_score.reach import Reach, measured
from mutation_score.report import place, reasons_in, report
from tqdm.auto import tqdm

ROOT = Path(__file__).parents[1]
MODULES = (
    "circuitry/planning/*.py",
    "circuitry/executing/*.py",
    "circuitry/executing/rows/*.py",
    "circuitry/executing/suffix/*.py",
    *(
        f"circuitry/models/{name}.py"
        for name in (
            "attention",
            "delta_projections",
            "delta_rule",
            "gated_attention",
            "gates",
            "linear_state",
            "mamba",
            "mamba2",
            "mixers",
            "packed",
            "rwkv",
            "scan",
            "ssd",
            "stretches",
            "wkv",
        )
    ),
)
LEFT_OUT = ("circuitry/planning/explain.py", "circuitry/executing/distributed.py")
"""Text only, and a module that needs several processes. The executor ``reference`` is not changed, since tests compare with it."""
TESTS = (
    *("causality", "compiled", "edges", "engines", "every_architecture", "few_positions", "first_token", "frozen_ends", "given"),
    *("half", "hybrid", "interventions", "layers_of_heads", "legs", "live_sets", "logits", "mamba2", "metrics", "models"),
    *(
        "no_effect",
        "not_copied",
        "packed_mutants",
        "planning",
        "planning_messages",
        "positions",
        "read_and_splice",
        "running",
        "rwkv",
    ),
    *("same_values", "several", "spread", "suffix", "suffix_computed", "suffix_mutants", "twice", "windows"),
)
SLOW_TO_IMPORT = ("torch", "transformers", "nnsight", "numpy", "hypothesis", "pandas", "scipy.stats")


def parsed(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument(
        "--mutants", type=int, default=160, help="how many, distributed over the modules by the number of possible changes"
    )
    parser.add_argument("--seed", type=int, default=0, help="which ones")
    parser.add_argument("--only", metavar="FILE:LINE", help="all mutants of one line, and what the tests print")
    parser.add_argument("--list", action="store_true", help="print the mutants and run none")
    parser.add_argument("--resume", type=Path, metavar="FILE", help="store outcomes here, and resume from those already stored")
    parser.add_argument("--again", action="store_true", help="run mutants again that survived without a known reason")
    parser.add_argument("--seconds", type=float, default=300, help="CPU seconds of tests for each mutant, the fastest first")
    parser.add_argument("--jobs", type=int, default=1, help="processes at a time, each with one thread")
    parser.add_argument("--root", type=Path, default=ROOT, help="folder to which the following paths are relative")
    parser.add_argument("--modules", nargs="+", default=MODULES, help="what to change")
    parser.add_argument("--tests", nargs="+", help="files of tests; doctests of the modules are run as well")
    parser.add_argument("--equivalent", type=Path, default=Path(__file__).parent / "mutation_score" / "equivalent.toml")
    return parser.parse_args(arguments)


def files_of(root: Path, patterns: Sequence[str]) -> list[str]:
    files = (str(file.relative_to(root)) for pattern in patterns for file in sorted(root.glob(pattern)))
    return [file for file in files if file not in LEFT_OUT]


def sampled(mutants: Mapping[str, list[Mutant]], count: int, seed: int) -> list[Mutant]:
    """``count`` mutants, from each file in proportion to how many it has; the same seed draws the same ones."""
    total = sum(map(len, mutants.values()))
    quotas = {file: min(1.0, count / total) * len(candidates) for file, candidates in mutants.items()}
    numbers = {file: int(quota) for file, quota in quotas.items()}
    rest = min(count, total) - sum(numbers.values())
    # Rounding down leaves some over, which go to the files with the largest fractions.
    for file in sorted(quotas, key=lambda file: numbers[file] - quotas[file])[:rest]:
        numbers[file] += 1
    return [mutant for file, candidates in mutants.items() for mutant in _drawn(candidates, numbers[file], f"{seed} {file}")]


def _drawn(mutants: Sequence[Mutant], count: int, seed: str) -> list[Mutant]:
    chosen = set(random.Random(seed).sample(range(len(mutants)), count))
    return [mutant for number, mutant in enumerate(mutants) if number in chosen]


def every_mutant(root: Path, modules: Sequence[str]) -> dict[str, list[Mutant]]:
    return {file: mutants_of(file, (root / file).read_text())[1] for file in modules}


def outcome(root: Path, mutant: Mutant, reach: Reach, budget: float, shown: bool) -> dict[str, Any]:
    """Run the tests on a mutant, in this process."""
    # The tree of this process is fresh, so the mutant is found again in it, by its key.
    tree, candidates = mutants_of(mutant.file, (root / mutant.file).read_text())
    {candidate.key: candidate for candidate in candidates}[mutant.key].apply()
    Changed({root / mutant.file: tree}).install()
    watch = Watch(chosen := reach.of(mutant, budget))
    code = run_tests(root, dict.fromkeys(test.split("::")[0] for test in chosen), watch, shown) if chosen else 0
    return {"killed": code == FAILED, "by": watch.failed, "tests": len(chosen), "seconds": sum(watch.seconds.values())}


def chosen_by(options: argparse.Namespace, modules: Sequence[str]) -> list[Mutant]:
    mutants = every_mutant(options.root, modules)
    if options.only:
        file, line = options.only.rsplit(":", 1)
        return [mutant for mutant in mutants[file] if mutant.line == int(line)]
    return sampled(mutants, options.mutants, options.seed)


def main(arguments: Sequence[str]) -> int:
    options = parsed(arguments)
    root = options.root = options.root.resolve()
    os.chdir(root)
    sys.path.insert(0, str(root))
    os.environ |= {"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    modules = files_of(root, options.modules)
    mutants = chosen_by(options, modules)
    if options.list:
        print(*map(place, mutants), sep="\n")
        return 0
    for name in SLOW_TO_IMPORT if not options.tests else ():
        importlib.import_module(name)
    tests = files_of(root, options.tests or [f"tests/*/test_{name}.py" for name in TESTS])
    stored = options.resume.with_suffix(".reach.json") if options.resume else None
    reach = measured(root, modules, tests, stored, options.jobs)
    reasons = reasons_in(options.equivalent)
    done = _outcomes(options.resume, reasons if options.again else None)
    todo = [mutant for mutant in mutants if mutant.key not in done or options.only]
    run = lambda mutant: outcome(root, mutant, reach, options.seconds, bool(options.only))  # noqa: E731
    for mutant, answer, why in tqdm(forked(todo, run, options.jobs), total=len(todo), unit="mutant"):
        done[mutant.key] = answer or {"killed": True, "by": why, "tests": 0, "seconds": 0.0}
        if options.resume:
            with options.resume.open("a") as lines:
                print(json.dumps({"mutant": mutant.key, "line": mutant.line, **done[mutant.key]}), file=lines)
    print(report(mutants, done, reasons))
    return 0


def _outcomes(file: Path | None, reasons: Mapping[Any, str] | None) -> dict[Any, dict[str, Any]]:
    """The last outcome of each mutant in an interrupted run; of survivors only those in ``reasons`` (None: all)."""
    lines = [json.loads(line) for line in file.read_text().splitlines()] if file and file.is_file() else []
    outcomes = {tuple(line.pop("mutant")): line for line in lines}
    return {key: line for key, line in outcomes.items() if line["killed"] or reasons is None or key in reasons}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
