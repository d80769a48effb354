"""Searches that are killed, starved and interrupted lose nothing."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reskeras.data import ImageData, from_arrays
from tuning.tracking import open_store, tracking_uri

TESTS = Path(__file__).parent


@pytest.fixture(scope="module")
def data(blobs: dict[str, np.ndarray]) -> ImageData:
    return from_arrays(blobs, name="blobs")


def journal(folder: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(folder, "journal.jsonl").read_text().splitlines()]


def trials(folder: str) -> list[dict[str, Any]]:
    return [{**entry, "seconds": 0} for entry in journal(folder) if entry["kind"] == "trial"]


class Forks:
    """Searches with stubs in forks of a process that has everything in memory."""

    def __init__(self, arrays: Path) -> None:
        code = f"import sys; sys.path.insert(0, {str(TESTS)!r}); import stubs; stubs.fork_searches({str(arrays)!r})"
        self.process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def answer(self) -> int:
        assert self.process.stdout is not None
        return int(self.process.stdout.readline())

    def start(self, **how: Any) -> int:
        """The process id of a search that has begun."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"mlflow": False, "cwd": str(Path.cwd()), **how}) + "\n")
        self.process.stdin.flush()
        return self.answer()

    def run(self, **how: Any) -> None:
        self.start(**how)
        status = self.answer()
        assert status == 0, Path("failure.txt").read_text()


@pytest.fixture(scope="module")
def forks(blobs: dict[str, np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forks]:
    arrays = tmp_path_factory.mktemp("blobs") / "blobs.npz"
    np.savez(arrays, **blobs)
    forks = Forks(arrays)
    yield forks
    forks.process.kill()
    forks.process.communicate()


def size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


@pytest.mark.parametrize(
    ("oracle", "kills", "mlflow"), [("asha", 20, True), ("hyperband", 10, False), ("nested", 10, False), ("tpe", 10, False)]
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
            # Some of the kills hit what comes after a line of the journal: listeners, MLflow's thread.
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
    for kind, keys in (("started", ["number"]), ("trial", ["number"]), ("epoch", ["number", "epoch"]), ("conclusion", [])):
        counts = Counter(tuple(entry[key] for key in keys) for entry in entries if entry["kind"] == kind)
        assert set(counts.values()) == {1}, kind
    epochs = [[(e["number"], e["epoch"]) for e in journal(where) if e["kind"] == "epoch"] for where in ("cut", "whole")]
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
