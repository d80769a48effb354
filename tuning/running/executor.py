"""Where trials run: in this process, in child processes, or on a cluster.

An executor takes jobs and yields events. After each epoch it waits for a verdict. It knows nothing
of oracles and journals. See also `tuning.running.cluster`.
"""

import contextlib
import dataclasses
import errno
import multiprocessing
import multiprocessing.connection
import os
import queue
import signal
import sys
import threading
import traceback
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

from reskeras.data import ImageData
from reskeras.errors import RequestError
from reskeras.training.state import Epoch
from tuning.running.machine import cores, visible_gpus, worker_context
from tuning.running.trial import (
    Epochs,
    EvaluationJob,
    Job,
    Outcome,
    Verdict,
    run_evaluation,
    run_trial,
)

RECYCLED_AFTER = 256 << 20
"""A worker whose resident memory has grown by this many bytes since its first trial is replaced:
TensorFlow leaks some megabytes per network, and compiled programs are kept."""
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclasses.dataclass(frozen=True)
class Reported:
    """A trial has trained an epoch and waits for a verdict."""

    key: str
    epoch: Epoch


@dataclasses.dataclass(frozen=True)
class Ended:
    """A trial is over, with an outcome or the reason for having none."""

    key: str
    outcome: Outcome | None
    error: str | None = None


@dataclasses.dataclass(frozen=True)
class Lost:
    """The process that ran a trial died."""

    key: str
    reason: str


@dataclasses.dataclass(frozen=True)
class DiskFull:
    """A trial could not write its files and is over; it may resume later."""

    key: str
    reason: str


Event = Reported | Ended | Lost | DiskFull


class Executor(Protocol):
    """Runs jobs, up to `slots` at once."""

    slots: int

    def submit(self, job: Job | EvaluationJob) -> None:
        """Starts a job; requires a free slot."""

    def wait(self) -> Event:
        """Waits for the next event; requires a running job."""

    def answer(self, key: str, verdict: Verdict) -> None:
        """Gives a trial that reported its verdict."""

    def close(self) -> None:
        """Ends all jobs at once."""


class InProcess:
    """Runs one trial at a time, in this process."""

    slots = 1

    def __init__(self, data: ImageData) -> None:
        self._jobs = Jobs(data)
        self._verdict: Verdict | None = None
        self._key = ""
        self._epochs: Epochs | None = None

    def submit(self, job: Job | EvaluationJob) -> None:
        self._key, self._epochs, self._verdict = job.key, self._jobs.begin(job), None

    def wait(self) -> Event:
        assert self._epochs is not None
        return advance(self._key, self._epochs, self._verdict)

    def answer(self, key: str, verdict: Verdict) -> None:
        self._verdict = verdict

    def close(self) -> None:
        if self._epochs is not None:
            self._epochs.close()


class Processes:
    """Runs trials in child processes, each with its share of the machine.

    If one dies, only its trial dies. A child ends when its parent does, for whatever reason.

    Args:
        data: opened again in each child.
        workers: number of children.
        log: a file for what they and the libraries print.
    """

    def __init__(self, data: ImageData, workers: int, log: Path) -> None:
        self.slots = workers
        self._data, self._log = data, log
        self._workers = [_Child(data, log, _share(number, workers)) for number in range(workers)]

    def submit(self, job: Job | EvaluationJob) -> None:
        idle = next(worker for worker in self._workers if worker.key is None)
        idle.begin(job)

    def wait(self) -> Event:
        busy = {worker.connection: worker for worker in self._workers if worker.key is not None}
        worker = busy[multiprocessing.connection.wait(list(busy))[0]]  # type: ignore[index]
        key = worker.key or ""
        try:
            event, grown = worker.connection.recv()
        except (EOFError, OSError):
            reason = worker.end()
            self._renew(worker)
            return Lost(key, reason)
        if not isinstance(event, Reported):
            worker.key = None
            if grown > RECYCLED_AFTER:
                worker.end()
                self._renew(worker)
        assert isinstance(event, Reported | Ended | DiskFull)
        return event

    def answer(self, key: str, verdict: Verdict) -> None:
        worker = next(worker for worker in self._workers if worker.key == key)
        with contextlib.suppress(OSError):  # `wait` reports a worker that has died meanwhile
            worker.connection.send(verdict)

    def close(self) -> None:
        for worker in self._workers:
            worker.end()

    def _renew(self, worker: "_Child") -> None:
        self._workers[self._workers.index(worker)] = _Child(self._data, self._log, worker.share)


class _Child:
    """A worker, as its parent sees it."""

    def __init__(self, data: ImageData, log: Path, share: "Share") -> None:
        self.share = share
        self.key: str | None = None
        self.connection, other = multiprocessing.Pipe()
        context = worker_context()
        self._process = context.Process(
            target=serve, args=(other, data, log, share, os.getcwd()), daemon=True
        )
        with _without_main():
            self._process.start()
        other.close()

    def begin(self, job: Job | EvaluationJob) -> None:
        self.key = job.key
        with contextlib.suppress(OSError):  # as in `answer`
            self.connection.send(job)

    def end(self) -> str:
        """Kills the process if it is alive, and says how it ended."""
        self.connection.close()
        self._process.join(1.0 if self.key is None else 0.0)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        code = self._process.exitcode
        if code is not None and code < 0:
            name = signal.Signals(-code).name
            hint = ", probably because memory ran out" if name == "SIGKILL" else ""
            return f"its process was killed ({name}){hint}"
        return f"its process ended with exit status {code}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Share:
    """A worker's share of the machine."""

    threads: int
    gpus: str | None
    """For CUDA_VISIBLE_DEVICES; None leaves it as it is."""


def _share(number: int, workers: int) -> Share:
    gpus = visible_gpus()
    mine = gpus[number::workers] or gpus[number % len(gpus) :][:1] if gpus else []
    return Share(
        threads=max(1, cores() // workers), gpus=",".join(mine) if gpus and workers > 1 else None
    )


@contextlib.contextmanager
def _without_main() -> Iterator[None]:
    # Children need nothing from the user's script, which multiprocessing would run again in each of
    # them.
    main = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


class Jobs:
    """Starts jobs in this process, and keeps what they can share."""

    def __init__(self, data: ImageData) -> None:
        self._data = data
        self._programs: Any = None
        self._begun = self._resident = 0

    @property
    def grown(self) -> int:
        """Bytes that this process has grown by since its first job."""
        return resident() - self._resident if self._begun > 1 else 0

    def begin(self, job: Job | EvaluationJob) -> Epochs:
        """A job, not yet running."""
        self._begun += 1
        if self._begun == 2:
            self._resident = resident()
        if isinstance(job, EvaluationJob):
            return run_evaluation(job, self._data)
        if self._programs is None:
            import keras

            if keras.backend.backend() == "tensorflow":
                from reskeras.training.compiled import Programs

                self._programs = Programs()
        return run_trial(job, self._data, self._programs)


def advance(key: str, epochs: Epochs, verdict: Verdict | None) -> Reported | Ended | DiskFull:
    """Runs a job up to its next epoch, or to its end."""
    try:
        return Reported(key, next(epochs) if verdict is None else epochs.send(verdict))
    except StopIteration as stop:
        return Ended(key, stop.value)
    except Exception as error:  # noqa: BLE001  one network must not end the search
        full = disk_full(error)
        return DiskFull(key, full) if full else Ended(key, None, reason_of(error))


def disk_full(error: BaseException) -> str | None:
    """Where the disk was full; None if the error has another cause."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno in _FULL:
            return f"{cause.filename or 'the disk'}: {os.strerror(cause.errno)}"
        cause = cause.__cause__ or cause.__context__
    return None


def reason_of(error: Exception) -> str:
    """An error as a record keeps it: the message of our own, the traceback of others."""
    if isinstance(error, RequestError | FloatingPointError):
        return str(error)
    return "".join(traceback.format_exception(error))


def serve(connection: Any, data: ImageData, log: Path, share: Share, directory: str) -> None:
    """The main loop of a worker: receives jobs and verdicts, sends events."""
    os.chdir(directory)  # multiprocessing starts it in the directory in which the parent loaded it
    # Ctrl-C is for the parent, which ends this process
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _redirect(log)
    with contextlib.suppress(OSError):
        # If memory runs out, the kernel kills the worker and not the search.
        Path("/proc/self/oom_score_adj").write_text("500", encoding="ascii")
    limit(share)
    inbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(connection, inbox), daemon=True).start()
    jobs = Jobs(data)
    while True:
        job = inbox.get()
        epochs, verdict = jobs.begin(job), None
        while True:
            event = advance(job.key, epochs, verdict)
            connection.send((event, jobs.grown))
            if not isinstance(event, Reported):
                break
            verdict = inbox.get()


def _listen(connection: Any, inbox: "queue.SimpleQueue[Any]") -> None:
    # In a separate thread, so the parent's end is noticed even during an epoch.
    try:
        while True:
            inbox.put(connection.recv())
    except (EOFError, OSError):
        os._exit(0)
    except Exception:  # noqa: BLE001  what cannot be understood must not be waited for
        traceback.print_exc()
        os._exit(1)


def _redirect(log: Path) -> None:
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    sys.stdout.flush()
    sys.stderr.flush()
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)


def limit(share: Share) -> None:
    """Limits this process to its share, before its framework starts."""
    if share.gpus is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = share.gpus
    import keras

    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        tf.config.threading.set_intra_op_parallelism_threads(share.threads)
        tf.config.threading.set_inter_op_parallelism_threads(share.threads)
        for gpu in tf.config.list_physical_devices("GPU"):
            # Otherwise one worker takes all of it
            tf.config.experimental.set_memory_growth(gpu, enable=True)


def resident() -> int:
    """Bytes of memory that this process holds."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except OSError:
        return 0  # not Linux: workers are not replaced
    return pages * os.sysconf("SC_PAGE_SIZE")
