"""Peak memory and time of training: Keras' own `fit`, `train`, and `train` with `recompute`.

    python benchmarks/memory.py [--preset densenet_bc_100_12] [--batch 64]

Memory is the process's greatest resident set (`ru_maxrss`), less its resident set just before the
first step, when model and optimizer exist: activations, gradients, and what tracing and
TensorFlow's allocator keep. `steps` is training alone; `epoch` adds the recalibration of batch norm
and validation (for Keras, validation). One fresh process each.
"""

import json
import os
import resource
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import click
from children import in_child
from rich.console import Console
from rich.table import Table

WAYS = ("keras", "train", "recompute")


@click.command()
@click.option("--preset", default="densenet_bc_100_12", show_default=True)
@click.option("--batch", default=64, show_default=True)
@click.option("--steps", default=7, show_default=True, help="Measured after one step that is not.")
@click.option("--child", "words", multiple=True, hidden=True)
def main(preset: str, batch: int, steps: int, words: tuple[str, ...]) -> None:
    """Measures and prints one table; ratios are to Keras' own training."""
    import numpy as np

    if words:
        print(json.dumps(_train(*words)))  # noqa: T201
        return
    table = Table(
        *(
            "training",
            "steps MB",
            "ratio",
            "epoch MB",
            "ratio",
            "step CPU s",
            "ratio",
            "step wall s",
        ),
        *("moved weights differ", "statistics differ"),
    )
    with tempfile.TemporaryDirectory() as folder:
        files = {way: str(Path(folder) / f"{way}.npz") for way in WAYS}
        found = {way: in_child(__file__, way, preset, batch, steps, files[way]) for way in WAYS}
        base, after = found["keras"], {way: np.load(path) for way, path in files.items()}
        for way, row in found.items():
            differ = [
                max(
                    float(np.max(np.abs(after[way][key] - after["keras"][key])))
                    for key in after[way]
                    if key.startswith(kind)
                )
                / max(
                    float(np.max(np.abs(after["keras"][key])))
                    for key in after["keras"]
                    if key.startswith(kind)
                )
                for kind in ("update", "statistic")
            ]
            numbers = []
            for key, digits in (("steps", 0), ("epoch", 0), ("cpu", 2)):
                numbers += [f"{row[key]:.{digits}f}", f"{row[key] / base[key]:.2f}"]
            numbers.append(f"{row['wall']:.2f}")
            table.add_row(way, *numbers, *(f"{value:.1e}" for value in differ))
    Console(width=140).print(
        f"{preset}, batch {batch}; differences after the first step, of the greatest value", table
    )


def _train(way: str, preset: str, batch: str, steps: str, path: str) -> dict[str, Any]:
    import keras
    import numpy as np

    import reskeras
    from reskeras.data import from_arrays
    from reskeras.spec import TrainSpec
    from reskeras.training.train import Training

    keras.utils.set_random_seed(0)
    model = reskeras.build(preset)
    x = np.random.default_rng(0).normal(size=(int(batch), *model.input_shape[1:])).astype("float32")
    y = np.arange(int(batch)) % 10
    if way == "keras":
        sgd = keras.optimizers.SGD(0.1, momentum=0.9, nesterov=True)
        model.compile(sgd, "sparse_categorical_crossentropy")
        model.optimizer.build(model.trainable_variables)

        def step() -> Any:
            return model.train_on_batch(x, y)

        def epoch() -> Any:
            return model.evaluate(x, y, batch_size=int(batch), verbose=0)

    else:
        spec = TrainSpec(
            epochs=99,
            batch_size=int(batch),
            optimizer="sgd",
            learning_rate=0.1,
            schedule="constant",
            recompute=way == "recompute",
        )
        data = from_arrays({"x_train": x, "y_train": y, "x_val": x, "y_val": y})
        training = Training(model, data, spec)

        def step() -> Any:
            batches = training._feed.training(spec, 1)
            return training._trainer.epoch(batches, training._rates(1))

        def epoch() -> Any:
            return training.run_epoch()

    with Path("/proc/self/statm").open() as statm:
        before = int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    start = [variable.numpy() for variable in model.variables]
    step()
    # With momentum at rest the first update is proportional to the gradient.
    moved = [variable.numpy() - old for variable, old in zip(model.variables, start, strict=True)]
    kinds = ["update" if variable.trainable else "statistic" for variable in model.variables]
    named = enumerate(zip(kinds, moved, strict=True))
    np.savez(path, **{f"{kind}{number}": value for number, (kind, value) in named})
    cpu, wall = [], []
    for _ in range(int(steps)):
        clocks = time.process_time(), time.perf_counter()
        step()
        cpu.append(time.process_time() - clocks[0])
        wall.append(time.perf_counter() - clocks[1])
    peaks = [resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024]
    epoch()
    peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
    return {
        "steps": (peaks[0] - before) / 1e6,
        "epoch": (peaks[1] - before) / 1e6,
        "cpu": statistics.median(cpu),
        "wall": statistics.median(wall),
    }


if __name__ == "__main__":
    main()
