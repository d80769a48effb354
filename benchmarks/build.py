"""How long it takes to build, to start training, to save and to load; CPU seconds, and ratios against Keras on the same machine.

python benchmarks/build.py [--quick]
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


@click.command()
@click.option(
    "--quick", is_flag=True, help="ResNet-164 instead of ResNet-1001, and fewer repeats: for CI."
)
@click.option("--child", "words", multiple=True, hidden=True)
def main(quick: bool, words: tuple[str, ...]) -> None:
    """Measures and prints one table."""
    if words:
        print(json.dumps(CHILDREN[words[0]](*words[1:])))  # noqa: T201
        return
    deep, repeats = ("preact164", 3) if quick else ("preact1001", 7)
    table = Table("what", "reskeras", "naive Keras", "ratio")
    for ours, theirs in PAIRS.items():
        found = in_child(__file__, "build", ours, theirs, repeats)
        label = f"{ours}: build, ms per layer ({found['ours_layers']} and {found['theirs_layers']} layers)"
        _row(table, label, found["ours"], found["theirs"])
    twin, naive = (in_child(__file__, "first_step", deep, how) for how in ("twin", "naive"))
    _row(table, f"{deep}: build, s", twin["build"], naive["build"])
    _row(table, f"{deep}: first training step, s", twin["first"], naive["first"])
    _row(table, f"{deep}: a later step, s", twin["later"], naive["later"])
    saved = in_child(__file__, "save", deep)
    table.add_row(f"{deep}: save .keras, s", f"{saved['save']:.2f}", "", "")
    table.add_row(f"{deep}: load .keras, s", f"{saved['load']:.2f}", "", "")
    Console(width=120).print(table)


def _row(table: Table, label: str, ours: float, theirs: float) -> None:
    table.add_row(label, f"{ours:.2f}", f"{theirs:.2f}", f"{ours / theirs:.2f}")


def _build(ours: str, theirs: str, repeats: str) -> dict[str, Any]:
    """Median milliseconds per layer of both builders, in turn, after one unmeasured build of each."""
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


def _first_step(preset: str, how: str) -> dict[str, Any]:
    """A batch of eight, SGD with momentum, accuracy as a metric; compilation counts as a part of the first step."""
    import keras
    import numpy as np

    import reskeras
    from reskeras.training.segments import training_twin

    keras.utils.set_random_seed(0)
    models: list[keras.Model] = []
    build = cpu_seconds(lambda: models.append(reskeras.build(preset)))
    x, y = (
        np.random.default_rng(0).normal(size=(8, *models[0].input_shape[1:])).astype("float32"),
        np.arange(8),
    )

    def first() -> None:
        runner = training_twin(models[0]) if how == "twin" else models[0]
        runner.compile(
            keras.optimizers.SGD(0.1, momentum=0.9),
            "sparse_categorical_crossentropy",
            metrics=["accuracy"],
        )
        runner.train_on_batch(x, y)
        models.append(runner)

    seconds = cpu_seconds(first)
    later = [cpu_seconds(lambda: models[-1].train_on_batch(x, y)) for _ in range(7)]
    return {"build": build, "first": seconds, "later": statistics.median(later[2:])}


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


CHILDREN: dict[str, Any] = {"build": _build, "first_step": _first_step, "save": _save}

if __name__ == "__main__":
    main()
