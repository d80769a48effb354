"""Sends a search to MLflow while it runs."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import filelock

from reskeras.errors import RequestError, hide_passwords, in_a_line
from tuning.record.entries import TrialRecord
from tuning.record.events import Ending, Listener, Result, Search, Trial
from tuning.record.journal import begun, lock_of
from tuning.tracking.champion import EXAMPLE
from tuning.tracking.mirror import Mirror
from tuning.tracking.store import default_uri, served

if TYPE_CHECKING:
    from reskeras.data import ImageData
    from reskeras.training.state import Epoch

_PAUSE_SECONDS = 1.0
"""Events within this many seconds are sent together."""
_RETRY_SECONDS = 10.0
"""Seconds to leave a failed store alone, at least."""
_CLOSING_SECONDS = {Ending.FINISHED: 90.0, Ending.FAILED: 30.0, Ending.INTERRUPTED: 20.0}
"""Seconds that the end of a search waits for MLflow."""


class Tracker(Listener):
    """Keeps MLflow up to date with a search's journal, in a separate thread.

    Training never waits for it. If the store fails, it is tried again at a later epoch and once
    more at the end. `sync` sends what is missing then.

    Args:
        uri: the store's address.
        on_problem: called from the thread when the store fails, when it recovers, and with what is
            missing at the end.
        system_metrics: whether MLflow samples the load of CPU, memory and GPU while the search
            runs.
    """

    def __init__(
        self, uri: str, on_problem: Callable[[str], None], *, system_metrics: bool = False
    ) -> None:
        self._uri, self._on_problem, self._system_metrics = uri, on_problem, system_metrics
        self._thread = threading.Thread()
        self._search: Search | None = None
        self._caller: str | None = None
        self._mirror: Mirror | None = None
        self._state = threading.Condition()
        self._told = self._sent = 0
        """The number of events, and how many of them MLflow has."""
        self._hurried = False
        self._ending: Ending | None = None
        self._retry_at = 0.0
        self._failed = False

    def search_started(self, search: Search) -> None:
        self._search, self._caller, self._mirror = search, _active_run(), None
        self._ending, self._failed, self._retry_at = None, False, 0.0
        self._thread = threading.Thread(target=self._work, name="mlflow", daemon=True)
        self._thread.start()
        self._tell()

    def trial_started(self, trial: Trial) -> None:
        self._tell()

    def epoch_ended(self, trial: Trial, epoch: Epoch) -> None:
        self._tell()

    def trial_ended(self, trial: Trial, record: TrialRecord | None) -> None:
        self._tell()

    def search_ended(self, ending: Ending, result: Result | None) -> None:
        if self._search is None:
            return  # interrupted before this learned of the start
        with self._state:
            self._ending = ending
            self._state.notify_all()
        try:
            self._thread.join(_CLOSING_SECONDS[ending])
        finally:  # also if interrupted once more
            if self._thread.is_alive():
                self._on_problem(
                    f"MLflow ({hide_passwords(self._uri)}) is slow; {self._sync_hint()}"
                )

    @property
    def page(self) -> str | None:
        """The address of the search's page, if the store has a server that has answered."""
        mirror = self._mirror
        if mirror is None or not served(self._uri):
            return None
        return hide_passwords(self._uri).rstrip("/") + mirror.link

    def flush(self, timeout: float) -> bool:
        """Waits until MLflow has everything so far, or for some seconds; returns whether it has."""
        with self._state:
            wanted, self._hurried = self._told, True
            self._state.notify_all()
            return self._state.wait_for(lambda: self._sent >= wanted, timeout)

    def _tell(self) -> None:
        with self._state:
            self._told += 1
            self._state.notify_all()

    def _work(self) -> None:
        while self._ending is None:
            with self._state:
                self._state.wait_for(
                    lambda: self._ending is not None or (self._told > self._sent and self._ready())
                )
                self._state.wait_for(
                    lambda: self._ending is not None or self._hurried, _PAUSE_SECONDS
                )
                told, self._hurried = self._told, False
            if self._ending is None and self._try(lambda mirror: mirror.advance()):
                with self._state:
                    self._sent = told
                    self._state.notify_all()
        ending, told = self._ending, self._told
        if self._try(lambda mirror: self._finish(mirror, ending)):
            with self._state:
                self._sent = told
                self._state.notify_all()
        else:
            self._on_problem(
                f"the last part of this search is not in MLflow ({hide_passwords(self._uri)}); "
                f"{self._sync_hint()}"
            )

    def _ready(self) -> bool:
        return self._hurried or time.monotonic() >= self._retry_at

    def _try(self, act: Callable[[Mirror], None]) -> bool:
        assert self._search is not None
        start = time.monotonic()
        try:
            if self._mirror is None:
                self._mirror = Mirror(
                    self._uri,
                    self._search.directory,
                    caller=self._caller,
                    system_metrics=self._system_metrics,
                )
            act(self._mirror)
        except Exception as error:  # noqa: BLE001  MLflow raises whatever its store's driver raises
            if self._mirror is not None:
                self._mirror.close()
            self._mirror = None
            now = time.monotonic()
            self._retry_at = now + max(_RETRY_SECONDS, 5 * (now - start))
            if not self._failed:
                self._failed = True
                self._on_problem(
                    f"MLflow failed ({hide_passwords(self._uri)}): "
                    f"{hide_passwords(in_a_line(error)).rstrip('.')}. "
                    "The search continues; its journal has everything, "
                    "and MLflow gets it later"
                )
            return False
        if self._failed:
            self._failed = False
            self._on_problem(
                f"MLflow ({hide_passwords(self._uri)}) answers again, and has what it missed"
            )
        for refusal in self._mirror.refused:
            self._on_problem(f"MLflow refuses {refusal}")
        self._mirror.refused.clear()
        return True

    def _finish(self, mirror: Mirror, ending: Ending) -> None:
        assert self._search is not None
        if ending is Ending.FINISHED:
            _save_example(self._search.data, self._search.directory)
        mirror.finish(ending)

    def _sync_hint(self) -> str:
        assert self._search is not None
        store = "" if self._uri == default_uri() else f" --tracking-uri {hide_passwords(self._uri)}"
        return f"`reskeras sync {self._search.directory}{store}` sends it from the journal"


def sync(uri: str, directory: Path) -> list[str]:
    """Brings a store up to date with a search that is not running, from its journal.

    Args:
        uri: the store's address; it may have all of the search, a part, or nothing.
        directory: the search's folder.

    Returns:
        What MLflow refused, a line each.

    Raises:
        RequestError: there is no search in the directory, or it is running.
        RuntimeError: the store fails; what arrived before is not sent again.
    """
    directory = directory.resolve()
    if not (directory / "journal.jsonl").is_file():
        raise RequestError(f"{directory}: no search here: it has no journal.jsonl")
    if not begun(directory):
        raise RequestError(
            f"{directory}: this journal does not say what was searched; it is empty, or of an "
            "older version"
        )
    try:
        with lock_of(directory).acquire(timeout=0):
            mirror = Mirror(uri, directory, live=False)
            mirror.advance()
            mirror.finish(Ending.FINISHED if mirror.concluded else Ending.INTERRUPTED)
    except filelock.Timeout as error:
        raise RequestError(
            f"{directory}: this search is running; it sends everything to MLflow itself"
        ) from error
    except RequestError:
        raise
    except Exception as error:
        raise RuntimeError(
            f"MLflow failed ({hide_passwords(uri)}): "
            f"{hide_passwords(in_a_line(error)).rstrip('.')}; the same command resumes"
        ) from error
    return mirror.refused


def _active_run() -> str | None:
    """The active run: begun by the caller in this thread, or by `mlflow run` for this process."""
    if (mlflow := sys.modules.get("mlflow")) is not None and (
        run := mlflow.active_run()
    ) is not None:
        return str(run.info.run_id)
    return os.environ.get("MLFLOW_RUN_ID")


def _save_example(data: ImageData, directory: Path) -> None:
    """Saves an image as the example for serving the model."""
    import numpy as np

    image, _ = next(iter(data.split("val")))
    np.save(directory / EXAMPLE, np.asarray(image))
