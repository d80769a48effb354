"""Trials on a Ray cluster: each worker is an actor; oracle, journal and MLflow stay here."""

import dataclasses
import importlib.metadata
import logging
import os
import signal
import socket
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from reskeras.data import ImageData
from reskeras.errors import RequestError, in_a_line
from tuning.running.executor import (
    RECYCLED_AFTER,
    DiskFull,
    Ended,
    Event,
    Jobs,
    Lost,
    Reported,
    Share,
    advance,
    limit,
)
from tuning.running.machine import cores
from tuning.running.trial import EvaluationJob, Job, Verdict

_CONNECT_SECONDS = 5.0
_PASSED_ON = ("KERAS_BACKEND", "TFDS_DATA_DIR")
"""Environment variables that workers inherit from this process."""


class Ray:
    """Runs trials on a Ray cluster, each in a process on one GPU, or on two cores without GPUs.

    If a process or a machine dies, its trials are lost, and the others continue with them. The
    processes end when this one ends, for whatever reason.

    Args:
        data: opened again in each process; a TFDS data set must be on each machine, or in a folder
            that all can read.
        address: `local` starts a cluster on this machine for the lifetime of this object. `auto` is
            the cluster that this machine belongs to, or that RAY_ADDRESS names. `HOST:PORT` or
            `ray://HOST:PORT` is another.
        directory: the search's. It and the working directory must be on storage that all machines
            see at the same path.
        workers: the most trials at once; None uses all of the cluster. Without GPUs, more than one
            worker per two cores leaves one core to each.

    Raises:
        RequestError: Ray is not installed, there is no cluster at the address, or one of its
            machines is not suitable.
    """

    def __init__(
        self, data: ImageData, address: str, *, directory: str | Path, workers: int | None = None
    ) -> None:
        self._workers: list[_Worker] = []
        _connect(address, max(cores(), workers or 0))
        try:
            import ray

            nodes = [node for node in ray.nodes() if node["Alive"]]
            _check(nodes, Path(directory))
            self.slots, resources, share = _division([node["Resources"] for node in nodes], workers)
            self._options = {
                "max_restarts": 0,
                "max_task_retries": 0,
                **resources,
                "runtime_env": _environment(),
            }
            self._given = (ray.put(data), share, os.getcwd())
        except BaseException:
            ray.shutdown()
            raise

    def submit(self, job: Job | EvaluationJob) -> None:
        worker = next((worker for worker in self._workers if worker.key is None), None)
        if worker is None:
            import ray

            worker = _Worker(ray.remote(_Actor).options(**self._options).remote(*self._given))
            self._workers.append(worker)
        worker.key, worker.coming = job.key, worker.actor.begin.remote(job)

    def wait(self) -> Event:
        import ray

        if any(worker.key is not None and not worker.answered for worker in self._workers):
            # A worker that no longer fits on the cluster waits until another one is idle.
            self._end([worker for worker in self._workers if worker.key is None])
        coming = {worker.coming: worker for worker in self._workers if worker.coming is not None}
        worker = coming[ray.wait(list(coming))[0][0]]
        assert worker.key is not None
        try:
            event, grown = ray.get(worker.coming)
        except ray.exceptions.RayTaskError:
            raise  # not a lost worker, but a bug in this module
        except ray.exceptions.RayError as error:
            self._end([worker])
            return Lost(worker.key, f"it lost its Ray worker ({type(error).__name__})")
        worker.coming, worker.answered = None, True
        if not isinstance(event, Reported):
            worker.key = None
            if grown > RECYCLED_AFTER:
                self._end([worker])
        assert isinstance(event, Reported | Ended | DiskFull)
        return event

    def answer(self, key: str, verdict: Verdict) -> None:
        worker = next(worker for worker in self._workers if worker.key == key)
        worker.coming = worker.actor.go_on.remote(verdict)

    def close(self) -> None:
        import ray

        self._end(list(self._workers))
        ray.shutdown()

    def _end(self, workers: "list[_Worker]") -> None:
        import ray

        for worker in workers:
            ray.kill(worker.actor)
            self._workers.remove(worker)


@dataclasses.dataclass(eq=False)
class _Worker:
    """An actor, as the driver sees it."""

    actor: Any
    key: str | None = None
    coming: Any = None
    """The pending event; None while it has no job or waits for a verdict."""
    answered: bool = False


class _Actor:
    """Runs one job after another in a process on the cluster; each call runs one epoch."""

    def __init__(self, data: ImageData, share: Share, folder: str) -> None:
        os.chdir(folder)
        limit(share)
        logging.getLogger("tensorflow").setLevel(logging.ERROR)
        self._jobs = Jobs(data)

    def begin(self, job: Job | EvaluationJob) -> tuple[Event, int]:
        self._key, self._epochs = job.key, self._jobs.begin(job)
        return self.go_on(None)

    def go_on(self, verdict: Verdict | None) -> tuple[Event, int]:
        return advance(self._key, self._epochs, verdict), self._jobs.grown


def _connect(address: str, cpus: int) -> None:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # It warns of every second in which it falls behind
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "error")
    if address == "local":
        # Not only for Windows, despite its name: without it, Ray listens on the network.
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    try:
        import ray
    except ModuleNotFoundError as error:
        raise RequestError(
            "--ray needs the extra `ray`: pip install '.[ray]' in a clone"
        ) from error
    found = os.environ.get("RAY_ADDRESS") or address if address == "auto" else address
    if found not in {"auto", "local"}:
        _knock(found)
    how: dict[str, Any] = {"num_cpus": cpus, "include_dashboard": False} if found == "local" else {}
    before = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(found, log_to_driver=False, logging_level=logging.ERROR, **how)
    except (ConnectionError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        raise RequestError(f"--ray {address}: {in_a_line(error)}") from error
    finally:
        signal.signal(signal.SIGTERM, before)  # Ray takes it


def _knock(address: str) -> None:
    """Checks the address, for which Ray itself would wait minutes."""
    where = urlsplit(address if "://" in address else f"ray://{address}")
    try:
        if where.scheme != "ray" or where.hostname is None or where.port is None:
            raise ValueError
    except ValueError as error:
        raise RequestError(
            f"--ray {address}: an address is local, auto, HOST:PORT or ray://HOST:PORT"
        ) from error
    try:
        socket.create_connection((where.hostname, where.port), timeout=_CONNECT_SECONDS).close()
    except OSError as error:
        raise RequestError(
            f"--ray {address}: cannot connect ({error}); `ray start --head` prints the address"
        ) from error


def _environment() -> dict[str, Any]:
    passed_on = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    return {"env_vars": {"TF_CPP_MIN_LOG_LEVEL": "2", **passed_on}}


def _check(nodes: list[dict[str, Any]], directory: Path) -> None:
    """Checks that each machine sees the search's folder and has this version of reskeras."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    folder, mine = os.getcwd(), importlib.metadata.version("reskeras")

    def lacks(probe: str) -> str | None:
        # Pickled by value, so a machine without reskeras can run it.
        for path in (probe, folder):
            if not os.path.exists(path):
                seen = os.path.dirname(probe) if path == probe else folder
                return (
                    f"{seen} is not the folder that it is here; a search needs one that all "
                    "machines see at the same path"
                )
        try:
            theirs = importlib.metadata.version("reskeras")
        except importlib.metadata.PackageNotFoundError:
            return f"reskeras is not installed there; here it is {mine}"
        return None if theirs == mine else f"reskeras is {theirs} there and {mine} here"

    directory.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(
        dir=directory.parent.absolute(), prefix=".seen-by-all-"
    ) as probe:
        answers = {}
        for node in nodes:
            there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            answers[node["NodeManagerHostname"]] = (
                ray.remote(lacks).options(num_cpus=0, scheduling_strategy=there).remote(probe.name)
            )
        wrong = [f"{name}: {lack}" for name, answer in answers.items() if (lack := ray.get(answer))]
    if wrong:
        raise RequestError("\n".join(wrong))


def _division(
    nodes: list[dict[str, float]], workers: int | None
) -> tuple[int, dict[str, float], Share]:
    """The number of workers, the resources of each, and its share of a machine."""
    gpus = [node for node in nodes if node.get("GPU", 0) >= 1]
    if gpus:
        room = sum(int(node["GPU"]) for node in gpus)
        threads = min(int(node.get("CPU", 1) // node["GPU"]) for node in gpus)
        return (
            min(workers or room, room),
            {"num_gpus": 1, "num_cpus": 1},
            Share(threads=max(1, threads), gpus=None),
        )
    for cpus in (2, 1):
        room = sum(int(node.get("CPU", 0)) // cpus for node in nodes)
        if room >= (workers or 1):
            break
    if room == 0:
        raise RequestError("the cluster has neither GPUs nor CPUs")
    return min(workers or room, room), {"num_cpus": cpus}, Share(threads=cpus, gpus=None)
