"""Tasks: what a network is trained for, one page each.

A task says how targets are made, the losses, metrics and their direction, the default search space
and what an answer is. Nothing else asks which task it is. A new task over class numbers, with
labels of a new shape, is one file and a line in `TASKS`. Methods that train import Keras.

Imports: reskeras.spec.
Imported by: reskeras.cli, reskeras.data, reskeras.models, reskeras.training, tuning,
  tuning.insight, tuning.oracles, tuning.report, tuning.search, tuning.space, tuning.tracking.
"""

from collections.abc import Sequence

from reskeras.errors import RequestError
from reskeras.tasks.class_labels import IGNORED, balanced
from reskeras.tasks.classification import Classification
from reskeras.tasks.metrics import LOSS, Better, Metric, Unit
from reskeras.tasks.segmentation import Segmentation
from reskeras.tasks.task import Output, Task

__all__ = [
    "CLASSIFICATION",
    "IGNORED",
    "LOSS",
    "OBJECTIVES",
    "SEGMENTATION",
    "TASKS",
    "Better",
    "Metric",
    "Output",
    "Task",
    "Unit",
    "balanced",
    "find_metric",
    "metric_of",
    "objective_of",
    "task_of_labels",
    "task_of_output",
    "write_score",
]

CLASSIFICATION = Classification()
SEGMENTATION = Segmentation()
TASKS: tuple[Task, ...] = (CLASSIFICATION, SEGMENTATION)

_METRICS = {metric.name: metric for task in TASKS for metric in task.metrics}

OBJECTIVES = tuple(f"val_{name}" for name in _METRICS)
"""All objectives of all tasks; the first is the default."""


def find_metric(reported: str) -> Metric | None:
    """The metric behind a name in a report, such as `val_accuracy` or `test_loss`.

    None if the number is not a metric of any task, such as `epoch_seconds`.
    """
    name = reported.removeprefix("best_")
    for split in ("train_", "val_", "test_"):
        name = name.removeprefix(split)
    return _METRICS.get(name)


def metric_of(reported: str) -> Metric:
    """Like `find_metric`, but raises.

    Raises:
        RequestError: no task has such a metric.
    """
    metric = find_metric(reported)
    if metric is None:
        raise RequestError(f"unknown metric {reported!r}; known: {', '.join(_METRICS)}")
    return metric


def write_score(reported: str, value: float | None) -> str:
    """Formats the value of a metric, given by its name in a report, for people."""
    return metric_of(reported).write(value)


def objective_of(task: Task, objective: str | None) -> str:
    """The objective of a search: the given one, or the task's first metric on the validation split.

    Raises:
        RequestError: the task does not have the objective.
    """
    known = [f"val_{metric.name}" for metric in task.metrics]
    if objective is None:
        return known[0]
    if objective not in known:
        raise RequestError(
            f"unknown objective {objective!r} for {task.name}; known: {', '.join(known)}"
        )
    return objective


def task_of_labels(images: Sequence[int], labels: Sequence[int]) -> Task | None:
    """The task for arrays of these shapes (images [N,H,W,C]); None if no task fits."""
    _, height, width, channels = images
    rest = tuple(labels[1:])
    return next((t for t in TASKS if t.label_shape((height, width, channels)) == rest), None)


def task_of_output(shape: Sequence[int | None]) -> Task | None:
    """The task of a model with this output shape (batch included); None if no task fits."""
    return next((task for task in TASKS if task.gives(shape)), None)
