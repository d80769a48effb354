"""`tune`: a search from its arguments to its result."""

import contextlib
import itertools
import os
import time
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

import filelock

from reskeras.data import ImageData
from reskeras.data.store import cached
from reskeras.errors import RequestError
from reskeras.files import write_text
from reskeras.tasks import objective_of
from tuning.oracles import make_oracle
from tuning.record.entries import FinalPlan
from tuning.record.events import Ending, Listener, Result, Search
from tuning.record.journal import Journal, lock_of
from tuning.record.kept import Keep
from tuning.record.repair import repair as repair_journal
from tuning.running.devices import check_strategy
from tuning.running.executor import Executor, InProcess, Processes, disk_full
from tuning.search.conclude import conclude
from tuning.search.fitting import fitted
from tuning.search.loop import Budget, Loop, disk_is_full
from tuning.settings import DEFAULT_ORACLE, Strategy
from tuning.space import Space
from tuning.space.limits import Limits


def tune(
    space: Space,
    data: ImageData,
    *,
    directory: str | Path,
    oracle: str = DEFAULT_ORACLE,
    trials: int | None = 20,
    epochs: int | None = None,
    minutes: float | None = None,
    target: float | None = None,
    final_epochs: int = 0,
    final_top: int = 1,
    final_seeds: int = 1,
    seed: int = 0,
    fresh: bool = False,
    repair: bool = False,
    objective: str | None = None,
    workers: int | None = None,
    strategy: Strategy = Strategy.NONE,
    limits: Limits = Limits(),  # noqa: B008  a frozen value
    keep: Keep = Keep(),  # noqa: B008  a frozen value
    executor: Executor | None = None,
    command: Sequence[str] = (),
    listeners: Sequence[Listener] = (),
) -> Result:
    """Searches a space on a data set, or resumes an interrupted search.

    The journal in the directory holds everything that happened. Called again with the same
    settings, the search replays it to the oracle, which then continues with the same suggestions,
    and runs what remains. Interrupted trials resume from their last saved state, or start over.

    Args:
        space: what to search; its network is fitted to the data's image shape and number of
            classes.
        data: trials train on `train` and are compared on `val`; `test` is used once, for the
            winner, at the end.
        directory: for the search's files: `journal.jsonl`, `space.yaml`, `leaderboard.csv`,
            `best.yaml`, `best.keras`, `report.html`, `factors.svg`.
        oracle: one of `tuning.settings.ORACLES`.
        trials: the total number, including earlier sessions; None leaves it to `minutes`, `target`
            or the oracle.
        epochs: the most epochs of a trial; None uses the space's own number.
        minutes: length of this session. Trials that are running then pause at the end of their
            epoch, unless none has ended yet.
        target: the search ends at the first epoch with a score this good.
        final_epochs: epochs of final trainings, from scratch, of the best networks; the best one's
            model is then the one kept. 0 skips them.
        final_top: how many networks get final trainings.
        final_seeds: final trainings per network, with different seeds; the best mean wins.
        seed: the seed of the oracle, and, with the trial's number, of each trial's weights and data
            order.
        fresh: start over; an earlier search in the directory is renamed to `DIRECTORY.old1` (or 2,
            ...).
        repair: leave damaged lines out of the journal (see `tuning.record.repair`).
        objective: a metric of the task on the validation split, such as `val_accuracy` or
            `val_loss`; None is the task's first.
        workers: how many child processes run trials at once; None runs them one by one in this
            process.
        strategy: how a trial uses several devices (docs/devices.md).
        limits: networks that exceed them neither run nor count.
        keep: which trials' models to keep in `DIRECTORY/models`, besides the best one's.
        executor: where trials run, instead of `workers`; it is closed at the end.
        command: the command line that repeats this search, word by word, for its reports.
        listeners: receive the events of the search.

    Raises:
        RequestError: the space does not fit the data or the devices, or the directory holds another
            search.
        RuntimeError: no trial has a score, or the journal cannot be written.
        KeyboardInterrupt: interrupted; the same call resumes.
    """
    with contextlib.ExitStack() as stack:
        if executor is not None:
            stack.callback(executor.close)
        objective = objective_of(data.task, objective)
        space = fitted(space, data)
        if epochs is not None:
            space = space.with_train(epochs=epochs)
        if trials is None and minutes is None and target is None and oracle != "grid":
            raise RequestError("a search needs an end: trials, minutes or a target")
        if executor is None:
            check_strategy(strategy, space, workers)
        most = space.base.train.epochs
        # Before anything is written, because it may refuse the space.
        chooser = make_oracle(
            oracle, space, objective=objective, seed=seed, epochs=most, start=space.start
        )
        directory = Path(directory)
        stack.enter_context(_locked(directory))
        stack.enter_context(_clear_when_full())
        if fresh:
            _set_aside(directory)
        directory.mkdir(exist_ok=True)
        path = directory / "journal.jsonl"
        left_out = tuple(repair_journal(path)) if repair and path.exists() else ()
        journal = Journal(path)
        journal.begin(
            {
                "search_id": uuid.uuid4().hex,
                "space": space.to_document(),
                "data": data.digest,
                "oracle": oracle,
                "objective": objective,
                "seed": seed,
                "about": {
                    "name": directory.name,
                    "started": time.time(),
                    "epochs": most,
                    "command": list(command),
                    "data": data.about(),
                },
            }
        )
        data = cached(data)
        search = Search(
            name=directory.name,
            search_id=journal.header["search_id"],
            directory=directory,
            space=space,
            data=data,
            oracle=oracle,
            objective=objective,
            trials=trials,
            epochs=most,
            seed=seed,
            done=tuple(journal.trials),
            left_out=left_out,
        )
        write_text(directory / "space.yaml", space.dump())
        if executor is None:
            executor = (
                InProcess(data)
                if workers is None
                else Processes(data, workers, directory / "workers.log")
            )
            stack.callback(executor.close)
        ending, result = Ending.INTERRUPTED, None
        try:
            for listener in listeners:
                listener.search_started(search)
            end = None if minutes is None else time.monotonic() + 60 * minutes
            budget = Budget(trials=trials, end=end, target=target)
            loop = Loop(
                search,
                oracle=chooser,
                journal=journal,
                listeners=listeners,
                executor=executor,
                limits=limits,
                strategy=strategy,
                budget=budget,
                keep=keep,
            )
            loop.run()
            plan = FinalPlan(epochs=final_epochs, top=final_top, seeds=final_seeds)
            result = conclude(loop, plan)
            ending = Ending.FINISHED
        except Exception:
            ending = Ending.FAILED
            raise
        finally:
            with contextlib.ExitStack() as told:
                for listener in reversed(listeners):  # all are called, even if one raises
                    told.callback(listener.search_ended, ending, result)
    return result


@contextlib.contextmanager
def _locked(directory: Path) -> Iterator[None]:
    lock = lock_of(directory)
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        if directory.exists() and not directory.is_dir():
            raise RequestError(f"{directory}: a file has the name of the search's folder")
        lock.acquire(timeout=0)
    except filelock.Timeout as error:
        raise RequestError(
            f"{directory}: another process is searching here; give this search another name"
        ) from error
    except FileExistsError as error:
        raise RequestError(
            f"{error.filename}: a file has the name of a folder of the search"
        ) from error
    except OSError as error:
        raise RequestError(
            f"cannot write to {Path(error.filename or directory).resolve()}: {error.strerror}"
        ) from error
    try:
        if directory.exists() and not os.access(directory, os.W_OK | os.X_OK):
            raise RequestError(f"cannot write to {directory.resolve()}: Permission denied")
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def _clear_when_full() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if (reason := disk_full(error)) is None:
            raise
        raise disk_is_full(reason) from error


def _set_aside(directory: Path) -> None:
    if directory.exists():
        numbers = itertools.count(1)
        directory.rename(
            next(
                old
                for n in numbers
                if not (old := directory.with_name(f"{directory.name}.old{n}")).exists()
            )
        )
