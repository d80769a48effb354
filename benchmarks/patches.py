"""A class in 1 % of the pixels of large images: learned from patches, or from shrunk images.

    python benchmarks/patches.py
    python benchmarks/patches.py --seconds 300 --images 60

Images of 512x512 hold noise, discs of 3 to 6 pixels' radius and squares of as many pixels. The
discs are class 1. The default U-Net for masks sees 64x64 pixels: patches (`train.resize: patch`),
or whole images that are shrunk (`stretch`). Both are trained for the same CPU time, validation
included, and then answer the test images by `reskeras predict`. IoU is that of class 1 over all
pixels of these files.
"""

import dataclasses
import json
import os
import tempfile
import time
from pathlib import Path

import click
import numpy as np

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from click.testing import CliRunner
from PIL import Image

from reskeras.cli import main as reskeras_
from reskeras.cli.loading import quiet_tensorflow
from reskeras.cli.models import ABOUT
from reskeras.data import DataOptions, load
from reskeras.data.decode import read_mask
from reskeras.spec import Resize

_SIDE = 512
_SEEN = 64
"""The sides of the network's input."""
_OBJECTS = 42
"""Of each kind in an image: these discs have 1 % of its pixels."""


def picture(random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """An image and its mask, both [512,512] bytes."""
    y, x = np.mgrid[:_SIDE, :_SIDE]
    image = random.normal(100, 25, (_SIDE, _SIDE))
    mask = np.zeros((_SIDE, _SIDE), np.uint8)
    for number in range(2 * _OBJECTS):
        (top, left), radius = random.integers(8, _SIDE - 8, 2), random.uniform(3, 6)
        disc = number < _OBJECTS
        if disc:
            there = (y - top) ** 2 + (x - left) ** 2 < radius**2
        else:
            half = radius * np.sqrt(np.pi) / 2  # as many pixels
            there = np.maximum(abs(y - top), abs(x - left)) < half
        image[there] = random.normal(150, 25, there.sum())
        mask[there] = disc
    return image.clip(0, 255).astype(np.uint8), mask


def write(root: Path, images: int) -> None:
    """Training, validation and test images: 4 to 1 to 1."""
    random = np.random.default_rng(0)
    for number in range(images):
        split = {4: "val", 5: "test"}.get(number % 6, "train")
        for name, array in zip(("images", "masks"), picture(random), strict=True):
            folder = root / split / name
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(folder / f"{number:03}.png")


def trained(root: Path, resize: Resize, seconds: float, out: Path) -> int:
    """Trains the default network for so much CPU time into a folder; returns the epochs."""
    from reskeras.training.train import Training, build_seeded

    data = load(str(root), (_SEEN, _SEEN, 1), DataOptions(resize=resize))
    recipe, _ = data.task.default_space(data.facts)
    train = dataclasses.replace(
        recipe.train, epochs=100_000, schedule="constant", learning_rate=3e-3, resize=resize
    )
    recipe = dataclasses.replace(recipe, train=train)
    training = Training(build_seeded(recipe), data, train)
    training.images_per_second(0.1)  # compiles
    training = Training(build_seeded(recipe), data, train)
    start = time.process_time()
    while time.process_time() - start < seconds:
        training.run_epoch()
    out.mkdir()
    training.model.save(out / "model.keras")
    (out / ABOUT).write_text(json.dumps(data.about()))
    return training.epoch


def overlap(root: Path, out: Path) -> float:
    """IoU of class 1 of the test images."""
    images, masks = (root / "test" / name for name in ("images", "masks"))
    words = ["predict", str(out), str(images), "--out", str(out / "masks")]
    done = CliRunner().invoke(reskeras_, words, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    both = either = 0
    for path in masks.iterdir():
        answer, mask = read_mask(out / "masks" / path.name) == 1, read_mask(path) == 1
        both, either = both + (answer & mask).sum(), either + (answer | mask).sum()
    return float(both / either)


@click.command()
@click.option("--images", default=30, show_default=True)
@click.option("--seconds", default=120.0, show_default=True, help="CPU time of each training.")
def main(images: int, seconds: float) -> None:
    """Prints a line for each way to see the images."""
    with tempfile.TemporaryDirectory() as folder, quiet_tensorflow():
        root = Path(folder, "discs")
        write(root, images)
        masks = [read_mask(path) for path in root.rglob("masks/*.png")]
        share = np.mean(masks)
        click.echo(f"{images} images of {_SIDE}x{_SIDE}; class 1 has {share:.2%} of the pixels")
        for resize in ("stretch", "patch"):
            out = Path(folder, resize)
            epochs = trained(root, resize, seconds, out)
            found = overlap(root, out)
            click.echo(f"{resize:8}  {epochs:5} epochs  IoU of class 1: {found:.3f}")


if __name__ == "__main__":
    main()
