"""How fast each augmentation is, on images of 32x32x3, against the same layer of Keras.

    python benchmarks/augment.py [--side 32] [--seconds 2]

Images per CPU second, in a `tf.data` pipeline as in training: ours change images one by one, since
each has its own random number, and Keras' a batch of 64 at once. Keras has no shift by whole pixels
with a mirror, and no PCA noise. Its elastic transform is another one: it blurs noise.
"""

import os
import time
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import click
import keras
import numpy as np
import tensorflow as tf
from rich.console import Console
from rich.table import Table

from reskeras.data.augment import Augmenter
from reskeras.data.mix import mixed
from reskeras.spec import AUGMENTATIONS, Augmentation, ColorJitter, RandAugment
from reskeras.tasks import Labels

BATCH = 64
UNIT = {"value_range": (0, 1)}
CASES: dict[str, tuple[Augmentation, Any]] = {
    "none": (AUGMENTATIONS["none"], None),
    "shift": (AUGMENTATIONS["shift"], None),
    "shift_flip": (AUGMENTATIONS["shift_flip"], None),
    "flip": (Augmentation(flip="horizontal"), lambda: keras.layers.RandomFlip("horizontal")),
    "rotate": (Augmentation(rotate=15), lambda: keras.layers.RandomRotation(15 / 360)),
    "scale": (Augmentation(scale=0.2), lambda: keras.layers.RandomZoom(0.2)),
    "elastic": (
        Augmentation(elastic=0.02),
        lambda: keras.layers.RandomElasticTransform(**UNIT),
    ),
    "color": (
        Augmentation(color=ColorJitter(brightness=0.2, contrast=0.2, saturation=0.2, hue=0.1)),
        lambda: keras.layers.RandomColorJitter((0, 1), 0.2, 0.2, 0.2, 0.1),
    ),
    "pca_noise": (Augmentation(pca_noise=0.1), None),
    "erase": (Augmentation(erase=0.5), lambda: keras.layers.RandomErasing(0.5, **UNIT)),
    "randaugment, 2": (
        Augmentation(randaugment=RandAugment(number=2)),
        lambda: keras.layers.RandAugment(**UNIT, num_ops=2),
    ),
    "mixup": (Augmentation(mixup=0.2), lambda: keras.layers.MixUp(0.2)),
    "cutmix": (Augmentation(cutmix=1.0), lambda: keras.layers.CutMix(1.0)),
}


@click.command()
@click.option("--side", default=32, show_default=True)
@click.option("--seconds", default=2.0, show_default=True, help="For each measurement.")
def main(side: int, seconds: float) -> None:
    """Measures and prints one table."""
    images = np.random.default_rng(0).random((512, side, side, 3), "float32")
    labels = np.eye(10, dtype="float32")[np.arange(512) % 10]
    pairs = tf.data.Dataset.from_tensor_slices((images, labels)).repeat()
    table = Table("augmentation", "reskeras", "Keras", "ratio", title="images per CPU second")
    for name, (how, layer) in CASES.items():
        ours = _rate(_ours(pairs, how), seconds)
        theirs = _rate(_keras(pairs, layer()), seconds) if layer else None
        other = ("", "") if theirs is None else (f"{theirs:,.0f}", f"{ours / theirs:.2f}")
        table.add_row(name, f"{ours:,.0f}", *other)
    Console(width=100).print(table)


def _ours(pairs: Any, how: Augmentation) -> Any:
    one = Augmenter(augmentation=how, labels=Labels.CLASS, components=np.eye(3, dtype="float32"))
    numbers = tf.data.Dataset.range(2**31)
    if how.changes_images:
        pairs = tf.data.Dataset.zip((pairs, numbers)).map(
            lambda pair, number: one(*pair, number), num_parallel_calls=tf.data.AUTOTUNE
        )
    batches = pairs.batch(BATCH, drop_remainder=True)
    if how.mixes:
        batches = tf.data.Dataset.zip((batches, numbers)).map(
            lambda batch, number: mixed(*batch, how, number), num_parallel_calls=tf.data.AUTOTUNE
        )
    return batches


def _keras(pairs: Any, layer: Any) -> Any:
    batches = pairs.batch(BATCH, drop_remainder=True)
    return batches.map(
        lambda images, labels: layer({"images": images, "labels": labels}, training=True),
        num_parallel_calls=tf.data.AUTOTUNE,
    )


def _rate(batches: Any, seconds: float) -> float:
    """Images per CPU second, after a second of warming up."""
    count, found = 0, iter(batches.prefetch(2))
    for limit in (1.0, seconds):
        count, start, begun = 0, time.process_time(), time.perf_counter()
        while time.perf_counter() - begun < limit:
            next(found)
            count += BATCH
    return count / (time.process_time() - start)


if __name__ == "__main__":
    main()
