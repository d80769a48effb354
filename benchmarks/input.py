"""A folder of JPEGs as the input of training: images per second, and peak memory.

    python benchmarks/input.py [--files 5000 --files 100000] [--side 96] [--reader NAME ...]

Makes folders of 160x120 photos of noise (hard links of 500 different ones) in two classes, sorted
by class as folders are, and reads two epochs of each in a process of its own:

* `reskeras disk`: `--cache disk`, decoded once into a file, then read from there;
* `reskeras none`: `--cache none`, decoded anew in each epoch;
* `arrays`: the same decoded images as arrays in memory, through the same feed (of the first number
  of files alone);
* `keras`: `keras.utils.image_dataset_from_directory`, which shuffles file names, too;
* `tfds`: `tfds.folder_dataset.ImageFolder`, shuffled by its own buffer of 1,000 files.

`open` is the time until the data set is there, with the scan of all files and, for `reskeras disk`,
all decoding. `first` and `later` are images per second of the first epoch and of the second one, in
wall time. `training` is what the default network of `reskeras tune` for these images trains from
each of reskeras' readers, in images per second: what the input has to keep up with (for the first
number of files alone). `peak` is the process's largest resident memory before that training, of
which `import` was there before all.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click
import numpy as np
from PIL import Image
from rich.console import Console
from rich.table import Table

DIFFERENT = 500
BATCH = 64


@click.command()
@click.option("--files", "counts", multiple=True, default=(5_000, 100_000), show_default=True)
@click.option("--side", default=96, show_default=True)
@click.option("--reader", "readers", multiple=True)
@click.option("--child", nargs=2, hidden=True)
def main(
    counts: tuple[int, ...], side: int, readers: tuple[str, ...], child: tuple[str, str] | None
) -> None:
    """Measures and prints a table."""
    if child is not None:
        reader, folder = child
        measure = _training if reader.startswith("training ") else _measured
        found = measure(reader.removeprefix("training "), Path(folder), side)
        print(json.dumps(found))  # noqa: T201
        return
    table = Table(
        "files", "reader", "open, s", "first", "later", "import, MB", "peak, MB", "training"
    )
    for count in counts:
        with tempfile.TemporaryDirectory() as folder:
            _make(Path(folder, "photos"), count)
            os.environ["XDG_CACHE_HOME"] = str(Path(folder, "cache"))
            for reader in readers or READERS:
                if reader == "arrays" and count > counts[0]:
                    continue
                command = [sys.executable, __file__, "--side", str(side)]
                command += ["--child", reader, f"{folder}/photos"]
                done = subprocess.run(command, check=True, capture_output=True, text=True)
                found = json.loads(done.stdout.splitlines()[-1])
                if count == counts[0] and reader in ("reskeras disk", "reskeras none", "arrays"):
                    command[-2] = f"training {reader}"
                    done = subprocess.run(command, check=True, capture_output=True, text=True)
                    found.append(json.loads(done.stdout.splitlines()[-1]))
                table.add_row(f"{count:,}", reader, *(f"{value:,.1f}" for value in found))
    Console(width=100).print(table)


def _make(folder: Path, count: int) -> None:
    random = np.random.default_rng(0)
    for number in range(count):
        place = folder / "ab"[2 * number // count] / f"{number:06}.jpg"
        place.parent.mkdir(exist_ok=True, parents=True)
        source = folder / "a" / f"{number % DIFFERENT:06}.jpg"
        if number < DIFFERENT:
            coarse = random.integers(0, 256, (15, 20, 3), dtype=np.uint8)
            Image.fromarray(coarse).resize((160, 120)).save(place, quality=90)
        else:
            os.link(source, place)


class _Epochs:
    """Epochs of reskeras' feed."""

    def __init__(self, data: Any, side: int) -> None:
        import keras

        from reskeras.training.feed import Feed
        from reskeras.training.targets import Targets

        images = keras.Input((side, side, 3))
        head = keras.layers.Dense(2, activation="softmax", name="head")
        model = keras.Model(images, head(keras.layers.GlobalAveragePooling2D()(images)))
        self.data, self._feed = data, Feed(Targets(model, data))

    def __call__(self, number: int) -> Iterable[Any]:
        from reskeras.spec import TrainSpec

        batches: Iterable[Any] = self._feed.training(TrainSpec(batch_size=BATCH), number)
        return batches


def _kept(folder: Path, side: int, cache: str) -> Any:
    from reskeras.data import Cache, DataOptions, load
    from reskeras.data.store import cached

    return cached(load(str(folder), (side, side, 3), DataOptions(cache=Cache(cache))))


def _arrays(folder: Path, side: int) -> _Epochs:
    from reskeras.data import from_arrays

    data = _kept(folder, side, "disk")
    arrays = {}
    for split in ("train", "val"):
        rows = data.reader.rows(split, np.arange(data.sizes[split]))
        arrays |= {f"{axis}_{split}": part for axis, part in zip("xy", rows, strict=True)}
    return _Epochs(from_arrays(arrays), side)


def _keras(folder: Path, side: int) -> Any:
    import keras

    batches = keras.utils.image_dataset_from_directory(
        folder,
        image_size=(side, side),
        batch_size=BATCH,
        validation_split=0.3,
        subset="training",
        seed=0,
        verbose=False,
    )
    return lambda number: batches


def _tfds(folder: Path, side: int) -> Any:
    import tensorflow as tf
    import tensorflow_datasets as tfds

    root = folder.parent / "tfds"
    root.mkdir(exist_ok=True)
    if not (root / "train").exists():
        (root / "train").symlink_to(folder)
    found = tfds.folder_dataset.ImageFolder(str(root)).as_dataset(
        split="train", shuffle_files=True, as_supervised=True
    )
    resized = found.map(
        lambda image, label: (tf.image.resize(image, (side, side)), label),
        num_parallel_calls=tf.data.AUTOTUNE,
    )
    batches = resized.shuffle(1000).batch(BATCH).prefetch(2)
    return lambda number: batches


READERS: dict[str, Any] = {
    "reskeras disk": lambda folder, side: _Epochs(_kept(folder, side, "disk"), side),
    "reskeras none": lambda folder, side: _Epochs(_kept(folder, side, "none"), side),
    "arrays": _arrays,
    "keras": _keras,
    "tfds": _tfds,
}


def _training(reader: str, folder: Path, side: int) -> float:
    from reskeras.spec import Recipe
    from reskeras.training.train import Training, build_seeded
    from tuning.space import default_space

    data = READERS[reader](folder, side).data
    recipe: Recipe = default_space(data.facts, data.task).base
    training = Training(build_seeded(recipe), data, recipe.train)
    return training.images_per_second(30)


def _measured(reader: str, folder: Path, side: int) -> tuple[float, ...]:
    import tensorflow_datasets  # noqa: F401

    import reskeras.training.feed  # noqa: F401

    before, start = _peak(), time.perf_counter()
    epochs = READERS[reader](folder, side)
    opened, rates = time.perf_counter() - start, []
    for number in (1, 2):
        start, count = time.perf_counter(), 0
        for images, _ in epochs(number):
            count += len(images)
        rates.append(count / (time.perf_counter() - start))
    return opened, *rates, before, _peak()


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
