"""Writes a search for TensorBoard: a folder per trial, with its curves and hyperparameters."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuning.record.events import Ending, Listener, Result, Search, Trial

if TYPE_CHECKING:
    from reskeras.training.state import Epoch
    from tuning.record.entries import TrialRecord


class TensorBoard(Listener):
    """Writes `tensorboard/trial-0001`, ... in a search's folder, for `tensorboard --logdir`."""

    def __init__(self) -> None:
        self._root = Path()
        self._short: dict[str, str] = {}
        self._writers: dict[str, Any] = {}

    def search_started(self, search: Search) -> None:
        self._root, self._short = search.directory / "tensorboard", search.space.short_names()

    def trial_started(self, trial: Trial) -> None:
        from tensorboard.plugins.hparams.summary_v2 import hparams_pb
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        writer = self._writers[trial.key] = EventFileWriter(str(self._root / trial.key))
        point = {
            short: trial.values[path] for path, short in self._short.items() if path in trial.values
        }
        _write(writer, hparams_pb(point, trial_id=trial.key), step=0)

    def epoch_ended(self, trial: Trial, epoch: Epoch) -> None:
        from tensorboard.compat.proto.summary_pb2 import Summary

        values = [
            Summary.Value(tag=name, simple_value=value) for name, value in epoch.metrics.items()
        ]
        _write(self._writers[trial.key], Summary(value=values), step=epoch.number)

    def trial_ended(self, trial: Trial, record: TrialRecord | None) -> None:
        if (writer := self._writers.pop(trial.key, None)) is not None:
            writer.close()

    def search_ended(self, ending: Ending, result: Result | None) -> None:
        while self._writers:
            self._writers.popitem()[1].close()


def _write(writer: Any, summary: Any, *, step: int) -> None:
    from tensorboard.compat.proto.event_pb2 import Event

    writer.add_event(Event(summary=summary, step=step, wall_time=time.time()))
    writer.flush()
