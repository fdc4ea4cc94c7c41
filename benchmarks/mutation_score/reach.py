"""Which tests call which function, and how long each test takes. Stored in a file; only what changed is measured again."""

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
    """CPU ``seconds`` by test, and the ``tests`` that call a function, by its ``modules.name_of``."""

    seconds: Mapping[str, float]
    tests: Mapping[str, set[str]]

    def of(self, mutant: Mutant, budget: float) -> dict[str, float]:
        """The tests that can notice a mutant, with their seconds: the fastest first, up to ``budget`` seconds in total.

        These are the tests that call its function. If it is in no function, or no test calls it, they are those that call any
        function of its file.
        """
        callers = self.tests.get(name_of(mutant.file, mutant.function), set())
        if not callers:
            callers = set().union(*(tests for name, tests in self.tests.items() if name.startswith(name_of(mutant.file, ""))))
        chosen, total = {}, 0.0
        for test in sorted(callers, key=lambda test: (self.seconds[test], test)):
            total += self.seconds[test]
            if total > budget and chosen:
                break
            chosen[test] = self.seconds[test]
        return chosen


def measured(root: Path, modules: Sequence[str], tests: Sequence[str], stored: Path | None, jobs: int) -> Reach:
    """Run every file of tests, and all doctests, without a mutant, each in its own fork. Raises SystemExit if a test fails."""
    results: dict[str, Any] = json.loads(stored.read_text()) if stored and stored.is_file() else {}
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

    missing = [group for group in groups if results.get(group, {}).get("digest") != digests[group]]
    for group, result, why in tqdm(forked(missing, run, jobs), total=len(missing), desc="without a mutant", unit="file"):
        if result is None or not result["passed"]:
            raise SystemExit(f"tests must pass without a mutant; {group} does not:\n{result['output'] if result else why}")
        results[group] = result
        if stored:
            stored.write_text(json.dumps(results))
    _import(name for group in groups for name in results[group]["imports"])
    return _joined([results[group] for group in groups])


def _joined(results: Sequence[Mapping[str, Any]]) -> Reach:
    tests: dict[str, set[str]] = {}
    for result in results:
        for test, functions in result["reached"].items():
            for function in functions:
                tests.setdefault(function, set()).add(test)
    return Reach({test: seconds for result in results for test, seconds in result["seconds"].items()}, tests)


def _helpers(root: Path, tests: Iterable[str]) -> list[str]:
    """The Python files in the folders of tests that are not tests."""
    folders = {(root / test).parent for test in tests if Path(test).name.startswith("test_")}
    return sorted(str(file.relative_to(root)) for folder in folders for file in folder.glob("*.py") if file.name[:5] != "test_")


def _digest(root: Path, files: Iterable[str]) -> str:
    """A digest of the code in some files; comments do not count."""
    digest = hashlib.sha256()
    for file in files:
        digest.update(ast.dump(ast.parse((root / file).read_text())).encode())
    return digest.hexdigest()


def _installed(root: Path, names: Iterable[str]) -> list[str]:
    """The installed packages among some modules. They are imported before forking, so that no fork has to."""
    files = {name: getattr(sys.modules[name], "__file__", None) for name in names}
    return sorted(name for name, file in files.items() if file and "site-packages" in file and not file.startswith(str(root)))


def _import(names: Iterable[str]) -> None:
    for name in dict.fromkeys(names):
        try:
            importlib.import_module(name)
        except Exception:  # a module that only its own package can import
            continue
