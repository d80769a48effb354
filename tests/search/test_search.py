"""Searches, whole: what they leave, what they repeat, what they survive."""

import csv
import dataclasses
import hashlib
import itertools
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import journals
import keras
import numpy as np
import pytest
from mlflow import MlflowClient
from scipy.stats import binomtest

import reskeras
from reskeras.data import ImageData, from_arrays
from reskeras.spec import CifarStem, Classifier, Recipe, ResNet, Stage, StopEarly, TrainSpec
from reskeras.spec.text import dump_recipe
from reskeras.training.state import Epoch
from reskeras.training.train import evaluate
from tuning import Range, Space, tune
from tuning.record.entries import Started, TrialRecord
from tuning.record.events import Listener, Trial
from tuning.record.journal import Journal
from tuning.record.ranking import by_rank
from tuning.running.trial import Epochs, EvaluationJob, Job, Outcome, Verdict
from tuning.settings import ORACLES
from tuning.space.limits import Limits
from tuning.tracking import Tracker, open_store, sync, tracking_uri


@pytest.fixture(scope="module")
def data(blobs: dict[str, np.ndarray]) -> ImageData:
    return from_arrays(blobs, name="blobs")


def tiny(**vary: Any) -> Space:
    net = ResNet(
        input_shape=(8, 8, 1),
        stem=CifarStem(width=4),
        block={"kind": "basic"},
        stages=(Stage(blocks=1, width=8, stride=2),),
        head=Classifier(classes=3),
    )
    vary = vary or {
        "block.kind": ["plain", "basic"],
        "train.learning_rate": Range(low=1e-3, high=1e-1, log=True),
    }
    return Space(Recipe(spec=net, train=TrainSpec(epochs=1, batch_size=32)), vary)


def journal(folder: str = "s") -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(folder, "journal.jsonl").read_text().splitlines()]


def told(record: TrialRecord) -> tuple[Any, ...]:
    return record.number, dict(record.values), record.score, dict(record.metrics)


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trials that train nothing: scores follow from the recipe alone. For tests of the loop around
    them."""

    def run_trial(job: Job, data: ImageData, programs: Any = None) -> Epochs:
        assert job.parent is None or job.parent.state.exists()
        score = int(hashlib.sha256(dump_recipe(job.recipe).encode()).hexdigest()[:8], 16) / 2**32
        metrics = {"val_accuracy": score, "val_loss": -score, "loss": -score}
        worse, ends = dict.fromkeys(metrics, 2.0), False
        verdict, number = Verdict.CONTINUE, job.first_epoch
        while verdict is Verdict.CONTINUE and number < job.recipe.train.epochs:
            number += 1
            epoch = Epoch(number=number, metrics=metrics, seconds=0.0)
            if job.recipe.train.stop_early is not None and number > job.first_epoch + 1:
                ends = True
                epoch = dataclasses.replace(epoch, metrics=worse, kept=metrics, ends=ends)
            verdict = yield epoch
        if verdict is Verdict.KEEP:
            job.model.write_text("a network")
        if job.leave_state:
            job.state.write_text("a state")
        return Outcome(metrics=metrics, epochs=number, params=2, ended=ends)

    def run_evaluation(job: EvaluationJob, data: ImageData) -> Epochs:
        assert job.model.exists()
        yield from ()
        return Outcome(metrics={"accuracy": 0.5, "loss": 1.0})

    monkeypatch.setattr("tuning.running.executor.run_trial", run_trial)
    monkeypatch.setattr("tuning.running.executor.run_evaluation", run_evaluation)


class StopIn(Listener):
    """Ctrl-C in the middle of a trial."""

    def __init__(self, number: int) -> None:
        self.number = number

    def epoch_ended(self, trial: Trial, epoch: Epoch) -> None:
        if trial.number == self.number:
            raise KeyboardInterrupt


class StopInFinal(Listener):
    """Ctrl-C in the n-th final training."""

    def __init__(self, number: int) -> None:
        self.left = number

    def trial_started(self, trial: Trial) -> None:
        self.left -= trial.final
        if self.left == 0:
            raise KeyboardInterrupt


@pytest.mark.main_path
def test_a_search_leaves_its_winner_in_every_form(data: ImageData) -> None:
    problems: list[str] = []
    result = tune(
        tiny(),
        data,
        directory="s",
        trials=3,
        final_epochs=2,
        listeners=[Tracker(tracking_uri(None), problems.append)],
    )
    assert not problems
    assert [record.status for record in result.trials] == ["completed"] * 3
    assert result.best.score == max(record.score for record in result.trials)
    assert result.final is not None
    assert result.final.epochs == 2

    # best.keras is the final model, with the spec of best.yaml, and scores what was reported; it
    # needs no reskeras.
    code = (
        "import sys, keras; m = keras.saving.load_model('s/best.keras'); "
        "assert 'reskeras' not in sys.modules; print(m.name)"
    )
    assert (
        subprocess.run(
            [sys.executable, "-c", code], check=True, capture_output=True, text=True
        ).stdout.strip()
        == "resnet"
    )
    model = keras.saving.load_model("s/best.keras")
    assert evaluate(model, data, "val")["accuracy"] == pytest.approx(
        result.final.metrics["val_accuracy"]
    )
    assert evaluate(model, data, "test") == pytest.approx(result.test)
    best = reskeras.spec.text.load_recipe("s/best.yaml")
    assert best.train.epochs == 2
    assert best.spec.block.kind == result.best.values["block.kind"]
    assert reskeras.build(best.spec).count_params() == model.count_params() == result.best.params

    rows = list(csv.DictReader(Path("s/leaderboard.csv").read_text().splitlines()))
    assert [int(row["trial"]) for row in rows] == [record.number for record in result.trials]
    assert {"rank", "block", "lr", "score", "params"} <= set(rows[0])

    # MLflow has the same: a parent, its children with their parameters, curves and specs.
    client = MlflowClient(tracking_uri(None))
    (experiment,) = [found for found in client.search_experiments() if found.name == "blobs"]
    runs = client.search_runs([experiment.experiment_id])
    parent = next(run for run in runs if run.data.tags["reskeras.kind"] == "search")
    children = {
        int(run.data.params["trial"]): run
        for run in runs
        if run.data.tags["reskeras.kind"] == "trial"
    }
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert len(runs) == 5  # the search, its three trials, the final training
    assert all(
        run.data.tags.get("mlflow.parentRunId") == parent.info.run_id for run in children.values()
    )
    for record in result.trials:
        run = children[record.number]
        assert run.data.params["block"] == record.values["block.kind"]
        rate = record.values["train.learning_rate"]
        assert float(run.data.params["lr"]) == rate
        assert float(run.data.params["log10_lr"]) == pytest.approx(np.log10(rate))
        assert run.data.metrics["val_accuracy"] == pytest.approx(record.score)
        (point,) = client.get_metric_history(run.info.run_id, "val_loss")
        assert (point.step, point.value) == (1, pytest.approx(record.metrics["val_loss"]))
        spec = client.download_artifacts(run.info.run_id, "spec.yaml")
        assert reskeras.load_spec(spec).block.kind == record.values["block.kind"]
    assert parent.data.metrics["test_accuracy"] == pytest.approx(result.test["accuracy"])
    assert {file.path for file in client.list_artifacts(parent.info.run_id)} >= {
        "best.yaml",
        "leaderboard.csv",
        "evaluation",
    }

    # The winner's run has its scores on the test split with their intervals.
    told = json.loads(Path("s/evaluation/metrics.json").read_text())
    winner = next(run for run in runs if "reskeras.best" in run.data.tags)
    low, high = told["intervals"]["accuracy"]
    right = round(result.test["accuracy"] * data.sizes["test"])
    wilson = binomtest(right, data.sizes["test"]).proportion_ci(method="wilson")
    assert (low, high) == pytest.approx(tuple(wilson))
    for run in (winner, parent):
        assert run.data.metrics["test_accuracy_low"] == low
        assert run.data.metrics["test_accuracy_high"] == high
        paths = {file.path for file in client.list_artifacts(run.info.run_id, "evaluation")}
        assert {"evaluation/metrics.json", "evaluation/worst.png"} <= paths


def test_a_seed_repeats_a_search_and_another_does_not(data: ImageData) -> None:
    first, again, other = (
        tune(tiny(), data, directory=folder, trials=2, seed=seed)
        for folder, seed in (("a", 1), ("b", 1), ("c", 2))
    )
    assert [told(r) for r in first.trials] == [told(r) for r in again.trials]
    assert {r.score for r in first.trials} | {r.metrics["loss"] for r in first.trials} != {
        r.score for r in other.trials
    } | {r.metrics["loss"] for r in other.trials}


@pytest.mark.parametrize("stops", [False, True])
@pytest.mark.parametrize("oracle", ORACLES)
@pytest.mark.usefixtures("stub")
def test_an_interrupted_search_goes_on_as_if_nothing_had_happened(
    data: ImageData, oracle: str, stops: bool
) -> None:
    space = tiny(
        **{
            "block.kind": ["plain", "basic"],
            "stages.*.blocks": [1, 2],
            "train.learning_rate": [0.01, 0.03, 0.1],
        }
    )
    if stops:
        space = stopping(space)
    how = {"oracle": oracle, "trials": 4, "epochs": 3 if stops else 2}
    whole = tune(space, data, directory="whole", **how)
    with pytest.raises(KeyboardInterrupt):
        tune(space, data, directory="cut", listeners=[StopIn(3)], **how)
    assert [entry["number"] for entry in journal("cut") if entry["kind"] == "trial"] == [1, 2]
    cut = tune(space, data, directory="cut", **how)
    assert sorted(map(told, cut.trials), key=lambda t: t[0]) == sorted(
        map(told, whole.trials), key=lambda t: t[0]
    )
    assert cut.test == whole.test
    if stops and oracle == "tpe":  # which neither stops trials itself nor promotes them
        assert all(record.status == "completed" for record in cut.trials)
        assert any(record.epochs == 2 for record in cut.trials)
        assert all(record.score is not None and record.score < 1 for record in cut.trials)


def test_hyperband_trains_its_best_on_from_their_weights(data: ImageData) -> None:
    started: list[Trial] = []
    ended: list[tuple[int, int]] = []

    class Watch(Listener):
        def trial_started(self, trial: Trial) -> None:
            started.append(trial)

        def epoch_ended(self, trial: Trial, epoch: Epoch) -> None:
            ended.append((trial.number, epoch.number))

    tune(tiny(), data, directory="s", oracle="hyperband", trials=5, epochs=3, listeners=[Watch()])
    promoted = [trial for trial in started if trial.parent is not None]
    assert promoted
    for trial in promoted:
        assert trial.first_epoch == 1
        assert [epoch for number, epoch in ended if number == trial.number] == [2, 3]


def stopping(space: Space, **rule: Any) -> Space:
    return space.with_train(stop_early=StopEarly(**rule))


def test_trials_that_stop_early_are_finished_and_scored_by_what_they_keep(
    blobs: dict[str, np.ndarray],
) -> None:
    # All that they learn is wrong.
    wrong = {"x_val": blobs["x_train"][:48], "y_val": (blobs["y_train"][:48] + 1) % 3}
    data = from_arrays(blobs | wrong, name="wrong")
    space = stopping(tiny(**{"train.learning_rate": [0.01, 0.03, 0.1]}), patience=1)
    result = tune(space, data, directory="s", trials=3, epochs=5)
    assert {record.status for record in result.trials} == {"completed"}
    epochs: dict[int, list[dict[str, Any]]] = {}
    for entry in journal():
        if entry["kind"] == "epoch":
            epochs.setdefault(entry["number"], []).append(entry)
    for record in result.trials:
        best = min(epochs[record.number], key=lambda entry: entry["metrics"]["val_loss"])
        assert dict(record.metrics) == best["metrics"]
        assert record.score == best["metrics"]["val_accuracy"]
        losses = [entry["metrics"]["val_loss"] for entry in epochs[record.number]]
        assert all(later < one for one, later in itertools.pairwise(losses[:-1]))
    assert any(record.epochs < 5 for record in result.trials)
    for base, vary in (
        (stopping(tiny(), metric="val_iou"), {"train.batch_size": [8, 16]}),
        (stopping(tiny()), {"train.stop_early.metric": ["val_loss", "val_iou"]}),
    ):
        with pytest.raises(reskeras.RequestError, match=r"^train.stop_early.metric: .* 'val_iou'"):
            tune(Space(base.base, vary), data, directory="no", trials=1)
    assert not Path("no").exists()
    kept = evaluate(keras.saving.load_model("s/best.keras"), data, "val")
    assert kept["loss"] == pytest.approx(result.best.metrics["val_loss"], rel=1e-5)


@pytest.mark.usefixtures("stub")
def test_a_finished_search_is_told_again_and_more_trials_extend_it(data: ImageData) -> None:
    first = tune(tiny(), data, directory="s", trials=2)
    before = Path("s/journal.jsonl").read_text()
    again = tune(tiny(), data, directory="s", trials=2)
    assert [told(r) for r in again.trials] == [told(r) for r in first.trials]
    # Nothing was run, the test split was not touched again
    assert Path("s/journal.jsonl").read_text() == before
    more = tune(tiny(), data, directory="s", trials=3)
    assert len(more.trials) == 3
    assert sum(entry["kind"] == "trial" for entry in journal()) == 3


@pytest.mark.usefixtures("stub")
def test_a_winner_whose_files_are_gone_is_missed_by_name(data: ImageData) -> None:
    tune(tiny(), data, directory="s", trials=2)
    Path("s/best.keras").unlink()
    lines = Path("s/journal.jsonl").read_text().splitlines(keepends=True)
    Path("s/journal.jsonl").write_text(
        "".join(line for line in lines if '"conclusion"' not in line)
    )
    with pytest.raises(reskeras.RequestError, match=r"best\.keras is missing; --fresh"):
        tune(tiny(), data, directory="s", trials=2)


@pytest.mark.usefixtures("stub")
def test_another_search_in_the_same_place_is_refused_with_the_difference(
    data: ImageData, blobs: dict[str, np.ndarray]
) -> None:
    tune(tiny(), data, directory="s", trials=1)
    with pytest.raises(
        reskeras.RequestError,
        match=r"s holds another search:\n  seed: it has 0, now 5\n.*--name.*--fresh",
    ):
        tune(tiny(), data, directory="s", trials=1, seed=5)
    other = from_arrays(blobs | {"x_val": blobs["x_val"] + 1}, name="blobs")
    with pytest.raises(reskeras.RequestError, match="data: it has"):
        tune(tiny(), other, directory="s", trials=1)


@pytest.mark.usefixtures("stub")
def test_a_failing_trial_is_recorded_and_the_search_goes_on(
    data: ImageData, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tuning.running.executor

    real = tuning.running.executor.run_trial
    calls = []

    def sometimes(*args: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            raise ValueError("out of luck")
        return (yield from real(*args))

    monkeypatch.setattr("tuning.running.executor.run_trial", sometimes)
    problems: list[str] = []
    result = tune(
        tiny(),
        data,
        directory="s",
        trials=3,
        listeners=[Tracker(tracking_uri(None), problems.append)],
    )
    # The stub's model is not Keras'.
    assert [problem for problem in problems if "not a Keras model" not in problem] == []
    assert [record.status for record in result.trials] == ["completed", "completed", "failed"]
    assert result.trials[-1].error.strip().endswith("ValueError: out of luck")
    runs = open_store(tracking_uri(None)).search_runs(["1"], "tags.`reskeras.trial` = '2'")
    assert [run.info.status for run in runs] == ["FAILED"]
    assert "out of luck" in runs[0].data.tags["reskeras.error"]
    # A replayed failure stays one.
    again = tune(tiny(), data, directory="s", trials=3)
    assert [record.status for record in again.trials] == ["completed", "completed", "failed"]


def test_a_search_without_any_result_fails_with_its_reasons(data: ImageData) -> None:
    space = tiny(**{"train.learning_rate": [50.0, 60.0]})
    hot = {}
    for split in ("train", "val"):
        images, labels = next(data.split(split).batch(200).as_numpy_iterator())
        hot |= {f"x_{split}": images * 1e30, f"y_{split}": labels}
    space = Space(
        dataclasses.replace(
            space.base, spec=dataclasses.replace(space.base.spec, norm={"kind": "none"})
        ),
        space.vary,
    )
    with pytest.raises(
        RuntimeError,
        match=r"no trial completed\n  the (validation )?loss is (nan|inf) (in|after) epoch 1",
    ):
        tune(space, from_arrays(hot), directory="s", trials=2)


@pytest.mark.usefixtures("stub")
def test_values_that_make_no_spec_together_fail_their_trial_alone(data: ImageData) -> None:
    space = tiny(
        **{
            "stem.width": [4, 16],
            "stages.0.width": [8, 16],
            "shortcut": ["pad", "project_on_change"],
        }
    )
    result = tune(space, data, directory="s", oracle="grid", trials=8)
    failed = [record for record in result.trials if record.status == "failed"]
    assert [dict(record.values) for record in failed] == [
        {"stem.width": 16, "stages.0.width": 8, "shortcut": "pad"}
    ]
    assert "shortcut 'pad' only adds channels" in failed[0].error


@pytest.mark.usefixtures("stub")
def test_points_above_a_limit_or_seen_before_are_dropped_and_counted(data: ImageData) -> None:
    space = tiny(
        **{"block.kind": ["plain", "basic"], "stages.*.blocks": [1, 2], "norm.epsilon": [1e-3]}
    )
    sizes = sorted(
        {
            reskeras.cost(space.recipe({"stages.*.blocks": blocks}).spec).trainable_params
            for blocks in (1, 2)
        }
    )
    result = tune(
        space, data, directory="s", oracle="grid", trials=None, limits=Limits(params=sizes[0])
    )
    assert {record.values["stages.*.blocks"] for record in result.trials} == {1}
    assert result.dropped == {f"more than {sizes[0]:,} parameters": 2}
    # A plain block computes the same under every shortcut, but its spec is another; only equal
    # specs are dropped.
    again = tune(
        space, data, directory="s", oracle="grid", trials=None, limits=Limits(params=sizes[0])
    )
    assert [told(r) for r in again.trials] == [told(r) for r in result.trials]
    assert again.dropped == result.dropped
    with pytest.raises(RuntimeError, match="no trial"):
        tune(space, data, directory="t", oracle="random", trials=2, limits=Limits(params=1))


@pytest.mark.usefixtures("stub")
def test_a_target_ends_a_search_at_the_epoch_that_reaches_it(data: ImageData) -> None:
    whole = tune(tiny(), data, directory="whole", trials=6, epochs=3)
    third = next(record for record in whole.trials if record.number == 3)
    reaching = min(record.number for record in whole.trials if record.score >= third.score)
    short = tune(tiny(), data, directory="short", trials=None, epochs=3, target=third.score)
    assert len(short.trials) == reaching
    last = next(record for record in short.trials if record.number == reaching)
    assert (last.status, last.epochs) == ("stopped", 1)
    with pytest.raises(reskeras.RequestError, match="needs an end"):
        tune(tiny(), data, directory="endless", trials=None)


@pytest.mark.usefixtures("stub")
def test_when_the_time_is_up_a_trial_is_paused_and_goes_on_another_time(
    data: ImageData, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = itertools.count()
    monkeypatch.setattr("tuning.search.tune.time.monotonic", lambda: next(clock))  # a second a look
    short = tune(tiny(), data, directory="s", oracle="tpe", trials=None, epochs=4, minutes=10 / 60)
    kinds = [entry["kind"] for entry in journal()]
    assert kinds.count("started") == kinds.count("trial") + 1
    assert len(short.trials) == kinds.count("trial") >= 1
    rest = tune(tiny(), data, directory="s", trials=4, epochs=4)
    assert sorted(record.number for record in rest.trials) == [1, 2, 3, 4]
    whole = tune(tiny(), data, directory="whole", trials=4, epochs=4)
    assert [told(r) for r in rest.trials] == [told(r) for r in whole.trials]


@pytest.mark.usefixtures("stub")
def test_final_trainings_of_the_best_over_several_seeds_decide_by_their_mean(
    data: ImageData,
) -> None:
    how = {"trials": 4, "final_epochs": 2, "final_top": 2, "final_seeds": 3}
    with pytest.raises(KeyboardInterrupt):
        tune(tiny(), data, directory="s", listeners=[StopInFinal(3)], **how)
    result = tune(tiny(), data, directory="s", **how)
    assert [entry["kind"] for entry in journal()].count("final") == 6  # none was run twice
    means = {
        number: np.mean(
            [final.record.score for final in result.finals if final.record.number == number]
        )
        for number in {final.record.number for final in result.finals}
    }
    assert sorted(means) == sorted(
        record.number for record in by_rank(result.trials, "val_accuracy")[:2]
    )
    assert result.best.number == max(means, key=means.get)
    assert len({final.record.score for final in result.finals}) == 6
    assert result.final.score == max(
        f.record.score for f in result.finals if f.record.number == result.best.number
    )
    assert reskeras.spec.text.load_recipe("s/best.yaml").train.epochs == 2
    assert [entry["kind"] for entry in journal()].count("conclusion") == 1


@pytest.mark.usefixtures("stub")
def test_a_mistake_that_the_oracle_finds_leaves_the_name_free(data: ImageData) -> None:
    with pytest.raises(reskeras.RequestError, match="no depth varies"):
        tune(tiny(), data, directory="s", oracle="nested", trials=1)
    assert not Path("s").exists()
    tune(tiny(), data, directory="s", trials=1)


@pytest.mark.usefixtures("stub")
def test_final_trainings_of_other_lengths_share_nothing(data: ImageData) -> None:
    with pytest.raises(KeyboardInterrupt):
        tune(tiny(), data, directory="s", trials=2, final_epochs=4, listeners=[StopInFinal(1)])
    result = tune(tiny(), data, directory="s", trials=2, final_epochs=2)
    assert [final.record.epochs for final in result.finals] == [2]
    assert reskeras.spec.text.load_recipe("s/best.yaml").train.epochs == 2


@pytest.mark.usefixtures("stub")
def test_time_ends_a_search_in_which_every_trial_fails(
    data: ImageData, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any) -> Any:
        raise ValueError("always")
        yield

    clock = itertools.count()
    monkeypatch.setattr("tuning.running.executor.run_trial", fails)
    monkeypatch.setattr("tuning.search.tune.time.monotonic", lambda: next(clock))
    with pytest.raises(RuntimeError, match="no trial completed\n  ValueError: always"):
        tune(tiny(), data, directory="s", trials=None, minutes=10 / 60)


def test_a_network_that_validation_breaks_has_failed(
    data: ImageData, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "reskeras.training.compiled.CompiledTrainer.evaluate",
        lambda *_: {"accuracy": 0.1, "loss": float("nan")},
    )
    with pytest.raises(RuntimeError, match="the validation loss is nan after epoch 1"):
        tune(tiny(), data, directory="s", trials=1, objective="val_loss")


def test_a_search_says_that_nothing_counts_in_its_objective(
    data: ImageData, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "reskeras.training.compiled.CompiledTrainer.evaluate",
        lambda *_: {"macro_f1": float("nan"), "accuracy": 0.5, "loss": 0.5},
    )
    with pytest.raises(RuntimeError, match="no trial has a score: val_macro_f1 is not a number"):
        tune(tiny(), data, directory="s", trials=2, objective="val_macro_f1")


@pytest.mark.usefixtures("stub")
def test_a_search_ends_with_an_answer_if_its_evaluation_fails(
    data: ImageData, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Path | None] = []

    def run_evaluation(job: EvaluationJob, data: ImageData) -> Epochs:
        asked.append(job.folder)
        yield from ()
        if job.folder is not None:
            raise ValueError("no picture")
        return Outcome(metrics={"accuracy": 0.25, "loss": 1.0})

    monkeypatch.setattr("tuning.running.executor.run_evaluation", run_evaluation)
    for _ in range(2):  # the evaluation is tried again
        result = tune(tiny(), data, directory="s", trials=2)
        assert result.test == {"accuracy": 0.25, "loss": 1.0}
        assert result.failure is not None
        assert result.failure.startswith("the evaluation failed: ValueError: no picture; ")
        assert Path("s/report.html").exists()
        assert Journal(Path("s/journal.jsonl")).conclusions[-1].test == result.test
    assert asked == [Path("s/evaluation"), None] * 2


@pytest.mark.usefixtures("stub")
def test_an_interrupt_in_the_evaluation_ends_the_search(
    data: ImageData, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run_evaluation(job: EvaluationJob, data: ImageData) -> Epochs:
        yield from ()
        raise KeyboardInterrupt

    monkeypatch.setattr("tuning.running.executor.run_evaluation", run_evaluation)
    with pytest.raises(KeyboardInterrupt):
        tune(tiny(), data, directory="s", trials=2)
    assert not Path("s/report.html").exists()


@pytest.mark.usefixtures("stub")
def test_two_processes_cannot_search_in_one_place(data: ImageData) -> None:
    class Second(Listener):
        def trial_started(self, trial: Trial) -> None:
            for fresh in (False, True):
                with pytest.raises(
                    reskeras.RequestError, match="another process is searching here"
                ):
                    tune(tiny(), data, directory="s", trials=1, fresh=fresh)

    tune(tiny(), data, directory="s", trials=1, listeners=[Second()])


@pytest.mark.usefixtures("stub")
def test_a_trial_is_told_only_when_it_is_on_disk(data: ImageData) -> None:
    class Told(Listener):
        def trial_ended(self, trial: Trial, record: TrialRecord | None) -> None:
            assert record is not None
            assert journal()[-1]["number"] == record.number

    tune(tiny(), data, directory="s", trials=2, listeners=[Told()])


@pytest.mark.usefixtures("stub")
def test_a_fresh_search_keeps_the_old_one_and_a_refused_one_changes_nothing(
    data: ImageData,
) -> None:
    tune(tiny(), data, directory="s", trials=2)
    with pytest.raises(reskeras.RequestError):
        tune(tiny(), data, directory="s", trials=1, fresh=True, objective="val_mean_iou")
    assert not Path("s.old1").exists()
    tune(tiny(), data, directory="s", trials=1, fresh=True, seed=9)
    assert len([entry for entry in journal() if entry["kind"] == "trial"]) == 1
    assert len([entry for entry in journal("s.old1") if entry["kind"] == "trial"]) == 2
    Path("file").touch()
    with pytest.raises(reskeras.RequestError, match="file: a file has the name of the search"):
        tune(tiny(), data, directory="file", trials=1)


def test_labels_need_a_classifier_and_masks_a_unet(data: ImageData) -> None:
    masks = {"x_train": np.zeros((4, 8, 8)), "x_val": np.zeros((4, 8, 8))}
    masks |= {f"y_{split}": np.arange(4 * 64).reshape(4, 8, 8) % 2 for split in ("train", "val")}
    with pytest.raises(reskeras.RequestError, match="have masks and need a network"):
        tune(tiny(), from_arrays(masks), directory="s", trials=1)
    unet = Space(reskeras.preset("unet_small"), {"stages.*.blocks": [1, 2]})
    with pytest.raises(reskeras.RequestError, match="have labels, one for each image"):
        tune(unet, data, directory="s", trials=1)
    assert not Path("s").exists()


def test_objectives_have_their_own_direction(data: ImageData) -> None:
    records = [
        TrialRecord(number=1, values={}, status="completed", score=0.3, metrics={"val_loss": 0.3}),
        TrialRecord(number=2, values={}, status="completed", score=0.2, metrics={"val_loss": 0.2}),
        TrialRecord(number=3, values={}, status="failed"),
        TrialRecord(number=4, values={}, status="completed", score=0.3, metrics={"val_loss": 0.1}),
    ]
    assert [record.number for record in by_rank(records, "val_accuracy")] == [4, 1, 2, 3]
    assert [record.number for record in by_rank(records, "val_loss")] == [2, 4, 1, 3]
    with pytest.raises(
        reskeras.RequestError, match="unknown objective 'val_mean_iou' for classification"
    ):
        tune(tiny(), data, directory="s", trials=1, objective="val_mean_iou")
    assert not Path("s").exists()


def test_a_torn_journal_loses_only_its_last_line(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    first = Journal(path)
    first.begin(journals.header(seed=1))
    first.add(Started(number=1, values={"a": 1}))
    first.add(TrialRecord(number=1, values={"a": 1}, status="completed", score=0.5))
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"kind": "trial", "numb')
    assert [record.number for record in Journal(path).trials] == [1]
    assert path.read_bytes() == whole
    path.write_text("{}\n")
    with pytest.raises(
        reskeras.RequestError,
        match=r"journal\.jsonl:1: not a line of a journal of this version \(it has no checksum",
    ):
        Journal(path)


def test_the_space_must_fit_the_data() -> None:
    masks = {f"x_{split}": np.zeros((4, 8, 6)) for split in ("train", "val")}
    masks |= {f"y_{split}": np.arange(4 * 48).reshape(4, 8, 6) % 2 for split in ("train", "val")}
    unet = Space(reskeras.preset("unet_small"), {"stages.*.blocks": [1, 2]})
    with pytest.raises(
        reskeras.RequestError,
        match=r"does not fit the data 'arrays': .*input_shape\.1: 6 cannot be halved 2 times",
    ):
        tune(unet, from_arrays(masks), directory="s", trials=1)
    assert not Path("s").exists()


def test_mlflow_failing_never_stops_a_search(
    data: ImageData, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    problems: list[str] = []
    result = tune(
        tiny(),
        data,
        directory="s",
        trials=1,
        listeners=[Tracker("http://127.0.0.1:9", problems.append)],
    )
    assert result.best.score is not None
    failed, lacking = problems
    assert failed.startswith("MLflow failed (http://127.0.0.1:9)")
    assert lacking.endswith(
        "`reskeras sync s --tracking-uri http://127.0.0.1:9` sends it from the journal"
    )


def test_a_plain_folder_is_no_tracking_store() -> None:
    with pytest.raises(reskeras.RequestError, match="a plain folder no longer is"):
        tracking_uri("./mlruns")


SEARCH = """
import sys
from reskeras.cli import main
main(["tune", sys.argv[1], "--data", sys.argv[2], "--trials", "3", "--name", "k"])
"""


def start(space: Path, npz: Path) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", SEARCH, str(space), str(npz)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for_trials(count: int) -> None:
    path = Path("searches/k/journal.jsonl")
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if path.exists() and path.read_text().count('"kind": "trial"') >= count:
            return
        time.sleep(0.05)
    pytest.fail(f"no {count} trials in time")


def test_a_terminated_command_resumes_and_leaves_no_run_running(
    blobs_npz: Path, tmp_path: Path
) -> None:
    """SIGINT and SIGKILL: tests/search/test_robust.py."""
    space = tiny(**{"block.kind": ["plain", "basic", "bottleneck"]}).with_train(epochs=25)
    (tmp_path / "space.yaml").write_text(space.dump())
    process = start(tmp_path / "space.yaml", blobs_npz)
    wait_for_trials(1)
    process.terminate()
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == 130, stderr
    assert "Traceback" not in stderr
    finished = sum(entry["kind"] == "trial" for entry in journal("searches/k"))
    assert 1 <= finished < 3
    if "MLflow" in stderr.partition("\n")[2]:  # slow, on a busy machine: do what it says
        sync(tracking_uri(None), Path("searches/k"))
    runs = open_store(tracking_uri(None)).search_runs(["1"])
    assert sorted(run.info.status for run in runs) == sorted(
        ["FINISHED"] * finished + ["KILLED"] * (len(runs) - finished)
    ), stderr
    assert "the same command resumes" in stderr
    process = start(tmp_path / "space.yaml", blobs_npz)
    stdout, stderr = process.communicate(timeout=300)
    assert process.returncode == 0, stderr
    assert f"{finished} of 3 trials are done already" in stderr
    assert "leaderboard" in stdout
    assert sum(entry["kind"] == "trial" for entry in journal("searches/k")) == 3
    runs = open_store(tracking_uri(None)).search_runs(["1"])
    assert "RUNNING" not in {run.info.status for run in runs}
    parents = [run for run in runs if run.data.tags["reskeras.kind"] == "search"]
    assert [run.info.status for run in parents] == ["FINISHED"]
