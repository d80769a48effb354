"""Tasks: what a network is trained for, one page each in `reskeras/tasks/pages/`.

A task says which heads fit, how targets are made from labels, the losses, metrics and their
direction, the default search space and what an answer is. Nothing else asks which task it is: data
say which kind of label they hold (`Labels`). Methods that train import Keras.

Imports: reskeras.spec, reskeras.tasks.pages.
Imported by: reskeras.cli, reskeras.data, reskeras.drawing, reskeras.evaluation,
reskeras.lab.doctor, reskeras.models, reskeras.tasks.pages, reskeras.training, tuning,
tuning.insight, tuning.oracles, tuning.report, tuning.search, tuning.space, tuning.tracking.
"""

from typing import Any

from reskeras.errors import RequestError, did_you_mean
from reskeras.tasks.class_labels import IGNORED, balanced
from reskeras.tasks.labels import Labels
from reskeras.tasks.metrics import LOSS, Better, Metric, Unit
from reskeras.tasks.pages import all_tasks
from reskeras.tasks.task import Baseline, Facts, Output, Statistics, Task

__all__ = [
    "IGNORED",
    "LOSS",
    "OBJECTIVES",
    "TASKS",
    "Baseline",
    "Better",
    "Facts",
    "Labels",
    "Metric",
    "Output",
    "Statistics",
    "Task",
    "Unit",
    "balanced",
    "find_metric",
    "metric_of",
    "objective_of",
    "task_called",
    "task_of",
    "task_of_output",
    "write_score",
]

TASKS: tuple[Task, ...] = all_tasks()
"""In the order of preference, where data fit several."""

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


def task_called(name: str) -> Task:
    """The task with a name.

    Raises:
        RequestError: there is none.
    """
    found = next((task for task in TASKS if task.name == name), None)
    if found is None:
        names = [task.name for task in TASKS]
        raise RequestError(
            f"unknown task {name!r}{did_you_mean(name, names)}; known: {', '.join(names)}"
        )
    return found


def task_of(labels: Labels, name: str | None = None) -> Task:
    """The task for labels of a kind: the first that takes them, or the one with the name.

    Raises:
        RequestError: the task with the name takes other labels, or there is none.
    """
    if name is None:
        return next(task for task in TASKS if task.labels is labels)
    task = task_called(name)
    if task.labels is not labels:
        fitting = ", ".join(one.name for one in TASKS if one.labels is labels)
        raise RequestError(
            f"task {name!r} takes {task.noun}, but the data hold labels of the kind "
            f"'{labels.value}', for: {fitting}"
        )
    return task


def task_of_output(output: Any) -> Task | None:
    """The likely task of a model of unknown origin by its output; None if no task fits.

    Args:
        output: an `Output`.
    """
    return next((task for task in TASKS if task.gives(output)), None)
