"""What scoring adds to a training epoch: time, and peak memory.

    python benchmarks/scoring.py

Time: the default network of `reskeras tune` on random images of 28x28x1 in ten classes, of which
15 / 85 are for validation as in a folder; the third epoch. `recalibrate` and `validate` are shares
of the time of the epoch's training steps (CPU time). `all` is the share of recalibration on up to
8,192 images.

Memory: a small U-Net on images of 512x512 in batches of 2, the largest resident memory less that
before the first step: of training alone, and of training, recalibration and validation. One fresh
process each.
"""

import dataclasses
import json
import resource
import time
from typing import Any

import click
import numpy as np
from children import in_child
from rich.console import Console
from rich.table import Table

SIZES = (1_000, 4_000, 10_000, 30_000)


@click.command()
@click.option("--size", "sizes", multiple=True, default=SIZES, show_default=True)
@click.option("--child", "words", multiple=True, hidden=True)
def main(sizes: tuple[int, ...], words: tuple[str, ...]) -> None:
    """Measures and prints two tables."""
    if words:
        kind, number = words
        print(json.dumps(_shares(int(number)) if kind == "time" else _memory(number)))  # noqa: T201
        return
    table = Table("training images", "sample", "recalibrate", "validate", "both", "all")
    for size in sizes:
        found = in_child(__file__, "time", str(size))
        table.add_row(f"{size:,}", f"{found['sample']:,}", *map(_percent, found["shares"]))
    memory = Table("training of a U-Net at 512x512", "peak, MB")
    for way in ("steps", "epoch"):
        memory.add_row(way, f"{in_child(__file__, 'memory', way)['peak']:,.0f}")
    console = Console(width=100)
    console.print(table)
    console.print(memory)


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _training(images: Any, labels: Any, batch: int) -> Any:
    from reskeras.data import from_arrays
    from reskeras.spec import Recipe
    from reskeras.training.train import Training, build_seeded
    from tuning.space import default_space

    held = max(1, len(images) * 15 // 100)
    data = from_arrays(
        {
            "x_train": images[held:],
            "y_train": labels[held:],
            "x_val": images[:held],
            "y_val": labels[:held],
        }
    )
    space = default_space(data.facts, data.task)
    spec = data.task.fit(space.base.spec, data.facts)
    recipe = Recipe(
        spec=spec, train=dataclasses.replace(space.base.train, batch_size=batch, epochs=9)
    )
    return Training(build_seeded(recipe), data, recipe.train)


def _shares(size: int) -> dict[str, Any]:
    random = np.random.default_rng(0)
    whole = size * 100 // 85
    images = random.integers(0, 256, (whole, 28, 28, 1), dtype=np.uint8)
    training = _training(images, np.arange(whole) % 10, 64)
    trainer, spent = training._trainer, {}

    def timed(name: str) -> None:
        run = getattr(trainer, name)

        def call(*given: Any) -> Any:
            start = time.process_time()
            try:
                return run(*given)
            finally:
                spent[name] = time.process_time() - start

        setattr(trainer, name, call)

    for name in ("epoch", "recalibrate", "evaluate"):
        timed(name)
    for _ in range(3):
        training.run_epoch()
    shares = [spent[name] / spent["epoch"] for name in ("recalibrate", "evaluate")]
    sample = training._sampled
    training._sampled = 8192
    training.run_epoch()
    training.run_epoch()
    before = spent["recalibrate"] / spent["epoch"]
    return {"sample": min(size, sample), "shares": [*shares, sum(shares), before]}


def _memory(way: str) -> dict[str, float]:
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (40, 512, 512, 1), dtype=np.uint8)
    training = _training(images, random.integers(0, 2, (40, 512, 512)), 2)
    if way == "steps":
        for name in ("recalibrate", "evaluate"):
            setattr(training._trainer, name, lambda *_: {"loss": 0.0})
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    training.run_epoch()
    return {"peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 - before}


if __name__ == "__main__":
    main()
