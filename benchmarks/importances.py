"""Importances of factors whose effect is known: reskeras and the evaluators of optuna.importance.

    python benchmarks/importances.py [--trials 120] [--seeds 3]
    python benchmarks/importances.py --spread [--seeds 24]

Simulated random trials over kind of block, growth rate (dense blocks only), dropout and learning
rate. The title of each table is the formula of the score: `u` is the learning rate on its
logarithmic scale from 0 to 1, `g` the growth rate from 0 to 1, `dense` is 1 for dense blocks. A
missing importance is a dash. Seconds are CPU seconds of all seeds.

`--spread` shows how much the importances of reskeras depend on luck: for searches of 10 to 160
trials, the mean and the relative standard deviation of the largest importance over the seeds, in
how many searches the most important factor is first, and in how many a score of pure noise gets
importances at all. `--spread` also compares 2,000 trials with the 1,000 that are used of them.
"""

import collections
import math
import time
from collections.abc import Callable, Mapping
from typing import Any

import click
import numpy as np
import optuna
from report import random_point
from rich.console import Console
from rich.table import Table

from reskeras.spec import BasicBlock, CifarStem, Classifier, Recipe, ResNet, Stage
from tuning.insight import importance
from tuning.insight.importance import importances
from tuning.record.journal import TrialRecord
from tuning.space import Range, Space

KIND, RATE, DROPOUT, LR = (
    "block.kind",
    "block.growth_rate",
    "dropout",
    "train.learning_rate",
)
NET = ResNet(
    input_shape=(8, 8, 1),
    stem=CifarStem(width=16),
    block=BasicBlock(),
    stages=(Stage(blocks=1, width=16),),
    head=Classifier(classes=3),
)
SPACE = Space(
    Recipe(spec=NET),
    {
        KIND: ("plain", "basic", "bottleneck", "dense"),
        RATE: Range(low=4, high=24),
        DROPOUT: Range(low=0.0, high=0.5),
        LR: Range(low=1e-3, high=1e-1, log=True),
    },
)

MOST = importance._MOST

Values = dict[str, Any]
Score = Callable[[Values, np.random.Generator], float]
Evaluator = Callable[[list[TrialRecord]], Mapping[str, float]]


def _u(values: Values) -> float:
    return (math.log10(values[LR]) + 3) / 2


def _g(values: Values) -> float:
    return (values[RATE] - 4) / 20 if values[KIND] == "dense" else 0.5


SCORES: dict[str, Score] = {
    "u + 2 dense: the kind explains 9/10 of the variance": lambda v, _: (
        _u(v) + 2 * (v[KIND] == "dense")
    ),
    "g of dense blocks, else 1/2": lambda v, _: _g(v),
    "2 u + g of dense blocks, else 0": lambda v, _: (
        2 * _u(v) + (_g(v) if v[KIND] == "dense" else 0)
    ),
    "noise": lambda _, random: random.normal(),
}


@click.command()
@click.option("--trials", default=120, show_default=True)
@click.option("--seeds", type=int, show_default="3, or 24 with --spread")
@click.option("--spread", is_flag=True, help="Measure what is luck instead.")
def main(trials: int, seeds: int | None, spread: bool) -> None:
    """Measures and prints a table for each score."""
    if spread:
        _spread(seeds or 24)
    else:
        _compare(trials, seeds or 3)


def _spread(seeds: int) -> None:
    table = Table("score", "trials", "searches", "largest", "deviation", "first", "none")
    for title, score in SCORES.items():
        for trials in (10, 20, 40, 80, 160):
            found = [
                importances(_trials(score, trials, seed), SPACE, "val_accuracy")
                for seed in range(seeds)
            ]
            given = [one for one in found if one]
            firsts = collections.Counter(max(one, key=one.__getitem__) for one in given)
            name, count = firsts.most_common(1)[0] if firsts else ("-", 0)
            values = [one.get(name, 0.0) for one in given] or [math.nan]
            mean = np.mean(values)
            table.add_row(
                title,
                str(trials),
                str(seeds),
                f"{mean:.2f}",
                f"{np.std(values, ddof=1) / mean:.2f}" if len(values) > 1 else "-",
                f"{count} {SPACE.short_names().get(name, '')}",
                str(seeds - len(given)),
            )
    Console(width=120).print(table)
    table = Table("score", "largest of 1,000", "largest of 2,000, all used", "difference")
    for title, score in list(SCORES.items())[:-1]:
        records = _trials(score, 2_000, 0)
        some = importances(records, SPACE, "val_accuracy")
        importance._MOST = len(records)
        every = importances(records, SPACE, "val_accuracy")
        importance._MOST = MOST
        name = max(every, key=every.__getitem__)
        change = max(abs(every[path] - some[path]) for path in every)
        table.add_row(title, f"{some[name]:.2f}", f"{every[name]:.2f}", f"{change:.2f}")
    Console(width=120).print(table)


def _compare(trials: int, seeds: int) -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    for title, score in SCORES.items():
        searches = [_trials(score, trials, seed) for seed in range(seeds)]
        table = Table("evaluator", *SPACE.short_names().values(), "s", title=title)
        for name, evaluate in _evaluators().items():
            start = time.process_time()
            found = [evaluate(records) for records in searches]
            seconds = time.process_time() - start
            cells = (
                " ".join(f"{one[path]:.2f}" if path in one else "-" for one in found)
                for path in SPACE.vary
            )
            table.add_row(name, *cells, f"{seconds:.1f}")
        Console().print(table)


def _trials(score: Score, count: int, seed: int) -> list[TrialRecord]:
    random = np.random.default_rng(seed)
    points = [random_point(SPACE, random) for _ in range(count)]
    return [
        TrialRecord(number=number, values=point, status="completed", score=score(point, random))
        for number, point in enumerate(points, start=1)
    ]


def _evaluators() -> dict[str, Evaluator]:
    from optuna.importance import (
        FanovaImportanceEvaluator,
        MeanDecreaseImpurityImportanceEvaluator,
        PedAnovaImportanceEvaluator,
        get_param_importances,
    )

    def of(evaluator: Any, params: list[str] | None = None) -> Evaluator:
        return lambda records: get_param_importances(
            _study(records), evaluator=evaluator, params=params
        )

    return {
        "reskeras": lambda records: importances(records, SPACE, "val_accuracy"),
        "fANOVA": of(FanovaImportanceEvaluator(seed=0)),
        "fANOVA, all parameters": of(FanovaImportanceEvaluator(seed=0), list(SPACE.vary)),
        "mean decrease of impurity": of(MeanDecreaseImpurityImportanceEvaluator(seed=0)),
        "PED-ANOVA": of(PedAnovaImportanceEvaluator()),
    }


def _study(records: list[TrialRecord]) -> optuna.Study:
    study = optuna.create_study(direction="maximize")
    for record in records:
        ranges = {path: _distribution(path) for path in record.values}
        study.add_trial(
            optuna.trial.create_trial(
                params=dict(record.values), distributions=ranges, value=record.score
            )
        )
    return study


def _distribution(path: str) -> Any:
    item = SPACE.vary[path]
    if not isinstance(item, Range):
        return optuna.distributions.CategoricalDistribution(item)
    if SPACE.is_whole(path):
        return optuna.distributions.IntDistribution(int(item.low), int(item.high))
    return optuna.distributions.FloatDistribution(item.low, item.high, log=item.log)


if __name__ == "__main__":
    main()
