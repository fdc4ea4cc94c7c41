"""What processes of one run share, in this process: their parts of a batch, what they tell each other, and how one learns that another has ended."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import distributed

import circuitry as ct
from circuitry.errors import CircuitryError, GuardError
from circuitry.executing import answers
from circuitry.executing import distributed as sharing
from circuitry.executing.distributed import Distributed, current, together
from circuitry.executing.effects import Effects
from circuitry.executing.executor import EXAMPLES
from circuitry.executing.open import EXECUTORS, open_executor
from circuitry.executing.rows.chunks import chunks
from circuitry.executing.rows.executor import Rows
from circuitry.executing.suffix.executor import Suffix
from circuitry.patching.experiment import compile_path
from circuitry.planning import METRICS
from circuitry.results import PatchingTable
from circuitry.suites import Study
from circuitry.suites.folder import RunFolder
from circuitry.team import Team, present
from support import tiny

TASK = ct.task("induction", distance=8, examples=20, prefix=2)


# In one process, with the others' parts as they would send them.


class Half(Team):
    """Two processes, of which the other's part is here."""

    def __init__(self, rank: int, other: Any) -> None:
        super().__init__(rank, 2)
        object.__setattr__(self, "other", other)

    def gathered(self, mine: Any) -> list[Any]:
        return [mine, self.other] if self.rank == 0 else [self.other, mine]  # type: ignore[attr-defined]


def compiled(kind: str, path: str, examples: int = 20) -> tuple[ct.Model, Any, Any]:
    model = tiny.model(kind)
    made, prompts = compile_path(model, TASK.but(examples=examples), path, lint=False)
    return model, made, prompts


@pytest.mark.parametrize(
    ("kind", "path"), [("gpt2", "head[{layer},{head}] @ END -> logits"), ("rwkv", "resid[{layer}] @ B -> logits")]
)
@pytest.mark.parametrize("memory", [1 << 12, 1 << 28])
@pytest.mark.parametrize("name", EXECUTORS)
def test_shares_make_up_the_whole(kind: str, path: str, memory: int, name: str) -> None:
    model, made, prompts = compiled(kind, path)
    chosen = [METRICS["logit"], METRICS["kl"]]
    opener = EXECUTORS[name]
    wanted = opener(model, memory=memory, progress=False, team=Team()).run(made, prompts, chosen)
    inner = [opener(model, memory=memory, progress=False, team=Team(rank, 2)) for rank in range(2)]
    shares = [one.run(made, prompts, chosen) for one in inner]
    for one, other, all_ in zip(*shares, wanted, strict=True):
        there = [~np.isnan(part.effect) for part in (one, other)]
        assert (there[0] ^ there[1]).all() and there[0].any() and there[1].any()
        assert not np.isnan(all_.effect).any()
    for rank in range(2):
        found = Distributed(inner[rank], Half(rank, (shares[1 - rank], None))).run(made, prompts, chosen)
        for mine, all_ in zip(found, wanted, strict=True):
            for kept in ("effect", "base", "source"):
                assert (getattr(mine, kept) == getattr(all_, kept)).all()


def test_what_is_no_number_stays_so() -> None:
    nothing = np.full((1, 2), np.nan)
    known = np.array([[np.nan, 2.0]])

    class Inner:
        name, provenance = "inner", dict[str, str]()

        def run(self, *_: Any, **__: Any) -> list[Effects]:
            return [Effects(known, known, known)]

    found: Any = Distributed(Inner(), Half(0, ([Effects(nothing, nothing, nothing)], None)))  # type: ignore[arg-type]
    assert np.array_equal(found.run(None, None, [])[0].effect, known, equal_nan=True)


def test_batches_are_cut_alike_for_any_number_of_processes() -> None:
    model, made, prompts = compiled("gpt2", "mlp[{layer}] @ B -> logits")
    cut = [len(examples) for _, examples in chunks(made, model, len(prompts), prompts.length, 1 << 40)]
    assert cut == [EXAMPLES, 20 - EXAMPLES]
    assert Suffix(model, memory=1 << 40).cost(made, prompts, [METRICS["logit"]]).batches == 2


@pytest.mark.parametrize("error", [GuardError("nothing is reported"), ct.CircuitryError("other")])
def test_what_another_process_raises_is_raised(error: Exception) -> None:
    model, made, prompts = compiled("gpt2", "mlp[{layer}] @ B -> logits")
    with pytest.raises(type(error), match=str(error)):
        Distributed(Rows(model, memory=1 << 28), Half(0, ([], error))).run(made, prompts, [METRICS["logit"]])


def test_what_this_process_raises_is_told_to_the_others() -> None:
    told: list[Any] = []

    class Telling(Half):
        def gathered(self, mine: Any) -> list[Any]:
            told.append(mine)
            return super().gathered(mine)

    class Inner:
        name, provenance = "inner", dict[str, str]()

        def run(self, *_: Any, **__: Any) -> list[Effects]:
            raise ZeroDivisionError("inside")

    executor: Any = Distributed(Inner(), Telling(1, ([], None)))  # type: ignore[arg-type]
    with pytest.raises(ZeroDivisionError, match="inside"):
        executor.run(None, None, [])
    assert type(told[0][1]) is RuntimeError
    assert str(told[0][1]) == "ZeroDivisionError in another process: inside"


def test_guards_run_in_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    model, made, prompts = compiled("gpt2", "mlp[{layer}] @ B -> logits")
    checked: list[int] = []
    monkeypatch.setattr("circuitry.executing.rows.guarded.check", lambda *_: checked.append(1))
    for rank in range(3):
        Rows(model, memory=1 << 28, team=Team(rank, 3)).run(made, prompts, [METRICS["logit"]])
    assert len(checked) == 1


def test_alone_nothing_is_shared() -> None:
    with together() as every:
        assert every == Team() == current()
        assert isinstance(open_executor("rows", tiny.model("gpt2")), Rows)
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


# What processes tell each other, as threads that meet at a barrier.


def in_threads(count: int, work: Callable[[int], Any], monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """``work`` of every rank, with torch's collectives in their hands."""
    meeting, slots, found = threading.Barrier(count, timeout=60), [None] * count, [None] * count
    here = threading.local()

    def all_gather_object(into: list[Any], mine: Any) -> None:
        slots[here.rank] = mine
        meeting.wait()
        into[:] = slots
        meeting.wait()

    def broadcast_object_list(into: list[Any], _: int) -> None:
        if here.rank == 0:
            slots[0] = into[0]
        meeting.wait()
        into[0] = slots[0]
        meeting.wait()

    monkeypatch.setattr(distributed, "all_gather_object", all_gather_object)
    monkeypatch.setattr(distributed, "broadcast_object_list", broadcast_object_list)
    monkeypatch.setattr(distributed, "barrier", lambda: meeting.wait())

    def run_one(rank: int) -> None:
        here.rank = rank
        found[rank] = work(rank)

    threads = [threading.Thread(target=run_one, args=(rank,)) for rank in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def test_one_process_finds_and_writes_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = PatchingTable.of([{}], np.ones((1, 2)), np.zeros(2), np.ones(2), "logit")
    made: list[int] = []
    record = {"identity": {}, "suite": "s"}

    def work(rank: int) -> Any:
        sharing._TEAM.set(Team(rank, 2))
        folder = RunFolder.open(tmp_path, "run", record)
        assert folder.team == Team(rank, 2)
        with folder.held():
            for key in ("a", "a", "b"):
                table = folder.part(key, lambda: made.append(rank) or one)  # type: ignore[func-returns-value]
            folder.keep("kept", table)
            folder.finish()
        return folder.path, folder.record["state"], folder.record["tables"], table.mean().tolist()

    found = in_threads(2, work, monkeypatch)
    assert found == [(tmp_path / "run", "complete", ["kept"], [1.0])] * 2
    assert sorted(made) == [0, 0, 1, 1], "every process takes part in what is made, and in nothing that is there"
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_processes_share_the_prompts_of_the_baseline(monkeypatch: pytest.MonkeyPatch) -> None:
    study = Study(ct.load("bundled:gpt_neox"), ct.task("induction", distance=8, examples=20))
    alone = study.baseline()
    run: list[int] = []
    of_batch = answers._of_batch

    def work(rank: int) -> dict[str, float]:
        sharing._TEAM.set(Team(rank, 2))
        return study.baseline()

    def noted(*given: Any) -> Any:
        run.append(sharing.current().rank)
        return of_batch(*given)

    monkeypatch.setattr(answers, "_of_batch", noted)
    assert in_threads(2, work, monkeypatch) == [alone, alone]
    assert sorted(run) == [0, 0, 1, 1], "clean and corrupted, of a batch of 16 prompts and one of 4"


def test_who_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    ended = threading.Event()

    def work(rank: int) -> str:
        if rank == 1:
            with pytest.raises(CircuitryError, match="no space"), present(Team(1, 2)) as every:
                every.told("")
                raise CircuitryError("no space\nat all")
            ended.set()
            return ""
        with present(Team(0, 2)) as every:
            assert every.ended() == "another of 2 processes has ended"
            every.told("")
            assert ended.wait(60)
            return every.ended()

    assert in_threads(2, work, monkeypatch)[0] == "process 1 of 2 has ended (CircuitryError: no space)"


def test_a_closed_connection_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def closed(*_: Any) -> None:
        raise RuntimeError("Connection closed by peer [127.0.0.1]:4242")

    for name in ("all_gather_object", "broadcast_object_list", "barrier"):
        monkeypatch.setattr(distributed, name, closed)
    team = Team(0, 3)
    for meet in (lambda: team.gathered(1), lambda: team.told(1), team.wait):
        with pytest.raises(CircuitryError) as found:
            meet()
        assert str(found.value) == (
            "another of 3 processes has ended, so the others stop. Every written file is complete; run the same command to resume"
        )
