"""How long it takes to build a network, to start training it, to save and to load it.

    python benchmarks/build.py [--quick]

CPU seconds of one process each, and ratios against plain Keras in the same run. Training is
`reskeras.training.train.Training` on arrays; its rival is Keras' `fit` with `validation_data`. Ours
also recalibrates batch norm in each epoch.
"""

import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

import click
from children import cpu_seconds, in_child
from rich.console import Console
from rich.table import Table

PAIRS = {"resnet50": "ResNet50", "resnet152": "ResNet152", "densenet201": "DenseNet201"}
"""Presets and the same networks in keras.applications."""
SMALL = ("digits_bottleneck", "resnet20", "resnet56")


@click.command()
@click.option("--quick", is_flag=True, help="ResNet-164 instead of ResNet-1001, and fewer repeats.")
@click.option("--child", "words", multiple=True, hidden=True)
def main(quick: bool, words: tuple[str, ...]) -> None:
    """Measures and prints one table."""
    if words:
        print(json.dumps(CHILDREN[words[0]](*words[1:])))  # noqa: T201
        return
    deep, repeats = ("preact164", 3) if quick else ("preact1001", 7)
    table = Table("what", "reskeras", "Keras", "ratio")
    for ours, theirs in PAIRS.items():
        found = in_child(__file__, "build", ours, theirs, repeats)
        counts = f"{found['ours_layers']} and {found['theirs_layers']} layers"
        _row(table, f"{ours}: build, ms per layer ({counts})", found["ours"], found["theirs"])
    for preset in (*SMALL, deep):
        ours, theirs = (
            in_child(__file__, "training", preset, how) for how in ("reskeras", "keras")
        )
        _row(table, f"{preset}: first epoch of one step, s", ours["first"], theirs["first"])
        _row(table, f"{preset}: a later epoch, s", ours["later"], theirs["later"])
    saved = in_child(__file__, "save", deep)
    table.add_row(f"{deep}: save .keras, s", f"{saved['save']:.2f}", "", "")
    table.add_row(f"{deep}: load .keras, s", f"{saved['load']:.2f}", "", "")
    Console(width=120).print(table)


def _row(table: Table, label: str, ours: float, theirs: float) -> None:
    table.add_row(label, f"{ours:.2f}", f"{theirs:.2f}", f"{ours / theirs:.2f}")


def _build(ours: str, theirs: str, repeats: str) -> dict[str, Any]:
    """Median milliseconds per layer of both builders in turn, after one warm-up build of each."""
    import keras

    import reskeras

    builders = {
        "ours": lambda: reskeras.build(ours),
        "theirs": lambda: getattr(keras.applications, theirs)(weights=None),
    }
    layers = {f"{who}_layers": len(build().layers) for who, build in builders.items()}
    spent: dict[str, list[float]] = {who: [] for who in builders}
    for _ in range(int(repeats)):
        for who, build in builders.items():
            keras.backend.clear_session()
            spent[who].append(1000 * cpu_seconds(build) / layers[f"{who}_layers"])
    return layers | {who: statistics.median(values) for who, values in spent.items()}


def _training(preset: str, how: str) -> dict[str, Any]:
    """Epochs of one batch of eight with validation on the same; compiling is part of the first."""
    import keras
    import numpy as np

    import reskeras
    from reskeras.data import from_arrays
    from reskeras.spec import TrainSpec
    from reskeras.training.train import Training

    keras.utils.set_random_seed(0)
    model = reskeras.build(preset)
    x = np.random.default_rng(0).normal(size=(8, *model.input_shape[1:])).astype("float32")
    y = np.arange(8) % 8
    spec = TrainSpec(
        epochs=8, batch_size=8, optimizer="sgd", learning_rate=0.01, schedule="constant"
    )
    if how == "reskeras":
        data = from_arrays({"x_train": x, "y_train": y, "x_val": x, "y_val": y})
        trainings: list[Training] = []

        def run() -> Any:
            if not trainings:
                trainings.append(Training(model, data, spec))
            return trainings[0].run_epoch()

    else:
        sgd = keras.optimizers.SGD(spec.learning_rate, momentum=0.9, nesterov=True)
        model.compile(sgd, "sparse_categorical_crossentropy", metrics=["accuracy"])

        def run() -> Any:
            return model.fit(x, y, batch_size=8, validation_data=(x, y), verbose=0)

    first = cpu_seconds(run)
    later = [cpu_seconds(run) for _ in range(7)]
    return {"first": first, "later": statistics.median(later[2:])}


def _save(preset: str) -> dict[str, Any]:
    import keras

    import reskeras

    model = reskeras.build(preset)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.keras"
        return {
            "save": cpu_seconds(lambda: model.save(path)),
            "load": cpu_seconds(lambda: keras.models.load_model(path)),
        }


CHILDREN: dict[str, Any] = {"build": _build, "training": _training, "save": _save}

if __name__ == "__main__":
    main()
