"""Which training is best within few epochs: the variants that the recipe `fast` was chosen from.

    python benchmarks/fast_recipe.py [--epochs 8] [--seeds 5]

Each variant trains each network with each seed on digits (1,077 images). It is chosen by the log
loss of the 360 validation images; the 360 test images say what it is worth. Losses and accuracies
are means over the seeds. `±` is the standard error of a loss over the seeds.
"""

import dataclasses
import statistics

import click
from rich.console import Console
from rich.table import Table

import reskeras
from reskeras.data import load
from reskeras.spec import Recipe, TrainSpec
from reskeras.spec.recipes import training_recipe
from reskeras.training.compiled import Programs
from reskeras.training.train import Training, build_seeded, evaluate

NETS = ("digits_basic", "digits_bottleneck", "digits_dense")
_SGD = TrainSpec(optimizer="sgd", weight_decay=5e-4, weight_decay_kind="l2")
_ADAMW = TrainSpec(optimizer="adamw", weight_decay=0.05)
VARIANTS = {
    "the default": TrainSpec(),
    "adam 0.01": TrainSpec(learning_rate=0.01),
    "adam 0.01, warm-up": TrainSpec(learning_rate=0.01, warmup=1.0),
    "adam 0.01, one cycle": TrainSpec(learning_rate=0.01, schedule="one_cycle"),
    "adamw 0.01": dataclasses.replace(_ADAMW, learning_rate=0.01),
    "adamw 0.01, batch 32": dataclasses.replace(_ADAMW, learning_rate=0.01, batch_size=32),
    "adamw 0.01, batch 32, average": dataclasses.replace(
        _ADAMW, learning_rate=0.01, batch_size=32, ema=0.98
    ),
    "adamw 0.003, batch 32": dataclasses.replace(_ADAMW, batch_size=32),
    "lion 0.001, batch 32": TrainSpec(
        optimizer="lion", learning_rate=1e-3, weight_decay=0.5, batch_size=32
    ),
    "sgd 0.1": dataclasses.replace(_SGD, learning_rate=0.1),
    "sgd 0.1, batch 32": dataclasses.replace(_SGD, learning_rate=0.1, batch_size=32),
    "sgd 0.1, batch 32, warm-up": dataclasses.replace(
        _SGD, learning_rate=0.1, batch_size=32, warmup=1.0
    ),
    "sgd 0.1, batch 32, one cycle": dataclasses.replace(
        _SGD, learning_rate=0.1, batch_size=32, schedule="one_cycle"
    ),
    "sgd 0.2, batch 32, one cycle": dataclasses.replace(
        _SGD, learning_rate=0.2, batch_size=32, schedule="one_cycle"
    ),
    "sgd 0.1, batch 32, shifts": dataclasses.replace(
        _SGD, learning_rate=0.1, batch_size=32, augment="shift"
    ),
    "sgd 0.1, batch 32, shifts, one cycle": dataclasses.replace(
        _SGD, learning_rate=0.1, batch_size=32, augment="shift", schedule="one_cycle"
    ),
    "sgd 0.2, batch 32, shifts, one cycle": dataclasses.replace(
        _SGD, learning_rate=0.2, batch_size=32, augment="shift", schedule="one_cycle"
    ),
    "adamw 0.01, batch 32, shifts": dataclasses.replace(
        _ADAMW, learning_rate=0.01, batch_size=32, augment="shift"
    ),
    "adamw 0.01, batch 32, shifts, one cycle": dataclasses.replace(
        _ADAMW, learning_rate=0.01, batch_size=32, augment="shift", schedule="one_cycle"
    ),
    "fast": training_recipe("fast"),
}


@click.command()
@click.option("--epochs", default=8)
@click.option("--seeds", default=5)
@click.option("--net", "nets", multiple=True, default=NETS, help="Train only this network.")
@click.option("--only", default="", help="Variants whose name has this.")
def main(epochs: int, seeds: int, nets: tuple[str, ...], only: str) -> None:
    """Trains and prints the table."""
    data, programs = load("digits", (8, 8, 1)), {net: Programs() for net in nets}
    table = Table("training", *nets, "validation accuracy", "test loss", "test accuracy")
    for name, how in VARIANTS.items():
        if only not in name:
            continue
        losses: dict[str, list[float]] = {net: [] for net in nets}
        rows = []
        for net in nets:
            for seed in range(seeds):
                spec = dataclasses.replace(how, epochs=epochs, seed=seed)
                model = build_seeded(Recipe(spec=reskeras.preset(net), train=spec))
                training = Training(model, data, spec, programs=programs[net])
                while training.epoch < epochs:
                    last = training.run_epoch()
                training.finish()
                tested = evaluate(model, data, "test")
                losses[net].append(last.metrics["val_loss"])
                rows.append((last.metrics["val_accuracy"], tested["loss"], tested["accuracy"]))
        cells = [
            f"{statistics.mean(found):.4f} ± {statistics.stdev(found) / len(found) ** 0.5:.4f}"
            for found in losses.values()
        ]
        accuracy, loss, tested_accuracy = (
            statistics.mean(column) for column in zip(*rows, strict=True)
        )
        more = [f"{100 * accuracy:.2f} %", f"{loss:.4f}", f"{100 * tested_accuracy:.2f} %"]
        table.add_row(name, *cells, *more)
        Console(width=200).print(name, *cells, *more)
    Console(width=200).print(table)


if __name__ == "__main__":
    main()
