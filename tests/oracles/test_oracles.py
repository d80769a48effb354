"""Oracles on a stub objective: what they suggest, stop and promote, and that a replayed journal
changes none of it."""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import keras_tuner
import numpy as np
import pytest
import scipy.optimize
from nets import small
from optuna.trial import TrialState

import reskeras
from reskeras.spec import Level, Segmenter, UNet
from tuning.oracles import make_oracle
from tuning.oracles.rules import HalvingRule, MedianRule
from tuning.oracles.tpe import ParzenEstimator, Seen
from tuning.settings import ORACLES
from tuning.space import Range, Space

EPOCHS = 9
FREE = ("asha", "tpe", "random", "bayesian")
"""Oracles whose suggestions a replay takes from the journal."""
SMALL = {"dropout": [0.0, 0.1, 0.2], "stages.*.blocks": Range(low=1, high=2)}


@pytest.fixture(autouse=True)
def _cheap_acquisition(monkeypatch: pytest.MonkeyPatch) -> None:
    """The Gaussian process asks 50 random points, not 50 climbs from them, which take seconds."""
    climb = scipy.optimize.minimize

    def look(function: Any, x0: Any, **options: Any) -> Any:
        return (
            climb(function, x0, **options)
            if "jac" in options
            else scipy.optimize.OptimizeResult(x=x0, fun=function(x0))
        )

    monkeypatch.setattr("scipy.optimize.minimize", look)


def space(**vary: Any) -> Space:
    return Space(
        small(),
        vary
        or {
            "stages.*.blocks": Range(low=1, high=3),
            "block.kind": ["plain", "basic", "bottleneck", "dense"],
            "block.growth_rate": [4, 8, 12],
            "zero_init_last": [True, False],
            "dropout": Range(low=0, high=0.4, step=0.1),
            "train.learning_rate": Range(low=1e-4, high=1e-1, log=True),
        },
    )


def loss(values: dict[str, Any], epoch: int) -> float:
    """Least at a learning rate of 10^-2.5, basic blocks and no dropout; falls with every epoch."""
    rate = math.log10(values.get("train.learning_rate", 1e-3)) + 2.5
    kind = {"basic": 0, "dense": 0.1, "bottleneck": 0.2, "plain": 0.5}[
        values.get("block.kind", "basic")
    ]
    return (
        rate**2
        + kind
        + values.get("dropout", 0)
        + values.get("stages.*.blocks", 1) / 10
        + 1 / epoch
    )


class Simulation:
    """Workers that train one epoch each in turn; everything that happens is in `events`, a list
    that another can replay."""

    def __init__(
        self,
        name: str,
        *,
        searched: Space | None = None,
        workers: int = 1,
        seed: int = 0,
        objective: str = "val_loss",
        fails: Callable[[int], bool] = lambda number: False,
        start: Sequence[dict[str, Any]] = (),
        loss: Callable[[dict[str, Any], int], float] = loss,
        epochs: int = EPOCHS,
    ) -> None:
        self.oracle = make_oracle(
            name, searched or space(), objective=objective, seed=seed, epochs=epochs, start=start
        )
        self.workers, self.objective, self.fails, self.loss, self.epochs = (
            workers,
            objective,
            fails,
            loss,
            epochs,
        )
        self.events: list[tuple[Any, ...]] = []
        self.values: list[dict[str, Any]] = []
        self.running: list[str] = []
        self.trained: dict[str, int] = {}
        self.stopped: set[str] = set()
        self.done = False

    def replay(self, events: Sequence[tuple[Any, ...]]) -> "Simulation":
        for event in events:
            if event[0] == "create":
                self.oracle.recall(event[1])
            self._apply(*event)
        return self

    def run(self, trials: int) -> "Simulation":
        while not self.done or self.running:
            waits = False
            if not self.done and len(self.running) < self.workers:
                if len(self.values) == trials:
                    self.done = True
                    continue
                waits = not self._apply("create", None)
            if self.running and (waits or self.done or len(self.running) == self.workers):
                self._train()
        return self

    def _train(self) -> None:
        trial = self.running[0]
        values, epoch = self.oracle.trials[trial].hyperparameters.values, self.trained[trial]
        if self.fails(int(trial)):
            self._apply("end", trial, "FAILED")
        elif trial in self.stopped or epoch == values.get("tuner/epochs", self.epochs):
            self._apply("end", trial, "COMPLETED")
        else:
            self._apply("report", trial, epoch + 1, self.loss(values, epoch + 1))

    def _apply(self, kind: str, *what: Any) -> bool:
        match kind:
            case "create":
                trial = self.oracle.create_trial(f"worker-{len(self.values)}")
                if trial.status != "RUNNING":
                    self.done = self.done or trial.status == "STOPPED"
                    return False
                values = dict(trial.hyperparameters.values)
                self.values.append(values)
                self.running.append(trial.trial_id)
                self.trained[trial.trial_id] = values.get("tuner/initial_epoch", 0)
                self.events.append(("create", values))
                return True
            case "report":
                trial_id, epoch, found = what
                score = -found if self.objective == "val_accuracy" else found
                reported = self.oracle.update_trial(trial_id, {self.objective: score}, step=epoch)
                self.trained[trial_id] = epoch
                self.running.remove(trial_id)
                self.running.append(trial_id)
                self.events.append(("report", *what))
                if reported.status == "STOPPED":
                    self.stopped.add(trial_id)
                return True
            case _:
                trial_id, status = what
                ended = self.oracle.trials[trial_id]
                ended.status = status
                self.oracle.end_trial(ended)
                self.running.remove(trial_id)
                self.events.append(("end", *what))
                return True


def searched_values(values: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(
        sorted((path, value) for path, value in values.items() if not path.startswith("tuner/"))
    )


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("name", ORACLES)
def test_a_replayed_search_goes_on_as_if_it_had_never_stopped(name: str, workers: int) -> None:
    trials = 12 if name == "bayesian" else 24
    how: dict[str, Any] = {
        "workers": workers,
        "seed": 3,
        "fails": lambda number: number % 6 == 4,
        "start": [{"dropout": 0.2}],
    }
    whole = Simulation(name, **how).run(trials)
    cuts = [len(whole.events) - 3] if name == "bayesian" else range(0, len(whole.events), 31)
    for cut in cuts:
        assert Simulation(name, **how).replay(whole.events[:cut]).run(trials).events == whole.events


@pytest.mark.parametrize("name", FREE)
def test_a_replay_computes_no_suggestion(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Simulation(name).run(12 if name == "bayesian" else 20)

    def never(*_: Any, **__: Any) -> Any:
        raise AssertionError("a suggestion was computed")

    monkeypatch.setattr(ParzenEstimator, "suggest", never)
    monkeypatch.setattr("sklearn.gaussian_process.GaussianProcessRegressor.fit", never)
    monkeypatch.setattr("random.Random.random", never)
    again = Simulation(name).replay(whole.events)
    assert again.values == whole.values
    assert {t: trial.score for t, trial in again.oracle.trials.items()} == {
        t: trial.score for t, trial in whole.oracle.trials.items()
    }


@pytest.mark.parametrize("name", ["grid", "hyperband", "nested"])
def test_a_plan_that_comes_to_something_else_is_refused(name: str) -> None:
    whole = Simulation(name).run(2)
    again = Simulation(name)
    again.oracle.recall(whole.values[0] | {"train.learning_rate": 0.05})
    with pytest.raises(
        reskeras.RequestError, match=r"the oracle no longer suggests what trial 1 ran .*--fresh"
    ):
        again.oracle.create_trial("worker")
    # The lock of Keras Tuner is free again.
    assert again.oracle.create_trial("other").status == "RUNNING"


@pytest.mark.parametrize("name", ORACLES)
def test_more_is_better_where_less_was(name: str) -> None:
    how: dict[str, Any] = {"workers": 2, "fails": lambda number: number % 5 == 3}
    trials = 12 if name == "bayesian" else 24
    least = Simulation(name, objective="val_loss", **how).run(trials)
    assert Simulation(name, objective="val_accuracy", **how).run(trials).events == least.events
    other = Simulation(name, loss=lambda values, epoch: -loss(values, epoch), **how).run(trials)
    assert (other.values == least.values) == (name in ("grid", "random"))


@pytest.mark.parametrize("name", [name for name in ORACLES if name != "grid"])
def test_neighboring_seeds_share_nothing_but_the_start(name: str) -> None:
    runs = [Simulation(name, seed=seed).run(6 if name == "bayesian" else 12) for seed in (1, 3)]
    rates = [{values["train.learning_rate"] for values in run.values} for run in runs]
    assert set.intersection(*rates) == {3e-3}  # the base's


@pytest.mark.parametrize("name", [name for name in ORACLES if name != "grid"])
def test_the_base_and_the_start_points_come_first(name: str) -> None:
    start = [
        {"train.learning_rate": 0.02, "zero_init_last": True},
        {"block.kind": "dense", "block.growth_rate": 8},
    ]
    values = Simulation(name, start=start, workers=3).run(4).values
    depth = 1 if name == "nested" else 2
    base = {
        "stages.*.blocks": depth,
        "block.kind": "basic",
        "zero_init_last": "false",
        "dropout": 0.0,
        "train.learning_rate": 3e-3,
    }
    dense = base | {"block.kind": "dense", "block.growth_rate": 8}
    first = [base, base | {"train.learning_rate": 0.02, "zero_init_last": "true"}, dense]
    assert [dict(searched_values(trial)) for trial in values[:3]] == first
    assert dict(searched_values(values[3])) not in first


@pytest.mark.parametrize(
    ("start", "message"),
    [
        (
            {"train.learning_rat": 0.01},
            "start: train.learning_rat: the space does not vary it; did you mean "
            "'train.learning_rate'",
        ),
        (
            {"train.learning_rate": 0.5},
            r"start: train.learning_rate: 0.5 is not in the range 0.0001 to 0.1",
        ),
        ({"stages.*.blocks": 1.5}, r"start: stages\.\*\.blocks: 1.5 is not in the range 1 to 3"),
        (
            {"block.kind": "basics"},
            "start: block.kind: 'basics' is not one of plain, basic, bottleneck, dense",
        ),
    ],
)
def test_a_start_point_outside_the_space_is_refused(start: dict[str, Any], message: str) -> None:
    with pytest.raises(reskeras.RequestError, match=message):
        Simulation("tpe", start=[start])


@pytest.mark.parametrize("name", ["random", "grid", "tpe", "asha"])
def test_a_small_space_is_searched_to_its_last_point_and_never_twice(name: str) -> None:
    found = Simulation(name, searched=space(**SMALL), workers=2).run(100)
    assert len(found.values) == 6
    assert len(set(map(searched_values, found.values))) == 6


@pytest.mark.parametrize("name", ORACLES)
def test_conditions_hold(name: str) -> None:
    for values in Simulation(name, workers=2).run(12 if name == "bayesian" else 40).values:
        assert ("block.growth_rate" in values) == (values["block.kind"] == "dense")
        space().recipe(
            {
                path: value
                for path, value in values.items()
                if not path.startswith(("tuner/", "zero"))
            }
        )


@pytest.mark.parametrize("name", ORACLES)
def test_a_score_is_that_of_the_last_epoch_and_must_be_finite(name: str) -> None:
    oracle = Simulation(name).oracle
    scores = {"a": [3.0, 1.0, 2.0], "b": [1.0, math.nan], "c": [math.inf], "d": [1.0, 2.0, 4.0]}
    ended = {}
    for worker, curve in scores.items():
        trial = oracle.create_trial(worker)
        for epoch, score in enumerate(curve, start=1):
            oracle.update_trial(trial.trial_id, {"val_loss": score}, step=epoch)
        trial.status = "COMPLETED"
        oracle.end_trial(trial)
        ended[worker] = trial.status, trial.score, trial.best_step
    assert ended["a"] == ("COMPLETED", 2.0, 3)
    assert ended["b"][0] == ended["c"][0] == "FAILED"
    assert ended["d"] == ("COMPLETED", 4.0, 3)
    late = oracle.update_trial("0000", {"val_loss": -9.0}, step=4)
    assert (late.score, late.status) == (2.0, "COMPLETED")


# Rules


def test_halving_by_hand() -> None:
    rule = HalvingRule(9)
    assert list(rule.rungs) == [1, 3, 9]
    # At epoch 1: (loss, goes on). The best third of 1 to 5 trials is one, of 6 to 8 two, of 9
    # three.
    arrivals = [
        (5.0, True),
        (6.0, False),
        (4.0, True),
        (4.5, False),
        (4.0, True),
        (4.1, False),
        (3.0, True),
        (4.0, True),
        (4.05, False),
    ]
    for number, (found, goes_on) in enumerate(arrivals):
        assert rule.stops(str(number), 1, found) is not goes_on, number
    assert rule.stops("3", 1, 0.0)  # said once, said again
    assert len(rule.rungs[1].losses) == len(arrivals)
    assert not rule.stops("1", 2, 99.0)  # no rung
    assert not rule.stops("0", 3, 1.0)
    assert rule.stops("2", 3, 2.0)
    assert not rule.stops("4", 9, 1.0)
    assert not rule.stops("6", 9, 99.0)  # at the last epoch nothing is left to stop


@pytest.mark.parametrize(
    ("epochs", "rungs"),
    [
        (1, [1]),
        (2, [1, 2]),
        (3, [1, 3]),
        (6, [1, 3, 6]),
        (20, [2, 6, 18, 20]),
        (27, [3, 9, 27]),
        (81, [9, 27, 81]),
    ],
)
def test_rungs_are_thirds(epochs: int, rungs: list[int]) -> None:
    assert list(HalvingRule(epochs).rungs) == rungs


def test_equal_scores_all_go_on() -> None:
    rule = HalvingRule(9)
    assert not any(rule.stops(str(number), 1, 0.5) for number in range(10))
    assert rule.stops("worse", 1, 0.6)


def test_the_median_by_hand() -> None:
    rule = MedianRule()
    curves = {
        "a": [5.0, 4.0, 3.0],
        "b": [6.0, 7.0, 2.0],
        "c": [1.0, 9.0, 9.0],
        "d": [8.0, 8.0, 8.0],
        "e": [3.0, 2.0, 1.0],
    }
    for trial, curve in curves.items():
        assert not any(
            rule.stops(trial, epoch, found) for epoch, found in enumerate(curve, start=1)
        )
        rule.end(trial, completed=True)
    # Running bests at epoch 2: 4, 6, 1, 8, 2, of which 4 is the median; at epoch 3: 3, 2, 1, 8, 1,
    # median 2.
    assert not rule.stops("first", 1, 99.0)
    assert not rule.stops("tie", 2, 4.0)
    assert rule.stops("worse", 2, 4.1)
    assert not rule.stops("once", 1, 2.0)
    assert not rule.stops("once", 2, 50.0)  # its best so far counts
    assert not rule.stops("once", 3, 50.0)
    assert rule.stops("worse", 2, 0.0)  # said once, said again
    rule.end("worse", completed=False)
    rule.end("tie", completed=True)
    # Six at epoch 2: 1, 2, 4, 4, 6, 8.
    assert rule.stops("f", 2, 4.1)
    assert not rule.stops("g", 4, 99.0)  # nobody came so far


def test_four_trials_are_too_few_to_stop_the_fifth() -> None:
    rule = MedianRule()
    for trial in "abcd":
        assert not rule.stops(trial, 2, 1.0)
        rule.end(trial, completed=True)
    rule.stops("failed", 2, 1.0)
    rule.end("failed", completed=False)
    assert not rule.stops("e", 2, 9.0)


def test_asha_spends_less_on_what_is_bad() -> None:
    found = Simulation("asha", workers=2).run(40)
    trained = [found.trained[trial] for trial in found.oracle.trials]
    assert set(trained) == {1, 3, 9}
    ends = {trial: found.oracle.trials[trial].score for trial in found.oracle.trials}
    assert min(ends, key=ends.__getitem__) in [
        trial for trial, epochs in found.trained.items() if epochs == 9
    ]
    assert sum(trained) < 40 * 9 / 2


def test_bad_trials_of_tpe_end_by_the_median() -> None:
    trained = Simulation("tpe").run(30).trained
    assert min(trained.values()) == 2
    assert max(trained.values()) == EPOCHS
    assert set(Simulation("grid").run(30).trained.values()) == {EPOCHS}


# Suggestions


def test_tpe_finds_more_than_chance_does() -> None:
    wide = space(
        **{
            "stages.*.blocks": Range(low=1, high=30),
            "dropout": Range(low=0, high=0.9),
            "train.learning_rate": Range(low=1e-6, high=10, log=True),
            "norm_order": [
                "original",
                "norm_after_add",
                "relu_before_add",
                "relu_only_preact",
                "full_preact",
            ],
        }
    )

    def bowl(values: dict[str, Any], epoch: int) -> float:
        rate = (math.log10(values["train.learning_rate"]) + 4) / 7
        terms = rate, values["dropout"] / 0.9 - 0.7, (values["stages.*.blocks"] - 20) / 30
        return sum(term**2 for term in terms) + (values["norm_order"] != "relu_before_add") / 2

    best = {
        name: [
            min(
                bowl(values, 1)
                for values in Simulation(name, searched=wide, loss=bowl, seed=seed, epochs=1)
                .run(40)
                .values
            )
            for seed in range(5)
        ]
        for name in ("random", "tpe", "asha")
    }
    means = {name: sum(found) / len(found) for name, found in best.items()}
    assert max(means["tpe"], means["asha"]) < means["random"] / 2


def test_a_trial_that_failed_late_is_no_example() -> None:
    found = Simulation("asha").run(40)
    trial = found.oracle.create_trial("late")
    for epoch in range(1, 4):
        found.oracle.update_trial(trial.trial_id, {"val_loss": -99.0}, step=epoch)
    trial.status = "FAILED"
    found.oracle.end_trial(trial)
    seen = found.oracle._seen()
    assert [item.loss for item in seen if item.state.name == "COMPLETE" and item.loss < 0] == []
    assert [
        (item.state.name, item.loss) for item in seen if item.values == trial.hyperparameters.values
    ] == [("PRUNED", math.inf)]
    assert {item.state.name for item in seen} == {"COMPLETE", "PRUNED"}


def test_workers_that_ask_at_once_get_different_points() -> None:
    """Twelve workers at once, none of which has come back since: all are given something of their
    own."""
    found = Simulation("tpe").run(12)
    rates = []
    for worker in range(12):
        rates.append(
            found.oracle.create_trial(f"more-{worker}").hyperparameters.values[
                "train.learning_rate"
            ]
        )
    assert len(set(rates)) == 12
    assert [
        item.values["train.learning_rate"]
        for item in found.oracle._seen()
        if item.state.name == "RUNNING"
    ] == rates


def test_running_trials_repel_suggestions() -> None:
    """The constant liar: while the best region is being tried, suggestions move away from it."""
    hyperparameters = keras_tuner.HyperParameters()
    hyperparameters.Float("rate", 0.0, 1.0)
    estimator = ParzenEstimator(hyperparameters.space)
    complete = [
        Seen(values={"rate": rate}, state=TrialState.COMPLETE, epoch=1, loss=abs(rate - 0.3))
        for rate in np.linspace(0, 1, 21)
    ]
    running = [Seen(values={"rate": 0.3}, state=TrialState.RUNNING)] * 8

    def distance(seen: Sequence[Seen]) -> float:
        """Mean distance of suggestions from the best rate."""
        found = [estimator.suggest(seen, seed=seed)["rate"] for seed in range(40)]
        return float(np.mean(np.abs(np.array(found) - 0.3)))

    assert distance([*complete, *running]) > 1.5 * distance(complete)


def test_bayesian_suggestions_count_failures_and_workers() -> None:
    found = Simulation("bayesian", workers=2, fails=lambda number: number in (1, 2)).run(10)
    assert len(set(map(searched_values, found.values))) == 10
    x, y = found.oracle._vectorize_trials()
    scores = {
        int(trial): item.score
        for trial, item in found.oracle.trials.items()
        if item.status == "COMPLETED"
    }
    assert x.shape == (10, 6)
    assert y.tolist() == [scores.get(number, max(scores.values())) for number in range(10)]
    found.oracle.create_trial("running")
    assert found.oracle._vectorize_trials()[1][-1] == pytest.approx(sum(scores.values()) / 8)


# Promotions


def lineage(found: Simulation) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Parents and children."""
    return [
        (found.values[int(v["tuner/trial_id"])], v) for v in found.values if "tuner/trial_id" in v
    ]


def test_hyperband_by_hand() -> None:
    """Nine epochs: of 9 trials with 1 epoch 3 go on to 3, of them 1 to 9; then 5 with 3 epochs, of
    which 2 go on; then 3."""
    found = Simulation("hyperband").run(23)
    stamps = [
        tuple(values[f"tuner/{key}"] for key in ("bracket", "round", "initial_epoch", "epochs"))
        for values in found.values
    ]
    rounds = [
        9 * [(2, 0, 0, 1)],
        3 * [(2, 1, 1, 3)],
        [(2, 2, 3, 9)],
        5 * [(1, 0, 0, 3)],
        2 * [(1, 1, 3, 9)],
        3 * [(0, 0, 0, 9)],
    ]
    assert stamps == list(itertools.chain(*rounds))
    best = sorted(range(9), key=lambda number: loss(found.values[number], 1))[:3]
    assert sorted(int(child["tuner/trial_id"]) for _, child in lineage(found)[:3]) == sorted(best)
    for parent, child in lineage(found):
        assert searched_values(parent) == searched_values(child)


@pytest.mark.parametrize("workers", [1, 4])
def test_brackets_survive_failures(workers: int) -> None:
    """All but one of the first round fail: the one that is left is trained to the end, no failed
    one goes on."""
    found = Simulation(
        "hyperband", workers=workers, fails=lambda number: number in (0, 1, 2, 4, 5, 6, 7, 8)
    ).run(20)
    chain = [child for _, child in lineage(found) if child["tuner/bracket"] == 2]
    assert [child["tuner/epochs"] for child in chain] == [3, 9]
    assert chain[0]["tuner/trial_id"] == "0003"
    often = Simulation(
        "hyperband", workers=workers, fails=lambda number: number % 10 in (1, 4, 7)
    ).run(120)
    ends = [
        values["tuner/bracket"]
        for values in often.values
        if values["tuner/epochs"] == 9 and values["tuner/round"]
    ]
    assert {1, 2} <= set(ends)
    assert not [
        child for _, child in lineage(often) if int(child["tuner/trial_id"]) % 10 in (1, 4, 7)
    ]


@pytest.mark.parametrize("name", ["hyperband", "nested"])
def test_promotions_go_on_where_a_small_space_is_exhausted(name: str) -> None:
    found = Simulation(
        name, searched=space(dropout=[0.0, 0.1, 0.2], **{"stages.*.blocks": [1, 2]}), workers=2
    ).run(100)
    assert found.done
    assert [values["tuner/epochs"] for values in found.values].count(9) >= 1
    roots = [searched_values(values) for values in found.values if "tuner/trial_id" not in values]
    assert len(roots) == len(set(roots)) == (6 if name == "hyperband" else 3)


def test_an_oracle_with_promotions_to_come_waits() -> None:
    found = Simulation("nested", searched=space(**SMALL))
    trials = [found.oracle.create_trial(f"w{number}") for number in range(3)]
    assert found.oracle.create_trial("w4").status == "IDLE"
    for trial in trials:
        found.oracle.update_trial(trial.trial_id, {"val_loss": float(trial.trial_id)}, step=3)
        trial.status = "COMPLETED"
        found.oracle.end_trial(trial)
    promoted = found.oracle.create_trial("w4").hyperparameters.values
    assert (promoted["tuner/trial_id"], promoted["stages.*.blocks"]) == ("0000", 2)
    assert (promoted["tuner/initial_epoch"], promoted["tuner/epochs"]) == (3, 9)


DEPTHS = {
    "stages.*.blocks": Range(low=1, high=3),
    "train.learning_rate": Range(low=1e-4, high=1e-1, log=True),
}


@pytest.mark.parametrize(
    "fails",
    [lambda number: number % 7 == 3, lambda number: number % 7 > 0],
    ids=["some fail", "most fail"],
)
@pytest.mark.parametrize("workers", [1, 3])
def test_nested_trials_grow_with_their_epochs(workers: int, fails: Callable[[int], bool]) -> None:
    found = Simulation("nested", searched=space(**DEPTHS), workers=workers, fails=fails).run(60)
    schedule = {1: 1, 2: 3, 3: 9}
    assert {(values["stages.*.blocks"], values["tuner/epochs"]) for values in found.values} <= set(
        schedule.items()
    )
    pairs = lineage(found)
    assert pairs
    assert fails(1) or {child["tuner/epochs"] for _, child in pairs} == {3, 9}
    for parent, child in pairs:
        assert child["stages.*.blocks"] == parent["stages.*.blocks"] + 1
        assert child["tuner/initial_epoch"] == parent["tuner/epochs"]
        assert child["train.learning_rate"] == parent["train.learning_rate"]
    parents = [int(child["tuner/trial_id"]) for _, child in pairs]
    assert len(set(parents)) == len(parents)
    assert not any(map(fails, parents))
    assert all(
        "tuner/trial_id" in values for values in found.values if values["stages.*.blocks"] > 1
    )
    # At each promotion the parent was in the best third of what had ended in its rung, failures
    # included.
    ended: dict[int, list[tuple[float, int]]] = {1: [], 2: [], 3: []}
    number = -1
    for kind, *what in found.events:
        if kind == "end":
            values = found.values[int(what[0])]
            failed = what[1] == "FAILED"
            ended[values["stages.*.blocks"]].append(
                (math.inf if failed else loss(values, values["tuner/epochs"]), int(what[0]))
            )
        elif kind == "create":
            number += 1
            chosen = found.values[number].get("tuner/trial_id")
            for depth, trials in ended.items():
                third = [
                    trial
                    for found_loss, trial in sorted(trials)[: len(trials) // 3]
                    if found_loss < math.inf
                ]
                open_ = [
                    trial
                    for trial in third
                    if trial
                    not in [
                        int(v["tuner/trial_id"])
                        for v in found.values[:number]
                        if "tuner/trial_id" in v
                    ]
                ]
                if chosen is None:
                    assert not open_ or depth == 3
                elif found.values[int(chosen)]["stages.*.blocks"] == depth:
                    assert int(chosen) == open_[0]


@pytest.mark.parametrize(
    ("depths", "epochs", "rungs"),
    [
        (Range(low=1, high=3), 9, [(1, 1), (2, 3), (3, 9)]),
        (Range(low=1, high=2), 9, [(1, 3), (2, 9)]),
        (Range(low=1, high=9), 27, [(1, 1), (4, 3), (6, 9), (9, 27)]),
        (Range(low=2, high=8, step=2), 27, [(2, 1), (4, 3), (6, 9), (8, 27)]),
        ([5, 1, 3], 10, [(1, 1), (3, 3), (5, 10)]),
        (Range(low=1, high=4), 3, [(1, 1), (3, 2), (4, 3)]),
    ],
)
def test_rungs_spread_depths_and_epochs(
    depths: Any, epochs: int, rungs: list[tuple[int, int]]
) -> None:
    found = Simulation(
        "nested", searched=space(**DEPTHS | {"stages.*.blocks": depths}), epochs=epochs
    )
    assert [(rung.depths["stages.*.blocks"], rung.epochs) for rung in found.oracle._rungs] == rungs


def test_what_cannot_grow_keeps_a_depth_of_its_own() -> None:
    vary = DEPTHS | {"block.kind": ["plain", "basic"], "dropout": Range(low=0, high=0.5)}
    found = Simulation(
        "nested",
        searched=space(**vary),
        workers=2,
        loss=lambda values, epoch: values["dropout"] + 1 / epoch,
    ).run(120)
    plain = [values for values in found.values if values["block.kind"] == "plain"]
    assert {values["stages.*.blocks"] for values in plain if values["tuner/epochs"] == 1} == {
        1,
        2,
        3,
    }
    grown = [(parent, child) for parent, child in lineage(found) if child["block.kind"] == "plain"]
    assert grown
    assert all(parent["stages.*.blocks"] == child["stages.*.blocks"] for parent, child in grown)
    assert {
        values["tuner/epochs"]
        for values in found.values
        if values["block.kind"] == "basic" and values["stages.*.blocks"] == 3
    } == {9}


def test_two_depths_grow_together() -> None:
    searched = space(
        **{
            "stages.0.blocks": Range(low=1, high=2),
            "stages.1.blocks": [1, 3, 5],
            "dropout": Range(low=0, high=0.5),
        }
    )
    rungs = Simulation("nested", searched=searched).oracle._rungs
    assert [tuple(rung.depths.values()) for rung in rungs] == [(1, 1), (1, 3), (2, 5)]


def test_nested_needs_a_depth_and_epochs() -> None:
    with pytest.raises(
        reskeras.RequestError,
        match=r"no depth varies: the space lacks a range such as stages\.\*\.blocks",
    ):
        Simulation("nested", searched=space(dropout=[0.0, 0.1]))
    with pytest.raises(reskeras.RequestError, match=r"at least 2 epochs.*got 1"):
        Simulation("nested", epochs=1)


def test_unets_nest_too() -> None:
    unet = UNet(
        input_shape=(8, 8, 1),
        stages=[Level(width=4), Level(width=8)],
        head=Segmenter(classes=2),
        block={"kind": "basic"},
    )
    searched = Space(
        unet,
        {
            "stages.*.blocks": Range(low=1, high=2),
            "train.learning_rate": Range(low=1e-4, high=1e-1),
        },
    )
    assert [
        child["stages.*.blocks"]
        for _, child in lineage(Simulation("nested", searched=searched).run(6))
    ] == [2]


# Size


@pytest.mark.parametrize("name", ["asha", "tpe"])
def test_the_estimator_sees_a_bounded_history(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    real = ParzenEstimator.suggest

    def watched(self: ParzenEstimator, trials: Sequence[Any], *, seed: int) -> Any:
        seen.append(len(trials))
        return real(self, trials[:10], seed=seed)

    monkeypatch.setattr(ParzenEstimator, "suggest", watched)

    def base_is_best(values: Any, epoch: int) -> float:
        return loss(values, epoch) - 9 * (values["train.learning_rate"] == 3e-3)

    found = Simulation(name, epochs=1, loss=base_is_best).run(600)
    assert 300 <= seen[-1] <= 400
    # The best trial of all is among what is seen, though it is the oldest.
    assert found.oracle._seen()[0].values == found.values[0]
