"""Does the order in which data are stored matter? Sorted by class against shuffled, same images.

    python benchmarks/order.py

The embedded digits as an `.npz` and as a CSV of PNG files, with their own splits, once sorted by
class and once shuffled. A small network trains for four epochs from each, kept in memory, on disk
or nowhere. Validation accuracy in percent, and loss; below, the standard error of the accuracy over
360 images.
"""

import csv
import math
import os
import tempfile
from pathlib import Path
from typing import Any

import click
import numpy as np
from PIL import Image
from rich.console import Console
from rich.table import Table

from reskeras.data import Cache, DataOptions, load
from reskeras.data.store import cached
from reskeras.spec import BasicBlock, CifarStem, Classifier, Recipe, ResNet, Stage, TrainSpec
from reskeras.training.train import build_seeded, train

NET = ResNet(
    input_shape=(8, 8, 1),
    stem=CifarStem(width=16),
    block=BasicBlock(),
    stages=(Stage(blocks=1, width=16), Stage(blocks=1, width=32, stride=2)),
    head=Classifier(classes=10),
)


@click.command()
def main() -> None:
    """Measures and prints a table."""
    digits = load("digits")
    arrays: dict[str, np.ndarray[Any, Any]] = {}
    for split in ("train", "val"):
        images, labels = digits.reader.whole(split)
        arrays |= {f"x_{split}": images.numpy(), f"y_{split}": labels.numpy()}
    table = Table("source", "--cache", "sorted by class", "shuffled")
    scores = []
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_CACHE_HOME"] = folder
        for source, write in (("npz", _npz), ("csv", _csv)):
            for cache in (Cache.MEMORY, Cache.DISK, Cache.NONE):
                if source == "npz" and cache is Cache.DISK:
                    continue  # arrays stay where they are
                row = []
                for order in ("sorted", "shuffled"):
                    path = write(_ordered(arrays, order), Path(folder, f"{source}-{order}"))
                    data = cached(load(str(path), (8, 8, 1), DataOptions(cache=cache)))
                    recipe = Recipe(spec=NET, train=TrainSpec(epochs=4, batch_size=32))
                    epochs = train(build_seeded(recipe), data, recipe.train)
                    row.append(epochs[-1].metrics)
                scores += [metrics["val_accuracy"] for metrics in row]
                table.add_row(source, cache.value, *map(_cell, row))
    mean, count = float(np.mean(scores)), len(arrays["y_val"])
    console = Console(width=80)
    console.print(table)
    console.print(f"standard error: {100 * math.sqrt(mean * (1 - mean) / count):.1f}")


def _cell(metrics: Any) -> str:
    return f"{100 * metrics['val_accuracy']:.1f}, {metrics['val_loss']:.3f}"


def _ordered(arrays: dict[str, Any], order: str) -> dict[str, Any]:
    found = {}
    for split in ("train", "val"):
        labels = arrays[f"y_{split}"]
        mixed = np.random.default_rng(0).permutation(len(labels))
        places = mixed if order == "shuffled" else np.argsort(labels, kind="stable")
        found |= {f"{axis}_{split}": arrays[f"{axis}_{split}"][places] for axis in "xy"}
    return found


def _npz(arrays: dict[str, Any], place: Path) -> Path:
    np.savez(f"{place}.npz", **arrays)
    return Path(f"{place}.npz")


def _csv(arrays: dict[str, Any], place: Path) -> Path:
    place.mkdir(exist_ok=True)
    with (place / "labels.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["path", "label", "split"])
        for split in ("train", "val"):
            pairs = zip(arrays[f"x_{split}"], arrays[f"y_{split}"], strict=True)
            for number, (image, label) in enumerate(pairs):
                name = f"{split}-{number:05}.png"
                Image.fromarray(image[..., 0]).save(place / name)
                rows.writerow([name, label, split])
    return place / "labels.csv"


if __name__ == "__main__":
    main()
