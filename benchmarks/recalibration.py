"""How many images batch norm has to be recalibrated on: the error of a score against their number.

    python benchmarks/recalibration.py [--epochs 3] [--samples 10]

Three networks are trained on digits. Each is then recalibrated on random samples of the training
images, and scored on the 360 validation images. `accuracy` and `loss` are the root mean square
differences from the scores after recalibration on all training images, in standard errors of these
scores over the validation images. (One image is about a quarter of the accuracy's standard error.)
`means` is the root mean square error of the moving means, in standard deviations of what they are
means of, times sqrt(n): the mean of n independent values has 1; a map has many values per image.
`time` are the CPU seconds of one recalibration over those of one epoch with its scoring.
"""

import dataclasses
import math
import time
from typing import Any

import click
import keras
import numpy as np
from rich.console import Console
from rich.table import Table

import reskeras
from reskeras.data import load
from reskeras.models.recalibration import norms_of
from reskeras.spec import (
    BasicBlock,
    BottleneckBlock,
    CifarStem,
    Classifier,
    DenseBlock,
    DenseNet,
    DenseStage,
    ResNet,
    Stage,
    TrainSpec,
)
from reskeras.training.train import train

STAGES = (Stage(blocks=2, width=16), Stage(blocks=2, width=32, stride=2))
BASIC = ResNet(
    input_shape=(8, 8, 1),
    stem=CifarStem(width=16),
    block=BasicBlock(),
    stages=STAGES,
    head=Classifier(classes=10),
    name="basic_original",
)
NETS = (
    BASIC,
    dataclasses.replace(
        BASIC, block=BottleneckBlock(), norm_order="full_preact", name="bottleneck_full_preact"
    ),
    DenseNet(
        input_shape=(8, 8, 1),
        stem=CifarStem(width=16),
        block=DenseBlock(growth_rate=8),
        stages=(DenseStage(blocks=3), DenseStage(blocks=3)),
        head=Classifier(classes=10),
        name="DenseNet",
    ),
)
SIZES = (32, 128, 512, 1024)


@click.command()
@click.option("--epochs", default=3, show_default=True)
@click.option("--samples", default=10, show_default=True)
def main(epochs: int, samples: int) -> None:
    """Measures and prints a table."""
    data = load("digits")
    images, _ = _whole(data, "train")
    table = Table("network", "images", "accuracy", "loss", "means", "time")
    for spec in NETS:
        keras.utils.set_random_seed(0)
        model: Any = reskeras.build(spec)
        start = time.process_time()
        train(model, data, TrainSpec(epochs=epochs, batch_size=32, learning_rate=3e-3))
        epoch = (time.process_time() - start) / epochs
        exact = _scored(model, data, images)
        spread = np.sqrt(exact.variances)
        error = math.sqrt(exact.accuracy * (1 - exact.accuracy) / data.sizes["val"])
        for size in SIZES:
            found, seconds = [], 0.0
            for number in range(samples):
                chosen = np.random.default_rng(number).permutation(len(images))[:size]
                start = time.process_time()
                reskeras.recalibrate(model, images[chosen])
                seconds += time.process_time() - start
                found.append(_read(model, data))
            moved = [(one.accuracy - exact.accuracy) / error for one in found]
            losses = [(one.loss - exact.loss) / exact.loss_error for one in found]
            means = [(one.means - exact.means) / spread for one in found]
            table.add_row(
                spec.name,
                str(size),
                f"{_rms(moved):.2f}",
                f"{_rms(losses):.2f}",
                f"{_rms(means) * math.sqrt(size):.2f}",
                f"{seconds / samples / epoch:.2f}",
            )
        table.add_section()
    Console(width=100).print(table)


@dataclasses.dataclass(frozen=True)
class _Scores:
    accuracy: float
    loss: float
    loss_error: float
    means: np.ndarray[Any, Any]
    variances: np.ndarray[Any, Any]


def _scored(model: Any, data: Any, images: Any) -> _Scores:
    reskeras.recalibrate(model, images)
    return _read(model, data)


def _whole(data: Any, split: str) -> tuple[Any, Any]:
    images, labels = next(data.split(split).batch(data.sizes[split]).as_numpy_iterator())
    return images, labels


def _read(model: Any, data: Any) -> _Scores:
    images, labels = _whole(data, "val")
    answers = model.predict(images, verbose=0, batch_size=len(images))
    losses = -np.log(answers[np.arange(len(labels)), labels])
    norms = norms_of(model)
    return _Scores(
        float(np.mean(answers.argmax(-1) == labels)),
        float(np.mean(losses)),
        float(np.std(losses)) / math.sqrt(len(labels)),
        np.concatenate([keras.ops.convert_to_numpy(layer.moving_mean) for layer in norms]),
        np.concatenate([keras.ops.convert_to_numpy(layer.moving_variance) for layer in norms]),
    )


def _rms(values: Any) -> float:
    return float(np.sqrt(np.mean(np.square(values))))


if __name__ == "__main__":
    main()
