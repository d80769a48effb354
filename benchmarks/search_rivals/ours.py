"""`reskeras tune` as a rival, by its own scores on recalibrated statistics."""

import inspect
from typing import Any

from search_rivals.recording import Recording, Task
from tuning.record.events import Listener, Trial
from tuning.search.tune import tune

MANY = 10**6
"""Trials; the time ends the search."""


class Watch(Listener):
    """Records a search from its events."""

    def __init__(self, recording: Recording) -> None:
        self.recording = recording

    def epoch_ended(self, trial: Trial, epoch: Any) -> None:
        """`tuning.record.events`' hook."""
        accuracy = epoch.metrics["val_accuracy"]
        seconds = self.recording.clock.seconds
        self.recording.epoch(
            trial.number, epoch.number, seconds=seconds, user=accuracy, recalibrated=accuracy
        )

    def trial_ended(self, trial: Trial, record: Any) -> None:
        """`tuning.record.events`' hook."""
        status = "interrupted" if record is None else record.status
        self.recording.trial(
            trial.number, status, None if trial.recipe is None else trial.recipe.spec
        )


def reskeras_search(oracle: str, workers: int | None, task: Task, recording: Recording) -> None:
    """A search in this process, or in so many workers.

    Raises:
        TypeError: this version of `tune` has no workers.
    """
    options: dict[str, Any] = {} if workers is None else {"workers": workers}
    if not options.keys() <= inspect.signature(tune).parameters.keys():
        raise TypeError("this version of reskeras searches in its own process only")
    tune(
        task.space,
        task.data,
        directory=f"{task.directory}/search",
        oracle=oracle,
        trials=MANY,
        minutes=task.budget / 60,
        seed=task.seed,
        listeners=[Watch(recording)],
        **options,
    )
