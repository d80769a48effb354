"""Scores of an evaluation are those of other libraries, and of training's own test line."""

import csv
import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from click.testing import CliRunner
from nets import randomize, small
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    balanced_accuracy_score,
    confusion_matrix,
    f1_score,
    jaccard_score,
    mean_absolute_error,
    precision_recall_fscore_support,
    r2_score,
    top_k_accuracy_score,
)
from tasks.test_tasks import examples

import reskeras
from reskeras.cli import main
from reskeras.data import DataOptions, ImageData, from_arrays, from_npz
from reskeras.data.label_facts import facts_of
from reskeras.evaluation import evaluate as evaluation
from reskeras.evaluation.calibration import bins_of
from reskeras.evaluation.collect import Answers, Contestant, collect
from reskeras.evaluation.evaluate import Evaluation, images_at
from reskeras.evaluation.evaluate import evaluate as evaluated
from reskeras.evaluation.files import write
from reskeras.evaluation.fitting import check
from reskeras.evaluation.intervals import estimate
from reskeras.models.asking import by_windows
from reskeras.models.predictor import Answerer, answerer
from reskeras.spec import Level, PlainBlock, Regressor, Segmenter, UNet
from reskeras.tasks import LOSS, TASKS, Facts, Labels, Output, Task
from reskeras.training.train import evaluate as by_training
from tuning.space import default_space

each_task = pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
Case = tuple[Any, ImageData, Answerer, Evaluation]
_CASES: dict[str, Case] = {}


def case_of(task: Task) -> Case:
    """A network with random weights, data of noise, and what it reaches on them."""
    if task.name not in _CASES:
        arrays = examples(task, 24)
        for split in ("train", "val", "test"):  # answers differ more if images do
            light = np.random.default_rng(3).uniform(0.1, 1, (24, 1, 1, 1))
            arrays[f"x_{split}"] = (arrays[f"x_{split}"] * light).astype("uint8")
        data = from_arrays(arrays, options=DataOptions(task=task.name))
        model = reskeras.build(default_space(data.facts, data.task).base.spec)
        randomize(model)
        ask = answerer(model, data.about())
        found = evaluated(ask, data, "test", name="net", batch=10)
        _CASES[task.name] = model, data, ask, found
    return _CASES[task.name]


def answered(data: ImageData, ask: Answerer) -> tuple[Any, Any, Any]:
    """All images of the test split with their labels and answers, in other ways than evaluation."""
    pairs = list(data.split("test").as_numpy_iterator())
    images, labels = (np.stack(part) for part in zip(*pairs, strict=True))
    return images, labels, ask(images)


@each_task
def test_scores_are_those_of_training_and_lie_in_their_intervals(task: Task) -> None:
    model, data, _, found = case_of(task)
    assert list(found.scores) == list(task.metrics)
    scores = {metric.name: value.value for metric, value in found.scores.items()}
    trained = by_training(model, data, "test")
    assert scores.keys() == trained.keys()
    for name, score in scores.items():
        # In training, answers that hardly differ count as equal.
        near = 5e-3 if name == "average_precision" else 2e-5
        assert score == pytest.approx(trained[name], rel=2e-4, abs=near), name
    for own in found.scores.values():
        assert own.low <= own.value <= own.high
    assert any(own.low < own.high for own in found.scores.values())
    document = json.loads(json.dumps(found.document(), allow_nan=False))
    assert document["metrics"] == pytest.approx(scores)
    assert set(document["intervals"]) == set(scores)


def test_the_same_answers_have_the_same_intervals_whatever_the_batches() -> None:
    _, data, ask, found = case_of(TASKS[0])
    again = evaluated(ask, data, "test", name="net", batch=7)
    for metric, own in found.scores.items():
        assert again.scores[metric] == pytest.approx(own, rel=1e-5)


@each_task
def test_scores_are_those_of_other_libraries(task: Task) -> None:
    _, data, ask, found = case_of(task)
    images, y, answers = answered(data, ask)
    wanted = oracle(task, y, answers, ask.outputs(images))
    assert set(wanted) == {metric.name for metric in task.metrics} - {LOSS.name} - _OURS
    for metric, own in found.scores.items():
        if metric.name in wanted:
            assert own.value == pytest.approx(wanted[metric.name], abs=1e-4), metric.name


_OURS = {"calibration_error"}
"""No library of ours has it: there is a test with a hand-worked number."""


def oracle(task: Task, y: Any, answers: Any, outputs: Any) -> dict[str, float]:
    match task.labels:
        case Labels.CLASS:
            chosen = answers.argmax(-1)
            return {
                "accuracy": accuracy_score(y, chosen),
                "balanced_accuracy": balanced_accuracy_score(y, chosen),
                "macro_f1": f1_score(y, chosen, average="macro"),
                "top_5_accuracy": 1.0,  # of three classes
            }
        case Labels.CLASSES:
            sure = answers > 0.5
            return {
                "average_precision": average_precision_score(y, answers, average="macro"),
                "macro_f1": f1_score(y, sure, average="macro"),
                "exact_match": accuracy_score(y, sure),
            }
        case Labels.MASK:
            a, b = y.ravel(), answers.argmax(-1).ravel()
            return {
                "mean_dice": f1_score(a, b, average="macro"),
                "mean_iou": jaccard_score(a, b, average="macro"),
                "foreground_dice": f1_score(a, b, labels=[1, 2], average="macro"),
                "foreground_iou": jaccard_score(a, b, labels=[1, 2], average="macro"),
                "accuracy": accuracy_score(a, b),
            }
        case Labels.NUMBERS:
            return {
                "mean_absolute_error": mean_absolute_error(y, answers),
                "r2": r2_score(y, answers),
            }
        case Labels.POINTS:
            distance = np.hypot(*np.moveaxis(y - answers[..., :2], -1, 0))
            distance = distance[~np.isnan(distance)]
            return {"pck": np.mean(distance <= 0.05 * 16), "pixel_error": distance.mean()}
        case Labels.IMAGE:
            target = y / np.float32(255) if y.dtype == np.uint8 else y
            return {
                "psnr": float(np.mean(tf.image.psnr(target, answers, 1.0))),
                "ssim": float(np.mean(tf.image.ssim(target, answers, 1.0))),
            }


@each_task
def test_weights_of_images_count_as_so_many_copies_and_influence_is_their_derivative(
    task: Task,
) -> None:
    _, data, ask, _ = case_of(task)
    network = Contestant(name="net", outputs=ask.heads, forms=ask.forms, metrics=task.metrics)
    (found,) = collect([network], data, "test", data.facts, 10)
    weights = np.random.default_rng(4).multinomial(24, np.full(24, 1 / 24)).astype("float32")
    copies = np.repeat(np.arange(24), weights.astype(int))
    parts = {name: value[copies] for name, value in found.statistics.items()}
    (losses,) = [found.losses[copies, None]]
    again = Answers(network, task, data.facts, parts, losses, np.ones_like(losses))
    drawn = {name: value[0] for name, value in found.resampled(weights[None]).items()}
    assert drawn == pytest.approx(again.scores(), rel=1e-4, abs=1e-5)
    # A small step: a finite difference of the score by the weight of the third image.
    step = np.ones((2, 24), "float32")
    step[:, 3] += [0.02, -0.02]
    influence = found.influence()
    for name, (more, less) in found.resampled(step).items():
        slope = influence[name][3]
        assert slope == pytest.approx((more - less) / 0.04, rel=0.05, abs=2e-3), name


def test_top_5_and_scores_of_classes_are_scikit_learns() -> None:
    random = np.random.default_rng(6)
    shares = random.dirichlet(np.ones(9), 60).astype("float32")
    shares[:20] = np.eye(9)[random.integers(0, 9, 20)]  # many classes with the same share
    y = np.append(random.integers(0, 8, 58), [8, 8])
    (task,) = (task for task in TASKS if task.labels is Labels.CLASS)
    form, facts = Output((None, 9), "softmax"), Facts((4, 4, 1), 9)
    statistics = {
        name: np.asarray(value) for name, value in task.statistics(y, shares, form, facts).items()
    }
    scores = task.scores(task.summed(statistics, facts), facts)
    top = top_k_accuracy_score(y, shares, k=5, labels=np.arange(9))
    assert float(scores["top_5_accuracy"]) == pytest.approx(top)
    wanted = precision_recall_fscore_support(y, statistics["answer"], labels=np.arange(9))
    found = {metric.name: value for metric, value in task.by_class(statistics, facts).items()}
    for name, values in zip(("precision", "recall", "f1", "support"), wanted, strict=True):
        np.testing.assert_allclose(np.nan_to_num(found[name]), values, err_msg=name)
    matrix = confusion_matrix(y, statistics["answer"], labels=np.arange(9))
    np.testing.assert_array_equal(task.confusion(statistics, facts), matrix)


def test_scores_of_classes_points_and_numbers_are_those_of_their_columns() -> None:
    by_name = {task.labels: case_of(task) for task in TASKS}
    _, data, ask, found = by_name[Labels.CLASSES]
    _, y, answers = answered(data, ask)
    columns = {metric.name: values for metric, values in found.by_class.items()}
    wanted = average_precision_score(y, answers, average=None)
    np.testing.assert_allclose(columns["class_average_precision"], wanted, atol=1e-6)
    np.testing.assert_allclose(
        np.nan_to_num(columns["f1"]), f1_score(y, answers > 0.5, average=None, zero_division=0)
    )
    _, data, ask, found = by_name[Labels.NUMBERS]
    _, y, answers = answered(data, ask)
    columns = {metric.name: values for metric, values in found.by_class.items()}
    np.testing.assert_allclose(
        columns["mean_absolute_error"], np.abs(y - answers).mean(axis=0), rtol=1e-4
    )
    np.testing.assert_allclose(
        columns["r2"], r2_score(y, answers, multioutput="raw_values"), rtol=1e-4
    )
    _, data, ask, found = by_name[Labels.POINTS]
    _, y, answers = answered(data, ask)
    columns = {metric.name: values for metric, values in found.by_class.items()}
    distance = np.linalg.norm(y - answers[..., :2], axis=-1)
    np.testing.assert_allclose(columns["pixel_error"], np.nanmean(distance, axis=0), atol=1e-3)
    # Labels and answers are where the network sees them.
    assert {"Mean error in pixels of the input"} <= {metric.label for metric in found.by_class}
    assert found.worst(1) == [int(np.nanmax(distance, axis=1).argmax())]
    _, data, ask, found = by_name[Labels.MASK]
    _, y, answers = answered(data, ask)
    columns = {metric.name: values for metric, values in found.by_class.items()}
    wanted = jaccard_score(y.ravel(), answers.argmax(-1).ravel(), average=None)
    np.testing.assert_allclose(columns["iou"], wanted)


def test_the_calibration_error_is_the_gap_of_each_bin_by_its_size() -> None:
    (task,) = (task for task in TASKS if task.labels is Labels.CLASS)
    form, facts = Output((None, 2), "softmax"), Facts((4, 4, 1), 2)
    sure = np.array([0.9, 0.9, 0.9, 0.6, 0.62], "float32")
    shares = np.stack([sure, 1 - sure], axis=1)
    y = np.array([0, 0, 1, 1, 0])  # of three at 90 % two are right, of two at 61 % one
    statistics = task.statistics(y, shares, form, facts)
    found = float(task.scores(task.summed(statistics, facts), facts)["calibration_error"])
    assert found == pytest.approx((3 * (0.9 - 2 / 3) + 2 * (0.61 - 0.5)) / 5, abs=1e-6)
    bins = bins_of(*task.confidence({n: np.asarray(v) for n, v in statistics.items()}))
    assert [each.size for each in bins] == [2, 3]
    assert [each.right.value for each in bins] == pytest.approx([1 / 2, 2 / 3])
    assert [each.confidence for each in bins] == pytest.approx([0.61, 0.9])


@pytest.mark.parametrize("size", [1, 0.05, 0.003])
def test_average_precision_is_scikit_learns_for_answers_that_differ(size: float) -> None:
    """Also for logits as small as those of a network that has learned little."""
    random = np.random.default_rng(10)
    there = random.integers(0, 2, (300, 3)).astype("float32")
    logits = (size * random.normal(there, 3)).astype("float32")
    (task,) = (task for task in TASKS if task.labels is Labels.CLASSES)
    form, facts = Output((None, 3), "linear"), Facts((4, 4, 1), 3)
    found = task.statistics(there, logits, form, facts)
    found = {name: np.asarray(value) for name, value in found.items()}
    wanted = average_precision_score(there, logits, average="macro")
    for statistics, near in ((found, 1e-3), (task.together(found), 1e-4)):
        score = task.scores(task.summed(statistics, facts), facts)["average_precision"]
        assert float(score) == pytest.approx(wanted, abs=near)


def test_a_point_of_no_training_image_is_in_the_middle_of_the_others() -> None:
    (task,) = (task for task in TASKS if task.labels is Labels.POINTS)
    form, facts = Output((None, 16, 16, 3), "linear"), Facts((16, 16, 1), 3)
    labels = np.full((4, 3, 2), np.nan, "float32")
    labels[:, 0], labels[:2, 1] = (2, 6), (10, 4)
    images = np.zeros((4, 16, 16, 1), "float32")
    (mean,) = task.baselines(images, labels, form, facts)
    places = task.answer(mean.outputs(images[:1]), form, facts)[0, :, :2]
    np.testing.assert_allclose(places, [(2, 6), (10, 4), (6, 5)], atol=0.3)
    val = np.array([[(2, 6), (10, 4), (9, 9)]], "float32")
    kept = {"train": [labels], "val": [val], "test": [val]}
    told = facts_of(Labels.POINTS, kept, 3).baseline
    assert told is not None
    assert told.score == pytest.approx(5 / 3)  # the last one is 3 and 4 pixels away


def test_numbers_that_are_constant_in_a_split_have_no_r2() -> None:
    (task,) = (task for task in TASKS if task.labels is Labels.NUMBERS)
    form, facts = Output((None, 2), "linear"), Facts((4, 4, 1), 2, (1.0, 5.0), (2.0, 0.3))
    y = np.array([[7.1, 5.0], [7.1, 5.4], [7.1, 4.7]], "float32")
    answers = y + np.array([[0.5, 0.1], [0.5, -0.1], [0.5, 0.05]], "float32")

    def of(y: Any, answers: Any) -> tuple[float, list[float]]:
        parts = task.statistics(y, answers, form, facts)
        score = task.scores(task.summed(parts, facts), facts)["r2"]
        columns = task.by_class({name: np.asarray(part) for name, part in parts.items()}, facts)
        (r2,) = (values for metric, values in columns.items() if metric.name == "r2")
        return float(score), r2.tolist()

    wanted = r2_score(y[:, 1], answers[:, 1])
    found, columns = of(y, answers)
    assert found == pytest.approx(wanted, rel=1e-4)
    assert np.isnan(columns[0])
    assert columns[1] == pytest.approx(wanted, rel=1e-4)
    found, columns = of(y[:1].repeat(40, 0), answers[:1].repeat(40, 0))
    assert np.isnan([found, *columns]).all()
    (metric,) = (metric for metric in task.metrics if metric.name == "r2")
    assert metric.write(found) == "-"


def test_resamples_without_a_score_do_not_count() -> None:
    random = np.random.default_rng(0)
    samples, influence = random.normal(size=200), random.normal(size=30)
    holes = np.insert(samples, [3, 50, 150], np.nan)
    assert estimate(0.1, holes, influence) == estimate(0.1, samples, influence)
    assert np.isnan(estimate(np.nan, holes[3:4], influence)).all()


def test_false_alarms_of_classes_that_no_image_has_count_in_f1() -> None:
    there = np.array([[1, 0, 0, 0], [0, 1, 0, 0], [1, 1, 0, 0]], "float32")
    logits = np.array([[5, -5, 5, -5], [-5, 5, 5, -5], [5, -5, 5, -5]], "float32")
    (task,) = (task for task in TASKS if task.labels is Labels.CLASSES)
    form, facts = Output((None, 4), "linear"), Facts((4, 4, 1), 4)
    sums = task.summed(task.statistics(there, logits, form, facts), facts)
    # The last class is neither there nor answered: it has no F1.
    each = f1_score(there, logits > 0, average=None, zero_division=np.nan)
    assert each[2] == 0
    assert np.isnan(each[3])
    scores = task.scores(sums, facts)
    assert float(scores["macro_f1"]) == pytest.approx(np.nanmean(each))
    assert float(scores["average_precision"]) == pytest.approx((1 + 5 / 6) / 2, abs=1e-3)


def test_baselines_know_what_the_training_labels_say_and_no_more() -> None:
    found = {task.labels: case_of(task) for task in TASKS}
    rivals = {
        kind: {rival.name: {m.name: s.value for m, s in rival.scores.items()} for rival in e.rivals}
        for kind, (_, _, _, e) in found.items()
    }

    def labels(kind: Labels, split: str) -> Any:
        data = found[kind][1]
        return np.stack([y for _, y in data.split(split).as_numpy_iterator()])

    train, test = (labels(Labels.CLASS, split) for split in ("train", "test"))
    common = np.bincount(train).argmax()
    assert rivals[Labels.CLASS]["majority class"]["accuracy"] == pytest.approx(
        np.mean(test == common)
    )
    shares = np.bincount(train) / len(train)
    assert rivals[Labels.CLASS]["majority class"]["loss"] == pytest.approx(
        -np.log(shares[test]).mean(), rel=1e-4
    )
    x, new = (
        np.stack([x for x, _ in found[Labels.CLASS][1].split(split).as_numpy_iterator()])
        for split in ("train", "test")
    )
    near = np.square(new[:, None] - x[None]).sum(axis=(2, 3, 4)).argmin(axis=1)
    assert rivals[Labels.CLASS]["nearest neighbor"]["accuracy"] == pytest.approx(
        np.mean(train[near] == test)
    )
    assert "loss" not in rivals[Labels.CLASS]["nearest neighbor"]
    test = labels(Labels.CLASSES, "test")
    (prior,) = rivals[Labels.CLASSES].values()
    assert prior["average_precision"] == pytest.approx(test.mean(axis=0).mean(), abs=1e-4)
    train, test = (labels(Labels.MASK, split) for split in ("train", "test"))
    (common_pixel,) = rivals[Labels.MASK].values()
    assert common_pixel["accuracy"] == pytest.approx(
        np.mean(test == np.bincount(train.ravel()).argmax()), abs=1e-5
    )
    (mean,) = rivals[Labels.NUMBERS].values()
    train, test = (labels(Labels.NUMBERS, split) for split in ("train", "test"))
    wanted = np.abs(test - train.mean(axis=0)).mean()
    assert mean["mean_absolute_error"] == pytest.approx(wanted, rel=1e-4)
    (position,) = rivals[Labels.POINTS].values()
    train, test = (labels(Labels.POINTS, split) for split in ("train", "test"))
    away = np.linalg.norm(test - np.nanmean(train, axis=0), axis=-1)
    assert position["pixel_error"] == pytest.approx(np.nanmean(away), abs=0.2)  # whole pixels
    assert rivals[Labels.IMAGE] == {}  # images of one channel, labels of three


@pytest.mark.parametrize("labels", [Labels.CLASS, Labels.NUMBERS, Labels.POINTS, Labels.CLASSES])
def test_baselines_of_large_images_know_all_labels_and_say_how_many_images(
    labels: Labels, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Eight of 24 images have as many numbers as baselines see."""
    (task,) = (task for task in TASKS if task.labels is labels)
    _, data, ask, whole = case_of(task)
    monkeypatch.setattr(evaluation, "_MOST_NUMBERS", 8 * int(np.prod(data.image_shape)))
    found = evaluated(ask, data, "test", name="net", batch=10)
    names = [rival.name for rival in whole.rivals]
    assert found.rivals[0].name == names[0]
    for metric, score in whole.rivals[0].scores.items():
        assert found.rivals[0].scores[metric].value == pytest.approx(score.value, abs=1e-5)
    near = [f"{name} of 8 training examples" for name in names[1:]]
    assert [rival.name for rival in found.rivals[1:]] == near
    assert len(near) == (labels is Labels.CLASS)


def test_a_baseline_of_some_masks_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    (task,) = (task for task in TASKS if task.labels is Labels.MASK)
    _, data, ask, _ = case_of(task)
    monkeypatch.setattr(evaluation, "_MOST_EXAMPLES", 9)
    (rival,) = evaluated(ask, data, "test", name="net", batch=10).rivals
    assert rival.name == "commonest class of 9 training examples"


def test_the_baseline_of_restoration_is_the_input_in_the_size_of_the_answer() -> None:
    (task,) = (task for task in TASKS if task.labels is Labels.IMAGE)
    images = np.random.default_rng(7).random((2, 8, 8, 1)).astype("float32")
    for side, wanted in ((8, images), (4, images.reshape(2, 4, 2, 4, 2, 1).mean(axis=(2, 4)))):
        form = Output((None, side, side, 1), "linear")
        (same,) = task.baselines(images, images, form, Facts((8, 8, 1), 1))
        np.testing.assert_allclose(same.outputs(images), wanted, rtol=1e-6)


def test_pixels_without_a_class_and_several_heads_are_scored_as_in_training() -> None:
    random = np.random.default_rng(8)
    arrays = {}
    for split in ("train", "val", "test"):
        masks = random.integers(0, 3, (9, 8, 8))
        masks[:4, :5] = 255  # half of the images have few pixels with a class
        arrays[f"x_{split}"] = random.integers(0, 256, (9, 8, 8, 1)).astype("uint8")
        arrays[f"y_{split}"] = masks
    data = from_arrays(arrays, options=DataOptions(ignore=255))
    assert data.ignores
    net = UNet(
        input_shape=(8, 8, 1),
        block=PlainBlock(),
        stages=(Level(width=4), Level(width=8), Level(width=8)),
        head=Segmenter(classes=3),
        deep_supervision=True,
    )
    model = reskeras.build(net)
    randomize(model)
    ask = answerer(model, data.about())
    assert len(ask.forms) > 1
    found = evaluated(ask, data, "test", name="net", batch=4)
    scores = {metric.name: value.value for metric, value in found.scores.items()}
    assert scores == pytest.approx(by_training(model, data, "test"), rel=1e-4)


@pytest.mark.parametrize(
    "task",
    [task for task in TASKS if task.labels not in (Labels.NUMBERS, Labels.CLASSES)],
    ids=lambda task: task.name,
)
def test_the_folder_holds_numbers_and_pictures(task: Task, tmp_path: Path) -> None:
    _, data, ask, found = case_of(task)
    write(found, ask, tmp_path / "out")
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"metrics.json", "worst.png"} <= names
    assert json.loads((tmp_path / "out" / "metrics.json").read_text()) == found.document()
    assert ("confusion.svg" in names) == (found.confusion is not None)
    assert ("calibration.png" in names) == bool(found.calibration)
    if found.by_class:
        with open(tmp_path / "out" / "per_class.csv", newline="") as file:
            rows = list(csv.DictReader(file))
        assert len(rows) == data.classes
        assert set(rows[0]) == {"name", *(metric.name for metric in found.by_class)}
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_images_come_in_the_order_of_their_places() -> None:
    data = case_of(TASKS[0])[1]
    images, labels = images_at(data, "val", [7, 2, 11])
    pairs = list(data.split("val").as_numpy_iterator())
    np.testing.assert_array_equal(images, [pairs[place][0] for place in (7, 2, 11)])
    np.testing.assert_array_equal(labels, [pairs[place][1] for place in (7, 2, 11)])


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two networks with random weights and their data, as `reskeras train` leaves them."""
    folder = tmp_path_factory.mktemp("trained")
    random = np.random.default_rng(9)
    arrays = {
        f"{axis}_{split}": array
        for split in ("train", "val", "test")
        for axis, array in (
            ("x", random.integers(0, 256, (30, 8, 8, 1)).astype("uint8")),
            ("y", np.arange(30) % 3),
        )
    }
    np.savez(folder / "data.npz", **arrays)
    for name, seed in (("a", 0), ("b", 1)):
        model = reskeras.build(small())
        randomize(model, seed)
        (folder / name).mkdir()
        model.save(folder / name / "model.keras")
        about = from_npz(folder / "data.npz").about()
        (folder / name / "data.json").write_text(json.dumps(about))
    np.savez(folder / "fives.npz", **{k: v * 5 if k[0] == "y" else v for k, v in arrays.items()})
    np.savez(folder / "two.npz", **{k: v % 2 if k[0] == "y" else v for k, v in arrays.items()})
    np.savez(
        folder / "big.npz",
        **{k: np.repeat(v, 2, 1) if k[0] == "x" else v for k, v in arrays.items()},
    )
    return folder


def call(*words: object) -> Any:
    return CliRunner().invoke(main, ["evaluate", *map(str, words)])


def test_the_command_prints_a_document(trained: Path, tmp_path: Path) -> None:
    done = call(trained / "a", "--json", "--out", tmp_path / "out")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    low, high = found["intervals"]["accuracy"]
    assert 0 <= low <= found["metrics"]["accuracy"] <= high <= 1
    assert (found["split"], found["images"], found["windows"]) == ("test", 30, None)
    assert [rival["name"] for rival in found["rivals"]] == ["majority class", "nearest neighbor"]
    assert json.loads((tmp_path / "out" / "metrics.json").read_text()) == found


def test_the_command_compares_two_networks_image_by_image(trained: Path) -> None:
    done = call(trained / "a", trained / "b", "--split", "val", "--json")
    (rival,) = json.loads(done.stdout)["rivals"]
    both = json.loads(done.stdout)["metrics"], rival["metrics"]
    gained = both[0]["loss"] - both[1]["loss"]
    assert rival["differences"]["metrics"]["loss"] == pytest.approx(gained, abs=1e-6)
    same = call(trained / "a", trained / "a", "--split", "val")
    assert "cannot be told apart by accuracy with 30 images" in same.stdout


def test_two_networks_that_saw_images_in_other_ways_are_not_compared(trained: Path) -> None:
    shutil.copytree(trained / "b", trained / "cropped")
    about = json.loads((trained / "b" / "data.json").read_text()) | {"resize": "crop"}
    (trained / "cropped" / "data.json").write_text(json.dumps(about))
    done = call(trained / "a", trained / "cropped")
    assert done.exit_code == 2
    assert "cropped was trained with resize: crop, and the images are prepared for" in done.stderr
    assert "with stretch: evaluate them one by one" in done.stderr
    assert call(trained / "cropped").exit_code == 0


def test_windows_of_few_images_are_told_as_such_and_say_nothing(tmp_path: Path) -> None:
    """Three images of 24x20 are nine windows of 8x8 each; eight are enough for intervals."""
    random = np.random.default_rng(1)
    arrays: dict[str, Any] = {}
    for split, count in (("train", 3), ("val", 8), ("test", 3)):
        arrays[f"x_{split}"] = random.integers(0, 256, (count, 24, 20)).astype("uint8")
        arrays[f"y_{split}"] = random.integers(0, 2, (count, 24, 20))
    np.savez(tmp_path / "data.npz", **arrays)
    net = UNet(
        input_shape=(8, 8, 1),
        block=PlainBlock(),
        stages=(Level(width=4), Level(width=4)),
        head=Segmenter(classes=2),
    )
    about = from_npz(tmp_path / "data.npz", DataOptions(resize="patch"), 2, (8, 8, 1)).about()
    for name, seed in (("a", 0), ("b", 1)):
        model = reskeras.build(net)
        randomize(model, seed)
        (tmp_path / name).mkdir()
        model.save(tmp_path / name / "model.keras")
        (tmp_path / name / "data.json").write_text(json.dumps(about))
    told = json.loads(call(tmp_path / "a", tmp_path / "b", "--json").stdout)
    assert (told["images"], told["windows"], told["kind"]) == (3, 27, "images")
    (rival,) = told["rivals"]
    for bounds in (told["intervals"], rival["intervals"], rival["differences"]["intervals"]):
        assert set(map(tuple, bounds.values())) == {(None, None)}
    assert rival["text"].endswith("by mean_dice: 27 windows of 3 images are too few")
    done = call(tmp_path / "a", tmp_path / "b")
    assert "test split: 27 windows of 3 images" in done.stdout
    assert "nan" not in done.stdout.lower()
    told = json.loads(call(tmp_path / "a", tmp_path / "b", "--split", "val", "--json").stdout)
    assert (told["images"], told["windows"]) == (8, 72)
    for low, high in told["intervals"].values():
        assert low < high


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_network_without_padding_is_scored_on_all_pixels_of_patches(split: str) -> None:
    """Its masks of 24x24 are the middle of windows of 40x40. 1 % of the pixels are of class 1."""
    random = np.random.default_rng(2)
    arrays: dict[str, Any] = {}
    for each in ("train", "val", "test"):
        arrays[f"x_{each}"] = random.integers(0, 256, (2, 64, 50)).astype("uint8")
        arrays[f"y_{each}"] = (random.random((2, 64, 50)) < 0.01).astype("uint8")
    data = from_arrays(arrays, options=DataOptions(resize="patch"), image_shape=(40, 40, 1))
    model = reskeras.build(
        UNet(
            input_shape=(40, 40, 1),
            block=PlainBlock(),
            stages=(Level(width=4), Level(width=4)),
            head=Segmenter(classes=2),
            padding="valid",
        )
    )
    assert model.output_shape == (None, 24, 24, 2)
    randomize(model)
    ask = answerer(model, data.about())
    found = evaluated(ask, data, split, name="net", batch=8)
    counts = np.bincount(arrays[f"y_{split}"].ravel(), minlength=2)
    np.testing.assert_array_equal(found.confusion.sum(axis=1), counts)
    # What `predict` answers for the whole images.
    predict = by_windows(ask, ask, "net")
    right = [
        (predict(image[..., None] / np.float32(255)).argmax(-1) == mask).mean()
        for image, mask in zip(arrays[f"x_{split}"], arrays[f"y_{split}"], strict=True)
    ]
    scores = {metric.name: value.value for metric, value in found.scores.items()}
    assert scores["accuracy"] == pytest.approx(np.mean(right), abs=0.05)
    assert by_training(model, data, "test")["accuracy"] == pytest.approx(
        evaluated(ask, data, "test", name="net", batch=8).confusion.trace() / 6400, abs=1e-5
    )


def test_a_network_of_doubled_images_is_not_scored_on_tripled_ones(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    y = random.integers(0, 256, (4, 24, 24)).astype("uint8")
    for times in (1, 2, 3):
        arrays = {"x_train": y[:, ::times, ::times], "y_train": y}
        arrays |= {f"{axis}_val": arrays[f"{axis}_train"] for axis in "xy"}
        np.savez(tmp_path / f"{times}.npz", **arrays)
    how = DataOptions(task="restoration")
    data = from_npz(tmp_path / "2.npz", how)
    assert data.enlarge == 2
    net = UNet(
        input_shape=(24, 24, 1),
        block=PlainBlock(),
        stages=(Level(width=4), Level(width=4)),
        head=Regressor(channels=1),
    )
    (tmp_path / "net").mkdir()
    reskeras.build(net).save(tmp_path / "net" / "model.keras")
    (tmp_path / "net" / "data.json").write_text(json.dumps(data.about()))
    for times, told in ((1, "of the size of their images"), (3, "3 times as large")):
        done = call(tmp_path / "net", "--data", tmp_path / f"{times}.npz", "--split", "val")
        assert done.exit_code == 2
        assert f"have targets {told}, but" in done.stderr
        assert "was trained on those 2 times as large" in done.stderr
    assert call(tmp_path / "net", "--split", "val").exit_code == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--split", "vall"], "--split vall: the data 'data' have no such split; did you mean"),
        (["--data", "two.npz"], "in 2 classes, but a was trained on those in 3 classes"),
        (
            ["--data", "fives.npz"],
            "labels with the values 0, 5, 10, but a was trained on 0, 1, 2;",
        ),
        (["--data", "big.npz"], "images of 16x8x1, but a takes 8x8x1"),
        (["--out", "a"], "a already exists; give a new folder"),
    ],
)
def test_what_cannot_be_compared_is_refused_in_a_line(
    words: list[str], message: str, trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(trained)
    done = call("a", *words)
    assert done.exit_code == 2
    assert message in done.stderr
    assert sum(line.startswith("error") for line in done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("task", "classes", "told"),
    [
        ("segmentation", 3, "segmentation in 3 classes"),
        ("classification", 4, "classification in 4 classes"),
        ("numbers", 1, "numbers with a number"),
        ("multilabel", 5, "multilabel with any of 5 classes"),
        ("restoration", 1, "restoration with images of 1 channel"),
    ],
)
def test_the_record_of_another_network_is_refused(
    task: str, classes: int, told: str, trained: Path, tmp_path: Path
) -> None:
    shutil.copytree(trained / "a", "c")
    about = json.loads(Path("c/data.json").read_text())
    Path("c/data.json").write_text(json.dumps(about | {"task": task, "classes": classes}))
    for words in (["evaluate", "c"], ["export", "c", "n.tflite"], ["predict", "c", "pixels.npy"]):
        np.save("pixels.npy", np.zeros((1, 8, 8), "uint8"))
        done = CliRunner().invoke(main, words)
        assert done.exit_code == 2, done.output
        assert done.stderr.splitlines()[-1] == (
            f"error: c/model.keras: the record of its data is of {told}, but the model answers "
            "[N, 3]: is the data.json or journal beside it another network's?"
        )
    assert not Path("n.tflite").exists()


@pytest.mark.parametrize("masks", [False, True])
@pytest.mark.parametrize(
    ("trained", "evaluated", "fit"),
    [
        (([3, 8], None, None), ([0, 1], None, None), False),
        (([0, 50, 100], None, None), ([0, 1, 2], None, None), False),
        (([0, 1, 255], None, 255), ([0, 255], None, None), False),
        (([3, 8], "ab", None), ([0, 1], None, None), True),  # nothing tells what a and b were
        (([0, 1], "ab", None), ([0, 1], None, None), True),
        (([0, 1, 255], None, 255), ([0, 1], None, None), True),
    ],
)
def test_labels_of_other_values_than_in_training_are_refused(
    trained: Any, evaluated: Any, fit: bool, masks: bool
) -> None:
    def data_of(values: list[int], names: str | None, ignore: int | None) -> ImageData:
        y = np.resize(values, (12, 8, 8) if masks else 12)
        arrays = {"x_train": np.zeros((12, 8, 8), "uint8"), "y_train": y}
        arrays |= {"x_val": arrays["x_train"], "y_val": y}
        named = {} if names is None else {"class_names": list(names)}
        return from_arrays(arrays | named, options=DataOptions(ignore=ignore))

    learned, data = data_of(*trained), data_of(*evaluated)
    ask: Any = SimpleNamespace(
        task=learned.task, facts=learned.facts, image_shape=learned.image_shape
    )
    check(ask, learned.about(), learned, "val", "net")
    if fit and not (masks and trained[0] == [3, 8]):  # masks have values beside names
        check(ask, learned.about(), data, "val", "net")
        return
    told = (", ".join(str(v) for v in some[0] if v != some[2]) for some in (evaluated, trained))
    message = "the values {}, but net was trained on {};".format(*told)
    with pytest.raises(reskeras.RequestError, match=message):
        check(ask, learned.about(), data, "val", "net")
