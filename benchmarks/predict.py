"""Throughput of `reskeras predict` on a folder of JPEGs against the network alone on arrays.

    python benchmarks/predict.py                          # ResNet-18 on 200x200x3, 2,000 files
    python benchmarks/predict.py --preset resnet20 --side 32

Both go through the same network in batches of 32. The network alone gets the decoded images as one
array in memory. The command decodes, resizes, names classes and prints lines. Loading TensorFlow
and the model and tracing are in neither number: what the command takes for a folder of one file is
subtracted. They alternate in one process. `ratio` is the median over the rounds of the network's
seconds divided by the command's; `CPU ratio` is the same for CPU time, which other processes
disturb less.
"""

import dataclasses
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from click.testing import CliRunner
from PIL import Image
from sklearn.datasets import load_sample_images

import reskeras
from reskeras.cli import main as reskeras_
from reskeras.cli.loading import quiet_tensorflow
from reskeras.data.decode import read_image

_SIDE = 200
"""Of the files."""


def write_photos(folder: Path, count: int) -> None:
    """JPEGs of parts of two photographs."""
    folder.mkdir()
    random = np.random.default_rng(0)
    photos = load_sample_images().images
    for number in range(count):
        photo = photos[number % len(photos)]
        y, x = (random.integers(0, side - _SIDE + 1) for side in photo.shape[:2])
        part = Image.fromarray(photo[y : y + _SIDE, x : x + _SIDE])
        part.save(folder / f"{number}.jpg", quality=90)


def timed(work: Callable[[], object]) -> np.ndarray:
    """Wall and CPU seconds of a function."""
    start = time.perf_counter(), time.process_time()
    work()
    return np.array([time.perf_counter() - start[0], time.process_time() - start[1]])


def predict(model: str, folder: str) -> None:
    """The command."""
    done = CliRunner().invoke(reskeras_, ["predict", model, folder])
    assert done.exit_code == 0, done.output


@click.command()
@click.option("--preset", default="resnet18", show_default=True)
@click.option("--side", default=_SIDE, show_default=True, help="Of the network's input.")
@click.option("--images", default=2000, show_default=True)
@click.option("--rounds", default=3, show_default=True)
def main(preset: str, side: int, images: int, rounds: int) -> None:
    """Prints images per second of both, and their ratio."""
    os.chdir(tempfile.mkdtemp())
    write_photos(Path("one"), 1)
    write_photos(Path("many"), images)
    with quiet_tensorflow():
        from reskeras.models.predictor import answerer
    spec = dataclasses.replace(reskeras.preset(preset), input_shape=(side, side, 3))
    model = reskeras.build(spec)
    model.save("net.keras")
    ask = answerer(model)
    files = [f"many/{number}.jpg" for number in range(images)]
    pixels = np.stack([read_image(file, (side, side, 3), "stretch") for file in files])
    array = pixels.astype(np.float32) / np.float32(255)
    ask(array[:33])
    predict("net.keras", "one")
    found = []
    for _ in range(rounds):
        alone = timed(lambda: ask(array))
        start = timed(lambda: predict("net.keras", "one"))
        command = timed(lambda: predict("net.keras", "many")) - start
        found.append((alone, command))
        click.echo(f"network {images / alone[0]:.1f}/s, predict {images / command[0]:.1f}/s")
    for place, name in enumerate(("ratio", "CPU ratio")):
        ratio = statistics.median(alone[place] / command[place] for alone, command in found)
        click.echo(f"{name} {ratio:.2f}")


if __name__ == "__main__":
    main()
