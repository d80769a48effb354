"""A folder of JPEGs as the input of training: images per second and peak memory.

    python benchmarks/input.py [--files 12000 --files 48000] [--side 96]

Makes folders of 160x120 photos of noise (hard links of 500 different ones) in two classes, sorted
by class as folders are, and reads one epoch of each in a process of its own: reskeras
(`reskeras.data.load` and its feed, which shuffles all of them) and
`keras.utils.image_dataset_from_directory`, which shuffles file names, too. `open` is the time until
the data set is there, `images/s` that of the epoch; both in wall time. `peak` is the process's
largest resident memory, of which `import` was there before.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click
import numpy as np
from PIL import Image
from rich.console import Console
from rich.table import Table

DIFFERENT = 500
BATCH = 64


@click.command()
@click.option("--files", "counts", multiple=True, default=(12_000, 48_000), show_default=True)
@click.option("--side", default=96, show_default=True)
@click.option("--child", nargs=2, hidden=True)
def main(counts: tuple[int, ...], side: int, child: tuple[str, str] | None) -> None:
    """Measures and prints a table."""
    if child is not None:
        print(json.dumps(_measured(child[0], Path(child[1]), side)))  # noqa: T201
        return
    table = Table("files", "reader", "open, s", "images/s", "import, MB", "peak, MB")
    for count in counts:
        with tempfile.TemporaryDirectory() as folder:
            _make(Path(folder), count)
            for reader in READERS:
                command = [sys.executable, __file__, "--side", str(side), "--child", reader, folder]
                done = subprocess.run(command, check=True, capture_output=True, text=True)
                found = json.loads(done.stdout.splitlines()[-1])
                table.add_row(f"{count:,}", reader, *(f"{value:,.1f}" for value in found))
    Console(width=100).print(table)


def _make(folder: Path, count: int) -> None:
    random = np.random.default_rng(0)
    for number in range(count):
        place = folder / "ab"[2 * number // count] / f"{number:06}.jpg"
        place.parent.mkdir(exist_ok=True)
        source = folder / "a" / f"{number % DIFFERENT:06}.jpg"
        if number < DIFFERENT:
            coarse = random.integers(0, 256, (15, 20, 3), dtype=np.uint8)
            Image.fromarray(coarse).resize((160, 120)).save(place, quality=90)
        else:
            os.link(source, place)


def _reskeras(folder: Path, side: int) -> object:
    import keras

    from reskeras.data import load
    from reskeras.spec import TrainSpec
    from reskeras.training.feed import Feed
    from reskeras.training.targets import Targets

    data = load(str(folder), (side, side, 3))
    images = keras.Input((side, side, 3))
    head = keras.layers.Dense(2, activation="softmax", name="head")
    model = keras.Model(images, head(keras.layers.GlobalAveragePooling2D()(images)))
    return Feed(Targets(model, data)).training(TrainSpec(batch_size=BATCH), 1)


def _keras(folder: Path, side: int) -> object:
    import keras

    return keras.utils.image_dataset_from_directory(
        folder,
        image_size=(side, side),
        batch_size=BATCH,
        validation_split=0.3,
        subset="training",
        seed=0,
        verbose=False,
    )


READERS = {"reskeras": _reskeras, "keras": _keras}


def _measured(reader: str, folder: Path, side: int) -> tuple[float, ...]:
    import reskeras.training.feed  # noqa: F401

    before, start = _peak(), time.perf_counter()
    batches = READERS[reader](folder, side)
    opened = time.perf_counter() - start
    start, count = time.perf_counter(), 0
    for images, _ in batches:
        count += len(images)
    return opened, count / (time.perf_counter() - start), before, _peak()


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
