"""Which tests call which function, and how long each takes: measured once, kept in a file, and measured again where something changed."""

from __future__ import annotations

import ast
import hashlib
import importlib
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from .changes import Mutant
from .forks import PASSED, Watch, forked, run_tests
from .modules import Changed, name_of, telling


@dataclass(frozen=True)
class Reach:
    """``seconds`` of CPU by test, and the tests that call a function, by ``modules.name_of``."""

    seconds: Mapping[str, float]
    tests: Mapping[str, set[str]]

    def of(self, mutant: Mutant, most: float) -> dict[str, float]:
        """The tests that can notice a mutant, with their seconds: the fastest first, as many as take ``most`` seconds together.

        They are those that call its function; where it is in none, or none calls it, those that call any function of its file.
        """
        found = self.tests.get(name_of(mutant.file, mutant.function), set())
        if not found:
            found = set().union(*(tests for name, tests in self.tests.items() if name.startswith(name_of(mutant.file, ""))))
        chosen, total = {}, 0.0
        for test in sorted(found, key=lambda test: (self.seconds[test], test)):
            total += self.seconds[test]
            if total > most and chosen:
                break
            chosen[test] = self.seconds[test]
        return chosen


def measured(root: Path, modules: Sequence[str], tests: Sequence[str], kept: Path | None, jobs: int) -> Reach:
    """Run every file of tests, and all doctests, without a mutant, in a fork each. Raises SystemExit where a test fails."""
    known: dict[str, Any] = json.loads(kept.read_text()) if kept and kept.is_file() else {}
    groups = {test: [test] for test in tests} | {"doctests": list(modules)}
    digests = {name: _digest(root, (*files, *modules, *_helpers(root, tests))) for name, files in groups.items()}
    trees = {root / file: telling(file, (root / file).read_text()) for file in modules}

    def run(group: str) -> dict[str, Any]:
        watch, before = Watch(), set(sys.modules)
        Changed(trees, watch.reach).install()
        code = run_tests(root, groups[group], watch, shown=False)
        reached = {name: sorted(called) for name, called in watch.reached.items()}
        return {"passed": code == PASSED, "output": "" if code == PASSED else watch.output, "seconds": watch.seconds, "reached": reached,
                "imports": _installed(root, set(sys.modules) - before), "digest": digests[group]}  # fmt: skip

    missing = [group for group in groups if known.get(group, {}).get("digest") != digests[group]]
    for group, made, why in tqdm(forked(missing, run, jobs), total=len(missing), desc="without a mutant", unit="file"):
        if made is None or not made["passed"]:
            raise SystemExit(f"tests must pass without a mutant; {group} does not:\n{made['output'] if made else why}")
        known[group] = made
        if kept:
            kept.write_text(json.dumps(known))
    _import(name for group in groups for name in known[group]["imports"])
    return _joined([known[group] for group in groups])


def _joined(files: Sequence[Mapping[str, Any]]) -> Reach:
    tests: dict[str, set[str]] = {}
    for one in files:
        for test, functions in one["reached"].items():
            for function in functions:
                tests.setdefault(function, set()).add(test)
    return Reach({test: seconds for one in files for test, seconds in one["seconds"].items()}, tests)


def _helpers(root: Path, tests: Iterable[str]) -> list[str]:
    """Python files beside the tests that are not tests."""
    folders = {(root / test).parent for test in tests if Path(test).name.startswith("test_")}
    return sorted(str(file.relative_to(root)) for folder in folders for file in folder.glob("*.py") if file.name[:5] != "test_")


def _digest(root: Path, files: Iterable[str]) -> str:
    """Of what a file's tests do: comments do not count."""
    whole = hashlib.sha256()
    for file in files:
        whole.update(ast.dump(ast.parse((root / file).read_text())).encode())
    return whole.hexdigest()


def _installed(root: Path, names: Iterable[str]) -> list[str]:
    """Modules that are not of this project, so that every fork can have them from the beginning."""
    files = {name: getattr(sys.modules[name], "__file__", None) for name in names}
    return sorted(name for name, file in files.items() if file and "site-packages" in file and not file.startswith(str(root)))


def _import(names: Iterable[str]) -> None:
    for name in dict.fromkeys(names):
        try:
            importlib.import_module(name)
        except Exception:  # a module that only its own package can import
            continue
