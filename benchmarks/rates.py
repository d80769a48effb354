"""Does the range that `reskeras lr` suggests hold the rates that train best?

The default network on `digits`, trained for 6 epochs at each of 8 rates with 3 seeds, against the
range test with these seeds. About three minutes on two cores:

    python benchmarks/rates.py
"""

import dataclasses

import numpy as np
from rich.console import Console

from reskeras.data import load
from reskeras.training.compiled import Programs
from reskeras.training.rates import range_test
from reskeras.training.train import Training, build_seeded

RATES = {"adam": np.geomspace(3e-4, 1, 8), "sgd": np.geomspace(3e-3, 10, 8)}
SEEDS = range(3)


def main() -> None:
    """Measures and prints a line for each test and each rate."""
    console = Console(highlight=False, soft_wrap=True)
    data = load("digits")
    recipe, _ = data.task.default_space(data.facts)
    programs = Programs()
    for optimizer, rates in RATES.items():
        how = dataclasses.replace(recipe.train, optimizer=optimizer)
        for seed in SEEDS:
            spec = dataclasses.replace(how, seed=seed)
            found = range_test(dataclasses.replace(recipe, train=spec), data, programs=programs)
            console.print(
                f"{optimizer}, seed {seed}: {found.low:.2g} to {found.high:.2g}, one rate "
                f"{found.suggested:.2g}"
            )
        for rate in rates:
            losses, accuracies = [], []
            for seed in SEEDS:
                spec = dataclasses.replace(how, seed=seed, learning_rate=float(rate))
                model = build_seeded(dataclasses.replace(recipe, train=spec))
                training = Training(model, data, spec, programs=programs)
                for _ in range(spec.epochs):
                    epoch = training.run_epoch()
                losses.append(epoch.metrics["val_loss"])
                accuracies.append(epoch.metrics["val_accuracy"])
            console.print(
                f"{optimizer}, rate {rate:.2g}: val_loss {np.mean(losses):.3f}, val_accuracy "
                f"{100 * np.mean(accuracies):.1f} %"
            )


if __name__ == "__main__":
    main()
