"""Early stopping: which epoch was best, and whether a training should go on."""

import math
from collections.abc import Sequence

from reskeras.errors import RequestError, did_you_mean
from reskeras.spec import StopEarly
from reskeras.tasks import LOSS, Task
from reskeras.training.state import Epoch


class Stopping:
    """A rule of early stopping for a task.

    Args:
        spec: the rule.
        task: what is trained.

    Raises:
        RequestError: training reports no such metric for this task.
    """

    def __init__(self, spec: StopEarly, task: Task) -> None:
        metrics = {metric.name: metric for metric in (*task.metrics, LOSS)}
        reported = {f"val_{name}": metric for name, metric in metrics.items()}
        reported |= {name: metric for name, metric in metrics.items() if metric.while_training}
        if spec.metric not in reported:
            raise RequestError(
                f"train.stop_early.metric: {task.name} does not report {spec.metric!r}"
                f"{did_you_mean(spec.metric, reported) or ';'} known: {', '.join(reported)}"
            )
        self._spec, self._sign = spec, reported[spec.metric].sign

    def best(self, epochs: Sequence[Epoch]) -> Epoch:
        """The first of the epochs with the best value; there is at least one."""

        def goodness(epoch: Epoch) -> float:
            value = self._sign * epoch.metrics[self._spec.metric]
            return -math.inf if math.isnan(value) else value

        return max(epochs, key=goodness)

    def ends(self, epochs: Sequence[Epoch]) -> bool:
        """Whether a training with these epochs has waited long enough."""
        return epochs[-1].number - self.best(epochs).number >= self._spec.patience
