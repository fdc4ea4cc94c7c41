"""Runs tests in forks of a process that has imported the slow packages, but no module that is changed."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pytest

Task = TypeVar("Task")
PASSED, FAILED = 0, 1
SLOWER, AT_LEAST = 10, 20.0
"""A test may take SLOWER times its usual CPU seconds plus AT_LEAST seconds; after that it counts as failed."""


@dataclass(eq=False)
class Watch:
    """A pytest plugin that runs only ``chosen`` tests (None: all), in order, each with a time limit, and records the results."""

    chosen: Mapping[str, float] | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    reached: dict[str, set[str]] = field(default_factory=dict)
    failed: str = ""
    current: str = ""
    output: str = ""

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        if self.chosen is not None:
            by_name = {item.nodeid: item for item in items}
            items[:] = [by_name[name] for name in self.chosen if name in by_name]

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: Any) -> Iterator[None]:
        self.current = item.nodeid
        self.reached[self.current] = set()
        if self.chosen is not None:
            limit = AT_LEAST + SLOWER * self.chosen[self.current]
            signal.setitimer(signal.ITIMER_PROF, limit)
            signal.setitimer(signal.ITIMER_REAL, 10 * limit)  # for a test that waits and uses no CPU time
        begin = time.process_time()
        result = yield
        self.seconds[self.current] = time.process_time() - begin
        return result

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.failed and not self.failed:
            self.failed = report.nodeid

    def pytest_collectreport(self, report: Any) -> None:
        if report.failed and not self.failed:
            self.failed = f"{report.nodeid} (import)"

    def reach(self, function: str) -> None:
        """Record that the running test has called a function."""
        if self.current:
            self.reached[self.current].add(function)


def run_tests(root: Path, files: Iterable[str], watch: Watch, shown: bool) -> int:
    """Run tests of some files in this process; PASSED or FAILED. Their output goes to ``watch.output`` unless ``shown``."""
    printed = os.memfd_create("printed")
    for stream in () if shown else (1, 2):
        os.dup2(printed, stream)
    for number in (signal.SIGPROF, signal.SIGALRM):
        signal.signal(number, signal.SIG_DFL)  # the kernel ends the process, even inside a long call of C code
    options = ["-q", "-x", "-p", "no:cacheprovider", "-W", "ignore::pytest.PytestAssertRewriteWarning", f"--rootdir={root}"]
    code = pytest.main([*options, *files], plugins=[watch])
    sys.stdout.flush()
    watch.output = os.pread(printed, 1 << 20, 0).decode(errors="replace")
    return PASSED if code in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED) else FAILED


def forked(tasks: Sequence[Task], work: Callable[[Task], Any], jobs: int) -> Iterator[tuple[Task, Any, str]]:
    """Do each task in its own fork, ``jobs`` at a time. Yields the task, its result, and what ended it ("" if it returned).

    >>> sorted((task, result, why) for task, result, why in forked([2, 3], lambda n: n * n, jobs=2))
    [(2, 4, ''), (3, 9, '')]
    """
    running: dict[int, tuple[Task, int]] = {}
    waiting = list(reversed(tasks))
    while waiting or running:
        while waiting and len(running) < jobs:
            task = waiting.pop()
            child, pipe = _start(work, task)
            running[child] = task, pipe
        child, status = os.waitpid(-1, 0)
        task, pipe = running.pop(child)
        with os.fdopen(pipe) as answer:
            text = answer.read()
        yield task, json.loads(text) if text else None, "" if text else _why(status)


def _start(work: Callable[[Task], Any], task: Task) -> tuple[int, int]:
    """Start a fork that does a task; its process id, and the file to which it writes its answer."""
    # A file in memory, since a child that fills a pipe would wait for a parent that waits for the child.
    answer = os.memfd_create("answer")
    sys.stdout.flush()
    child = os.fork()
    if child:
        return child, answer
    try:
        text = json.dumps(work(task)).encode()
        os.pwrite(answer, text, 0)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(0)


def _why(status: int) -> str:
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) in (signal.SIGPROF, signal.SIGALRM):
        return "time"
    return f"signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else "exit"
