"""Trials on a Ray cluster of this machine's own: the same results as without it, whatever dies."""

import contextlib
import importlib.metadata
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reskeras import RequestError
from reskeras.data import ImageData, from_arrays, from_npz
from reskeras.spec import CifarStem, Classifier, Recipe, ResNet, Stage, TrainSpec
from reskeras.training.state import Epoch
from tuning import Range, Space, tune
from tuning.record.events import Result
from tuning.running.cluster import Ray, _check, _division
from tuning.running.executor import Ended, Event, Lost, Reported
from tuning.running.trial import EvaluationJob, Job, Outcome, Verdict

pytest.importorskip("ray", reason="the extra reskeras[ray]")

pytestmark = pytest.mark.xdist_group("ray")


@pytest.fixture(autouse=True)
def _without_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")  # else Ray writes one into the home directory
    monkeypatch.delenv("RAY_ADDRESS", raising=False)


@pytest.fixture(scope="module")
def data(blobs: dict[str, np.ndarray]) -> ImageData:
    return from_arrays(blobs, name="blobs")


def recipe(epochs: int) -> Recipe:
    net = ResNet(
        input_shape=(8, 8, 1),
        stem=CifarStem(width=4),
        block={"kind": "basic"},
        stages=(Stage(blocks=1, width=8, stride=2),),
        head=Classifier(classes=3),
    )
    return Recipe(spec=net, train=TrainSpec(epochs=epochs, batch_size=32))


def assert_same(there: Result, here: Result) -> None:
    def told(result: Result) -> dict[int, tuple[Any, ...]]:
        return {r.number: (dict(r.values), r.status, r.epochs, r.score) for r in result.trials}

    assert told(there) == told(here)
    metrics = {record.number: record.metrics for record in here.trials}
    for record in there.trials:
        assert record.metrics == pytest.approx(metrics[record.number], rel=1e-3)
    assert there.test == pytest.approx(here.test, rel=1e-3)


def pid_of(worker: Any) -> int:
    import ray

    return int(ray.get(worker.actor.__ray_call__.remote(lambda _: os.getpid())))


class Deadly(Ray):
    """Kills the process of trial 2 while it trains its second epoch."""

    def __init__(self, *args: Any, **how: Any) -> None:
        super().__init__(*args, **how)
        self.events: list[Event] = []

    def answer(self, key: str, verdict: Verdict) -> None:
        victim = None
        if key == "trial-0002" and not any(isinstance(event, Lost) for event in self.events):
            victim = pid_of(next(worker for worker in self._workers if worker.key == key))
        super().answer(key, verdict)
        if victim is not None:
            os.kill(victim, signal.SIGKILL)

    def wait(self) -> Event:
        self.events.append(super().wait())
        return self.events[-1]


def test_the_trial_of_a_killed_worker_runs_again_and_the_scores_are_those_without_a_cluster(
    data: ImageData,
) -> None:
    space = Space(recipe(3), {"block.kind": ["plain", "basic"], "train.learning_rate": [0.01, 0.1]})
    here = tune(space, data, directory="here", oracle="grid", trials=4)
    cluster = Deadly(data, "local", directory="there", workers=2)
    assert cluster.slots == 2
    there = tune(space, data, directory="there", oracle="grid", trials=4, executor=cluster)
    assert [event.key for event in cluster.events if isinstance(event, Lost)] == ["trial-0002"]
    assert [record.status for record in there.trials] == ["completed"] * 4
    assert_same(there, here)


def test_an_oracle_stops_trials_on_a_cluster_as_it_does_here(data: ImageData) -> None:
    space = Space(recipe(4), {"train.learning_rate": Range(low=1e-4, high=1e-1, log=True)})
    here = tune(space, data, directory="here", oracle="asha", trials=6)
    there = tune(
        space,
        data,
        directory="there",
        oracle="asha",
        trials=6,
        executor=Ray(data, "local", directory="there", workers=1),
    )
    assert "stopped" in {record.status for record in there.trials}
    assert_same(there, here)


@pytest.fixture
def cluster(data: ImageData) -> Iterator[Ray]:
    with contextlib.closing(Ray(data, "local", directory="s", workers=1)) as started:
        yield started


def test_verdicts_failures_and_what_a_machine_lacks(
    cluster: Ray, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster.submit(
        EvaluationJob(
            key="test", model=Path("gone.keras"), name="gone", split="test", folder=Path("found")
        )
    )
    failed = cluster.wait()
    assert isinstance(failed, Ended)
    assert failed.outcome is None
    assert "gone.keras" in failed.error

    job = Job(key="a", recipe=recipe(3), state=Path("a.npz"), model=Path("a.keras"))
    for verdict, left in (
        (Verdict.END, set()),
        (Verdict.KEEP, {"a.keras"}),
        (Verdict.PAUSE, {"a.keras", "a.npz"}),
    ):
        cluster.submit(job)
        reported = cluster.wait()
        assert isinstance(reported, Reported)
        assert isinstance(reported.epoch, Epoch)
        cluster.answer("a", verdict)
        ended = cluster.wait()
        assert isinstance(ended, Ended)
        assert isinstance(ended.outcome, Outcome)
        assert ended.outcome.epochs == 1
        assert {path.name for path in Path().glob("a.*")} == left
    assert len({pid_of(worker) for worker in cluster._workers}) == 1

    import ray

    with monkeypatch.context() as patch:
        unseen = types.SimpleNamespace(name="/unseen/.seen-by-all-1")
        patch.setattr(tempfile, "NamedTemporaryFile", lambda **_: contextlib.nullcontext(unseen))
        with pytest.raises(RequestError, match=r": /unseen is not the folder that it is here"):
            _check(ray.nodes(), Path("s"))
    with monkeypatch.context() as patch:
        patch.setattr(importlib.metadata, "version", lambda _: "99.0")
        with pytest.raises(RequestError, match=r"reskeras is \S+ there and 99\.0 here"):
            _check(ray.nodes(), Path("s"))


def test_the_extra_is_named_where_it_is_missing(
    data: ImageData, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(
        RequestError,
        match=r"--ray needs the extra `ray`: pip install '\.\[ray\]' in a clone",
    ):
        Ray(data, "local", directory="s")


def test_addresses_that_are_none(data: ImageData) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        free = f"127.0.0.1:{unused.getsockname()[1]}"
    for address in (free, f"ray://{free}"):
        with pytest.raises(RequestError, match=f"--ray {address}: cannot connect"):
            Ray(data, address, directory="s")
    for address in ("here", "http://here:1", "here:port"):
        with pytest.raises(
            RequestError,
            match=f"--ray {address}: an address is local, auto, HOST:PORT or ray://HOST:PORT",
        ):
            Ray(data, address, directory="s")
    assert not Path("s").exists()


def test_what_one_worker_takes() -> None:
    def division(*nodes: dict[str, float], workers: int | None = None) -> tuple[Any, ...]:
        slots, resources, share = _division(list(nodes), workers)
        return slots, resources, share.threads

    assert division({"CPU": 8}, {"CPU": 5}) == (6, {"num_cpus": 2}, 2)
    assert division({"CPU": 8}, {"CPU": 5}, workers=4) == (4, {"num_cpus": 2}, 2)
    assert division({"CPU": 8}, {"CPU": 5}, workers=7) == (7, {"num_cpus": 1}, 1)
    assert division({"CPU": 8}, {"CPU": 5}, workers=99) == (13, {"num_cpus": 1}, 1)
    assert division({"CPU": 1}) == (1, {"num_cpus": 1}, 1)
    assert division({"CPU": 16}, {"CPU": 16, "GPU": 2}, {"CPU": 9, "GPU": 1}) == (
        3,
        {"num_gpus": 1, "num_cpus": 1},
        8,
    )
    with pytest.raises(RequestError, match="neither GPUs nor CPUs"):
        division({"memory": 1e9})


DRIVER = """
import sys
sys.path.insert(0, sys.argv[1])
from test_cluster import run_until_killed
run_until_killed()
"""


def run_until_killed() -> None:
    cluster = Ray(from_npz(Path("blobs.npz")), "local", directory="s", workers=1)
    cluster.submit(Job(key="a", recipe=recipe(2), state=Path("a.npz"), model=Path("a.keras")))
    cluster.wait()
    print(pid_of(cluster._workers[0]), flush=True)  # noqa: T201
    cluster.answer("a", Verdict.CONTINUE)
    cluster.wait()
    signal.pause()


@pytest.mark.usefixtures("blobs_npz")
def test_workers_end_with_a_killed_driver() -> None:
    command = [sys.executable, "-c", DRIVER, str(Path(__file__).parent)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as driver:
        assert driver.stdout is not None
        worker = Path("/proc", driver.stdout.readline().strip(), "cmdline")
        assert "ray::" in worker.read_text()
        driver.kill()
    deadline = time.monotonic() + 60
    while worker.exists() and "ray::" in worker.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.05)
