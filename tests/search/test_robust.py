"""Searches that are killed, starved and interrupted lose nothing."""

import contextlib
import dataclasses
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import stubs
from stubs import ENDLESS, KILLED_ALWAYS, KILLED_ONCE, score_of, tiny

from reskeras.data import ImageData, from_arrays
from reskeras.errors import RequestError
from reskeras.spec.text import dump_recipe, load_recipe
from reskeras.training.state import Epoch
from tuning import Space, tune
from tuning.record.entries import TrialRecord
from tuning.record.events import Listener, Trial
from tuning.running.executor import InProcess, Lost, Processes
from tuning.running.trial import Verdict
from tuning.space.limits import Limits
from tuning.tracking import open_store, tracking_uri

TESTS = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def data(blobs: dict[str, np.ndarray]) -> ImageData:
    return from_arrays(blobs, name="blobs")


def journal(folder: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(folder, "journal.jsonl").read_text().splitlines()]


def trials(folder: str) -> list[dict[str, Any]]:
    measured = {"seconds": 0, "time": 0, "peak_memory": None, "crc": None}  # crc covers the others
    return [{**entry, **measured} for entry in journal(folder) if entry["kind"] == "trial"]


class Forks:
    """Searches with stubs in forks of a process that has everything in memory."""

    def __init__(self, arrays: Path) -> None:
        code = (
            f"import sys; sys.path.insert(0, {str(TESTS)!r}); import stubs; "
            f"stubs.fork_searches({str(arrays)!r})"
        )
        self.process = subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def answer(self) -> int:
        assert self.process.stdout is not None
        return int(self.process.stdout.readline())

    def start(self, **how: Any) -> int:
        """The process id of a search that has begun."""
        assert self.process.stdin is not None
        self.process.stdin.write(
            json.dumps({"mlflow": False, "cwd": str(Path.cwd()), **how}) + "\n"
        )
        self.process.stdin.flush()
        return self.answer()

    def run(self, **how: Any) -> None:
        self.start(**how)
        status = self.answer()
        assert status == 0, Path("failure.txt").read_text()


@pytest.fixture(scope="module")
def forks(
    blobs: dict[str, np.ndarray], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Forks]:
    arrays = tmp_path_factory.mktemp("blobs") / "blobs.npz"
    np.savez(arrays, **blobs)
    forks = Forks(arrays)
    yield forks
    forks.process.kill()
    forks.process.communicate()


def size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


@pytest.mark.parametrize(
    ("oracle", "kills", "mlflow"),
    [("asha", 8, True), ("hyperband", 5, False), ("nested", 5, False)],
)
def test_a_search_that_is_killed_at_random_moments_ends_as_if_it_never_was(
    forks: Forks, oracle: str, kills: int, mlflow: bool
) -> None:
    how = {"oracle": oracle, "trials": 30, "seed": 3}
    forks.run(directory="whole", **how)
    whole = size(Path("whole/journal.jsonl"))
    if mlflow:
        open_store(tracking_uri(None))  # which takes longer than all these trials
    moments, killed, path = random.Random(5), 0, Path("cut/journal.jsonl")
    for point in [*sorted(moments.randrange(whole) for _ in range(kills)), None]:
        pid = forks.start(directory="cut", mlflow=mlflow, **how)
        if point is not None:
            deadline = time.monotonic() + 60
            while size(path) < point and time.monotonic() < deadline:
                pass
            # Some of the kills hit what comes after a line of the journal: listeners, MLflow's
            # thread.
            linger = time.monotonic() + moments.choice([0.0, 0.01, 0.1])
            while time.monotonic() < linger:
                pass
            os.kill(pid, signal.SIGKILL)
        status = forks.answer()
        killed += status == signal.SIGKILL
        assert status in (0, signal.SIGKILL), Path("failure.txt").read_text()
    assert killed > kills / 2
    assert trials("cut") == trials("whole")
    entries = journal("cut")
    for kind, keys in (
        ("started", ["number"]),
        ("trial", ["number"]),
        ("epoch", ["number", "epoch"]),
        ("conclusion", []),
    ):
        counts = Counter(
            tuple(entry[key] for key in keys) for entry in entries if entry["kind"] == kind
        )
        assert set(counts.values()) == {1}, kind
    epochs = [
        [(e["number"], e["epoch"]) for e in journal(where) if e["kind"] == "epoch"]
        for where in ("cut", "whole")
    ]
    assert sorted(epochs[0]) == sorted(epochs[1])
    assert Path("cut/best.yaml").read_text() == Path("whole/best.yaml").read_text()
    assert Path("cut/best.keras").read_text() == Path("whole/best.keras").read_text()
    if mlflow:
        runs = open_store(tracking_uri(None)).search_runs(["1"])
        assert "RUNNING" not in {run.info.status for run in runs}
        ended = {
            int(r.data.tags["reskeras.trial"]): r
            for r in runs
            if r.info.status in ("FINISHED", "FAILED") and "reskeras.trial" in r.data.tags
        }
        assert {number: run.data.metrics["val_accuracy"] for number, run in ended.items()} == {
            entry["number"]: pytest.approx(entry["score"]) for entry in trials("whole")
        }


# Workers


@pytest.fixture
def stub_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tuning.running.executor.serve", stubs.serve)


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch, stub_workers: None) -> None:
    monkeypatch.setattr("tuning.running.executor.run_trial", stubs.run_trial)
    monkeypatch.setattr("tuning.running.executor.run_evaluation", stubs.run_evaluation)


class Recipes(Listener):
    """What a search tells while it runs."""

    def __init__(self) -> None:
        self.recipes: dict[int, Any] = {}
        self.epochs: list[tuple[int, int]] = []

    def trial_started(self, trial: Trial) -> None:
        self.recipes[trial.number] = trial.recipe

    def epoch_ended(self, trial: Trial, epoch: Epoch) -> None:
        self.epochs.append((trial.number, epoch.number))


@pytest.mark.usefixtures("stub_workers")
def test_the_death_of_a_worker_is_its_trials_alone_and_that_is_tried_again(data: ImageData) -> None:
    space = tiny(3, **{"train.batch_size": [16, KILLED_ONCE, 32, KILLED_ALWAYS, 64]})
    watch = Recipes()
    result = tune(
        space, data, directory="s", oracle="grid", trials=None, workers=2, listeners=[watch]
    )
    found = {record.values["train.batch_size"]: record for record in result.trials}
    assert len(found) == 5
    for batch, record in found.items():
        told = [epoch for number, epoch in watch.epochs if number == record.number]
        if batch == KILLED_ALWAYS:
            assert record.status == "failed"
            assert (
                record.error
                == "its process was killed (SIGKILL), probably because memory ran out, 3 "
                "times"
            )
            assert told == [1]
        else:
            assert record.status == "completed"
            assert record.score == score_of(watch.recipes[record.number]) + 0.03
            assert told == [1, 2, 3]


def pids(executor: Processes) -> list[int]:
    return [worker._process.pid for worker in executor._workers]


@pytest.mark.usefixtures("stub_workers")
def test_a_worker_that_dies_while_idle_is_replaced(data: ImageData) -> None:
    Path("s").mkdir()
    executor = Processes(data, 1, Path("s/workers.log"))
    seen = [*pids(executor)]

    class Kill(Listener):
        def trial_ended(self, trial: Trial, record: TrialRecord | None) -> None:
            if trial.number == 1:
                os.kill(seen[0], signal.SIGKILL)

    result = tune(tiny(), data, directory="s", trials=3, executor=executor, listeners=[Kill()])
    assert [record.status for record in result.trials] == ["completed"] * 3
    assert pids(executor) != seen


@pytest.mark.parametrize("oracle", ["random", "grid"])
@pytest.mark.usefixtures("stub")
def test_workers_change_nothing_in_what_random_and_grid_find(
    data: ImageData, oracle: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of one epoch, for the median rule of `random`, like every early end, depends on who reports
    first."""
    space = tiny(1, **{"block.kind": ["plain", "basic"], "train.learning_rate": [0.01, 0.03, 0.1]})
    results = [
        tune(space, data, directory=f"s{workers}", oracle=oracle, trials=5, workers=workers).trials
        for workers in (None, 1, 2)
    ]
    renewed = []
    renew = Processes._renew
    monkeypatch.setattr("tuning.running.executor.RECYCLED_AFTER", -(1 << 40))
    monkeypatch.setattr(Processes, "_renew", lambda *args: (renewed.append(1), renew(*args)))
    results.append(
        tune(space, data, directory="recycled", oracle=oracle, trials=5, workers=1).trials
    )
    assert len(renewed) == 6  # after each trial and the test
    told = [
        {(record.number, tuple(record.values.items()), record.score) for record in trials}
        for trials in results
    ]
    assert len(told[0]) == 5
    assert told == [told[0]] * 4


def descendants(pid: int) -> set[tuple[int, str]]:
    """Processes below one, each with when it began: process ids are used again."""
    found: dict[int, tuple[int, str]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            words = stat.read_text().rpartition(")")[2].split()
            if words[0] != "Z":
                found[int(stat.parent.name)] = int(words[1]), words[19]
    below, last = {pid}, set[int]()
    while below != last:
        last, below = (
            below,
            below | {child for child, (parent, _) in found.items() if parent in below},
        )
    return {(child, found[child][1]) for child in below - {pid}}


def alive(process: tuple[int, str]) -> bool:
    with contextlib.suppress(OSError):
        words = Path(f"/proc/{process[0]}/stat").read_text().rpartition(")")[2].split()
        return words[0] != "Z" and words[19] == process[1]
    return False


def wait_until(true: Callable[[], Any], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.01)


def entries_of(folder: str, kind: str) -> int:
    path = Path(folder, "journal.jsonl")
    return path.read_text().count(f'"kind": "{kind}"') if path.exists() else 0


def test_no_process_outlives_a_search_that_is_killed(forks: Forks) -> None:
    pid = forks.start(
        directory="s",
        oracle="grid",
        trials=None,
        workers=2,
        vary={"train.batch_size": [ENDLESS, 16, 12]},
    )
    # One worker is in an epoch that never ends, the other idle
    wait_until(lambda: entries_of("s", "trial") == 2)
    children = descendants(pid)
    assert len(children) >= 3  # the workers, and who forks them
    os.kill(pid, signal.SIGKILL)
    assert forks.answer() == signal.SIGKILL
    wait_until(lambda: not any(map(alive, children)))


def test_an_interrupted_trial_goes_on_from_its_checkpoint_or_begins_again_where_that_is_damaged(
    forks: Forks,
) -> None:
    how = {"real": True, "trials": 3, "workers": 1, "oracle": "asha", "seed": 1}
    forks.run(directory="whole", **how)
    assert all(record["epochs"] == 8 for record in trials("whole")[:2])
    for epochs in (4, 12):
        pid = forks.start(directory="cut", **how)
        wait_until(lambda epochs=epochs: entries_of("cut", "epoch") >= epochs, 120)
        children = descendants(pid)
        os.kill(pid, signal.SIGKILL)
        forks.answer()
        wait_until(lambda children=children: not any(map(alive, children)))
    (state,) = Path("cut/states").glob("trial-*.npz")
    state.write_bytes(state.read_bytes()[:-1000])
    forks.run(directory="cut", **how)
    assert trials("cut") == trials("whole")
    trained = Counter(Path("cut/epochs.txt").read_text().splitlines())
    by_trial: dict[str, list[int]] = {}
    for line in trained.elements():
        seed, epoch = line.split()
        by_trial.setdefault(seed, []).append(int(epoch))
    first, second, _ = by_trial.values()
    assert first.count(1) == 1  # it went on
    assert second.count(1) == 2  # it began again


# Disks, interrupts, other requests


@pytest.mark.parametrize("size", [2500, 5000, 10000])
def test_a_journal_that_finds_no_space_ends_the_search_clearly_and_stays_whole(
    forks: Forks, size: int
) -> None:
    how = {"oracle": "asha", "trials": 12, "seed": 3}
    forks.run(directory="whole", **how)
    forks.start(directory="cut", file_bytes=size, **how)
    assert os.waitstatus_to_exitcode(forks.answer()) == 1
    told = Path("failure.txt").read_text().splitlines()[-1]
    assert re.fullmatch(
        r"RuntimeError: .*cut/journal\.jsonl: .*; what is written so far is intact\. "
        r"Fix this, then run the same command to resume",
        told,
    )
    before = journal("cut")  # all of it can be read
    assert 0 < len(before) < len(journal("whole"))
    forks.run(directory="cut", **how)
    assert journal("cut")[: len(before)] == before
    assert trials("cut") == trials("whole")


@pytest.mark.parametrize("workers", [None, 1])
@pytest.mark.usefixtures("stub")
def test_a_model_that_finds_no_space_does_not_make_its_trial_fail(
    data: ImageData, workers: int | None
) -> None:
    Path("full").touch()
    with pytest.raises(
        RuntimeError,
        match=r"\.trial-0001\.keras: No space left on device; .* run the same command to resume",
    ):
        tune(tiny(), data, directory="s", trials=2, workers=workers)
    assert entries_of("s", "trial") == 0
    Path("full").unlink()
    result = tune(tiny(), data, directory="s", trials=2, workers=workers)
    assert [record.status for record in result.trials] == ["completed"] * 2


@pytest.mark.parametrize("gap", [0.0, 0.3])
def test_two_interrupts_end_the_command_cleanly(forks: Forks, blobs_npz: Path, gap: float) -> None:
    space = tiny(3, **{"train.batch_size": [16, ENDLESS]})
    Path("space.yaml").write_text(space.dump())
    command = [
        "tune",
        "space.yaml",
        "--data",
        str(blobs_npz),
        "--oracle",
        "grid",
        "--trials",
        "3",
        "--name",
        "s",
    ]
    pid = forks.start(command=command)
    wait_until(
        lambda: entries_of("searches/s", "started") == 2 and entries_of("searches/s", "epoch") == 4
    )
    children = descendants(pid)
    os.kill(pid, signal.SIGINT)
    end = time.monotonic() + gap
    while time.monotonic() < end:
        pass
    os.kill(pid, signal.SIGINT)
    status = os.waitstatus_to_exitcode(forks.answer())
    output = Path("output.txt").read_text()
    assert status == 130, output
    assert "Traceback" not in output
    assert "so far in" in output
    assert "the same command resumes" in output
    wait_until(lambda: not any(map(alive, children)))
    # The endless trial is no longer in the space's file, but it began: with other batches it is
    # another search.
    Path("space.yaml").write_text(tiny(3, **{"train.batch_size": [16, 12]}).dump())
    forks.start(command=command)
    assert os.waitstatus_to_exitcode(forks.answer()) == 2
    told = Path("output.txt").read_text().splitlines()
    assert any("vary.train.batch_size.1: it has 11, now 12" in line for line in told)


@pytest.mark.usefixtures("stub")
def test_what_is_searched_may_not_change_and_how_long_may(data: ImageData) -> None:
    space = tiny(2, **{"block.kind": ["plain", "basic"], "train.learning_rate": [0.01, 0.1]})
    how: dict[str, Any] = {"directory": "s", "oracle": "random", "trials": 2}
    tune(space, data, **how)
    began = Space(space.base, space.vary, start=[{"block.kind": "plain"}])
    otherwise = tiny(2, **{"block.kind": ["plain", "dense"], "train.learning_rate": [0.01, 0.1]})
    for other, settings, difference in (
        (otherwise, {}, r'vary\.block\.kind\.1: it has "basic"'),
        (began, {}, r"start\.0\.block\.kind: it has nothing, now \"plain\""),
        (space, {"epochs": 3}, r"train\.epochs: it has 2, now 3"),
        (space, {"oracle": "grid"}, r'oracle: it has "random", now "grid"'),
        (space, {"objective": "val_loss"}, "objective: it has"),
    ):
        before = Path("s/journal.jsonl").read_bytes()
        with pytest.raises(RequestError, match=difference):
            tune(other, data, **(how | settings))
        assert Path("s/journal.jsonl").read_bytes() == before
    more = [
        {"trials": 3},
        {"trials": 3, "minutes": 9.0},
        {"trials": 3, "workers": 1},
        {"trials": 3, "limits": Limits(params=10**9)},
        {"trials": 3, "target": 0.0},
        {"trials": 3, "final_epochs": 1, "final_seeds": 2},
        {"trials": 4},
    ]
    for settings in more:
        result = tune(space, data, **(how | settings))
        assert len(result.trials) == settings["trials"]


@pytest.mark.usefixtures("stub")
def test_a_search_that_reached_its_target_has_ended_for_good(data: ImageData) -> None:
    first = tune(tiny(), data, directory="s", trials=None, target=0.8)
    before = Path("s/journal.jsonl").read_text()
    again = tune(tiny(), data, directory="s", trials=None, target=0.8)
    assert len(again.trials) == len(first.trials)
    assert Path("s/journal.jsonl").read_text() == before


@pytest.mark.usefixtures("stub")
def test_the_model_that_is_kept_is_the_one_that_is_told_whatever_was_kept_before(
    data: ImageData,
) -> None:
    def kept() -> tuple[int, int]:
        recipe = load_recipe("s/best.yaml")
        assert Path("s/best.keras").read_text() == dump_recipe(recipe)
        return recipe.train.epochs, recipe.train.seed

    tune(tiny(), data, directory="s", trials=3)
    trial = kept()
    tune(tiny(), data, directory="s", trials=3, final_epochs=5)
    final = kept()
    assert final[0] == 5
    tune(tiny(), data, directory="s", trials=3)
    assert kept() == trial
    tune(tiny(), data, directory="s", trials=3, final_epochs=5)
    assert kept() == final
    finals = [entry for entry in journal("s") if entry["kind"] == "final"]
    assert len(finals) == 1  # it was made again, not counted again


@pytest.mark.usefixtures("stub")
def test_a_journal_that_does_not_hang_together_is_refused_in_a_line(data: ImageData) -> None:
    tune(tiny(), data, directory="s", trials=2)
    lines = Path("s/journal.jsonl").read_text().splitlines(keepends=True)
    for kept, where in (
        ([line for line in lines if '"kind": "started"' not in line], 2),
        (lines[1:], 1),
    ):
        Path("s/journal.jsonl").write_text("".join(kept))
        with pytest.raises(
            RequestError,
            match=rf"s/journal\.jsonl:{where}: not a line of a journal of this version \(.*--fresh",
        ):
            tune(tiny(), data, directory="s", trials=2)


def test_mlflows_store_is_there_in_full_or_not_at_all(forks: Forks) -> None:
    for _ in range(3):
        pid = forks.start(directory="s", trials=2, mlflow=True)
        wait_until(
            lambda: (
                list(Path().glob(".*.partial.mlflow.db*"))
                and max(map(size, Path().glob(".*.partial.mlflow.db"))) > 0
            )
        )
        os.kill(pid, signal.SIGKILL)
        forks.answer()
        assert not Path("mlflow.db").exists()
    forks.run(directory="s", trials=2, mlflow=True)
    runs = open_store(tracking_uri(None)).search_runs(["1"])
    assert sorted(run.info.status for run in runs) == ["FINISHED"] * 3
    assert not list(Path().glob(".*.partial.*"))


@pytest.mark.usefixtures("stub")
def test_a_worker_that_dies_while_its_trial_is_paused_is_not_started_again_in_this_session(
    data: ImageData, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    for module in ("tune", "loop"):
        clock = SimpleNamespace(
            monotonic=lambda: now[0], perf_counter=time.perf_counter, time=time.time
        )
        monkeypatch.setattr(f"tuning.search.{module}.time", clock)
    begun: list[str] = []

    class Dies(InProcess):
        def submit(self, job: Any) -> None:
            begun.append(job.key)
            super().submit(job)

        def wait(self) -> Any:
            return Lost(self._key, "it died") if self._verdict is Verdict.PAUSE else super().wait()

    class TimeIsUp(Listener):
        def epoch_ended(self, trial: Trial, epoch: Epoch) -> None:
            now[0] += 61.0 if trial.number == 2 else 0.0

    space = tiny(3)
    result = tune(
        space, data, directory="s", trials=3, minutes=1, executor=Dies(data), listeners=[TimeIsUp()]
    )
    assert [record.number for record in result.trials] == [1]
    assert begun == ["trial-0001", "trial-0002", "evaluation"]
    whole = tune(space, data, directory="whole", trials=3)
    later = tune(space, data, directory="s", trials=3)
    assert later.trials == tuple(
        dataclasses.replace(r, seconds=s.seconds, peak_memory=s.peak_memory)
        for r, s in zip(whole.trials, later.trials, strict=True)
    )
