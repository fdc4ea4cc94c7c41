"""Two processes that torchrun has started run one command line after another: starting them takes longer than most commands."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from torch import distributed

import circuitry as ct
from support.command import called

PATIENCE = 300.0


def launch(*program: str) -> list[str]:
    """The command that starts a program in two processes."""
    return [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", *program]


def environment() -> dict[str, str]:
    """Of a process that imports this circuitry and computes with one thread."""
    folders = [str(Path(ct.__file__).parents[1]), str(Path(__file__).parents[1])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(folders), "OMP_NUM_THREADS": "1"}


class Two:
    """Both processes. They get their commands as files in a folder, and answer there."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.numbers = folder, itertools.count()
        self.process = subprocess.Popen(launch(__file__, str(folder)), env=environment())

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """What both said, one after the other, and the greater of their exit codes."""
        number = next(self.numbers)
        _put(self.folder / f"{number}.json", list(words))
        answers = [_wait(self.folder / f"{number}.{rank}.json", self.process) for rank in (0, 1)]
        codes, outs, errs = zip(*answers, strict=True)
        return subprocess.CompletedProcess(words, max(codes), "".join(outs), "".join(errs))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        _put(self.folder / f"{next(self.numbers)}.json", None)
        try:
            self.process.wait(PATIENCE)
        finally:
            self.process.terminate()  # which torchrun passes on


def _put(file: Path, value: object) -> None:
    """Write a file that is whole as soon as it is there."""
    new = file.with_suffix(".new")
    new.write_text(json.dumps(value))
    new.rename(file)


def _wait(file: Path, process: subprocess.Popen[bytes] | None = None) -> list[object]:
    deadline = time.monotonic() + PATIENCE
    while not file.exists():
        assert time.monotonic() < deadline and (process is None or process.poll() is None), f"{file.name} never came"
        time.sleep(0.02)
    answer: list[object] = json.loads(file.read_text())
    return answer


def _serve(folder: Path, rank: str) -> None:
    distributed.init_process_group("gloo")  # torchrun's store lets one process group be made; commands use one that is there
    for number in itertools.count():
        words = _wait(folder / f"{number}.json")
        if words is None:
            distributed.destroy_process_group()
            break
        _put(folder / f"{number}.{rank}.json", called(*map(str, words)))


if __name__ == "__main__":
    _serve(Path(sys.argv[1]), os.environ["RANK"])
