"""Numbers: one or several for each image, such as an angle or an age."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from reskeras.spec import AnySpec, Numbers, Recipe, TrainSpec
from reskeras.tasks.baselines import always, named
from reskeras.tasks.class_labels import ratio
from reskeras.tasks.labels import Labels
from reskeras.tasks.metrics import LOSS, MEAN_ABSOLUTE_ERROR, Better, Metric, Unit
from reskeras.tasks.networks import takes_whole_images, whole_image_space
from reskeras.tasks.task import Baseline, Facts, Output, Statistics, Task, name_of
from reskeras.words import three_digits

_CONSTANT = 1e-5
"""The variance below which numbers count as constant, which have no R2: in that of the training
split plus the squared mean, whose rounding hides less."""
_R2 = Metric(name="r2", label="R2", better=Better.HIGHER, unit=Unit.NUMBER, decimals=3)


class NumbersTask(Task):
    """Huber loss of numbers in units of their standard deviations, scored by absolute error."""

    name = "numbers"
    metrics = (MEAN_ABSOLUTE_ERROR, LOSS, _R2)
    of_classes = (MEAN_ABSOLUTE_ERROR, _R2)
    losses = ("huber", "l2", "l1")
    labels = Labels.NUMBERS
    noun = "numbers"
    answers = "numbers for each image"
    told = "numbers"
    resize = "stretch"

    def fit_head(self, spec: AnySpec, facts: Facts) -> Any:
        takes_whole_images(spec, self.noun)
        return Numbers(count=facts.classes, mean=facts.mean, spread=facts.spread)

    def default_space(self, facts: Facts) -> tuple[Recipe, dict[str, Any]]:
        head = Numbers(count=facts.classes, mean=facts.mean, spread=facts.spread)
        return whole_image_space(facts, head)

    def gives(self, output: Output) -> bool:
        return False  # a classifier with logits looks the same

    def targets(self, label: Any, outputs: Mapping[str, Output], facts: Facts) -> dict[str, Any]:
        return dict.fromkeys(outputs, label)

    def loss(self, output: Output, facts: Facts) -> Any:
        return self.trained_loss(output, facts, TrainSpec())

    def trained_loss(
        self, output: Output, facts: Facts, train: TrainSpec, weights: tuple[float, ...] = ()
    ) -> Any:
        import keras

        from reskeras.tasks.losses import Standardized

        match train.loss:
            case "l1":
                stock = keras.losses.MeanAbsoluteError()
            case "l2":
                stock = keras.losses.MeanSquaredError()
            case _:
                stock = keras.losses.Huber()
        return Standardized(stock, facts.spread)

    def keras_loss(self, output: Output, facts: Facts) -> Any:
        import keras

        return keras.losses.MeanAbsoluteError(name="loss")

    def keras_metrics(self, output: Output, facts: Facts) -> list[Any]:
        import keras

        return [keras.metrics.MeanAbsoluteError(name=MEAN_ABSOLUTE_ERROR.name)]

    def statistics(self, target: Any, output: Any, form: Output, facts: Facts) -> Statistics:
        """The numbers and the errors [N,K], both in standard deviations of the training split."""
        from keras import ops

        mean, spread = (
            ops.convert_to_tensor(part, "float32") for part in (facts.mean, facts.spread)
        )
        target, output = (ops.cast(part, "float32") for part in (target, output))
        return {"number": (target - mean) / spread, "error": (output - target) / spread}

    def summed(self, statistics: Statistics, facts: Facts, weights: Any = None) -> Statistics:
        from keras import ops

        number, error = statistics["number"], statistics["error"]
        parts = {
            "count": ops.ones_like(number[:, 0]),
            "number": number,
            "square": ops.square(number),
            "absolute": ops.abs(error),
            "squared": ops.square(error),
        }
        return super().summed(parts, facts, weights)

    def scores(self, sums: Statistics, facts: Facts) -> dict[str, Any]:
        from keras import ops

        count = ops.maximum(sums["count"], 1e-9)
        spread = ops.convert_to_tensor(facts.spread, "float32")
        variation = sums["square"] - ops.square(sums["number"]) / count
        varies = variation > _CONSTANT * (count + sums["square"])
        explained = ops.where(varies, 1 - sums["squared"] / ops.where(varies, variation, 1), 0)
        return {
            MEAN_ABSOLUTE_ERROR.name: ops.mean(sums["absolute"] / count * spread),
            # NaN if all are constant.
            _R2.name: ops.sum(explained) / ops.sum(ops.cast(varies, "float32")),
        }

    def by_class(self, statistics: Statistics, facts: Facts) -> dict[Metric, Any]:
        number, error = statistics["number"], statistics["error"]
        variation = np.square(number - number.mean(axis=0)).sum(axis=0)
        varies = variation > _CONSTANT * (1 + np.square(number)).sum(axis=0)
        return {
            MEAN_ABSOLUTE_ERROR: np.abs(error).mean(axis=0) * facts.spread,
            _R2: 1 - ratio(np.square(error).sum(axis=0), np.where(varies, variation, 0)),
        }

    def baselines(
        self, images: Any, labels: Any, form: Output, facts: Facts
    ) -> tuple[Baseline, ...]:
        """The mean of the training images' numbers."""
        mean = always(np.mean(labels, axis=0, dtype="float32"))
        linear = Output((None, facts.classes), "linear")
        return (Baseline(named("mean", labels, facts), mean, linear, self.metrics),)

    def answer(self, outputs: Any, form: Output, facts: Facts) -> Any:
        return outputs

    def label_in_words(self, label: Any, names: Sequence[str]) -> str:
        return ", ".join(three_digits(float(value)) for value in label)

    def describe(self, answer: Any, names: Sequence[str], top: int) -> Any:
        return [
            {"name": name_of(names, number, "number"), "number": float(value)}
            for number, value in enumerate(answer)
        ]

    def write(self, described: Any) -> str:
        return "  ".join(f"{each['name']} {each['number']:.4g}" for each in described)

    def cells(self, described: Any) -> dict[str, Any]:
        return {each["name"]: each["number"] for each in described}


TASK = NumbersTask()
ORDER = 30
