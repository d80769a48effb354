"""Every task keeps the promises that the other rooms rely on; a new task is tested by its
existing."""

import ast
import math
import pickle
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import reskeras
from reskeras.data import DataOptions, from_arrays
from reskeras.data.augment import Augmenter
from reskeras.models.outputs import outputs_by_name
from reskeras.models.predictor import answerer
from reskeras.spec import AUGMENTATIONS, TrainSpec
from reskeras.tasks import (
    LOSS,
    OBJECTIVES,
    TASKS,
    Better,
    Facts,
    Labels,
    Metric,
    Output,
    Task,
    Unit,
    find_metric,
    metric_of,
    objective_of,
    task_called,
    task_of,
    task_of_output,
    write_score,
)
from reskeras.tasks.class_labels import encoded
from reskeras.tasks.pictures import Stored
from reskeras.tasks.tally import Tally
from reskeras.training.train import evaluate, train
from tuning.space import default_space

ROOT = Path(reskeras.__file__).parents[1]
SHAPE, COUNT = (16, 16, 1), 3
CLASSIFICATION, SEGMENTATION = task_called("classification"), task_called("segmentation")
FACTS = Facts(SHAPE, COUNT, mean=(1.0, 2.0, 3.0), spread=(1.0, 2.0, 0.5))
each_task = pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)


def some_labels(task: Task, size: int, shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    """Labels of the task's kind, all classes among them."""
    random = np.random.default_rng(5)
    whole = (size, *task.labels.shape(shape, COUNT))
    match task.labels:
        case Labels.CLASS | Labels.MASK:
            labels = random.integers(0, COUNT, whole)
            labels.reshape(size, -1)[:COUNT, 0] = np.arange(COUNT)
            return labels
        case Labels.CLASSES:
            labels = random.integers(0, 2, whole)
            labels[:2] = [[0] * COUNT, [1] * COUNT]
            return labels
        case Labels.POINTS:
            points = random.uniform(0, shape[0] - 1, whole)
            points[0, 0] = np.nan
            return points
        case Labels.NUMBERS:
            return random.normal(20, 7, whole)
        case Labels.IMAGE:
            return random.integers(0, 256, whole).astype("uint8")


def examples(task: Task, size: int = 12, shape: tuple[int, ...] = SHAPE) -> dict[str, np.ndarray]:
    random = np.random.default_rng(5)
    return {
        f"{axis}_{split}": array
        for split in ("train", "val", "test")
        for axis, array in (
            ("x", random.integers(0, 256, (size, *shape)).astype("uint8")),
            ("y", some_labels(task, size, shape)),
        )
    }


@each_task
def test_a_task_goes_the_whole_way_by_its_own_default_space(task: Task) -> None:
    data = from_arrays(examples(task), options=DataOptions(task=task.name))
    assert data.task == task
    recipe = default_space(data.facts, data.task).base
    assert task.fit(recipe.spec, data.facts) == recipe.spec
    model = reskeras.build(recipe.spec)
    epochs = train(model, data, recipe.train, last_epoch=1)
    names = {metric.name for metric in task.metrics}
    assert {f"val_{name}" for name in names} <= set(epochs[-1].metrics)
    shown = {metric.name for metric in task.metrics if metric.while_training}
    assert shown == names & set(epochs[-1].metrics)
    scores = evaluate(model, data, "test")
    assert set(scores) == names
    assert all(math.isfinite(value) for value in scores.values())
    ask = answerer(model, data.about())
    answers = ask(np.stack([image for image, _ in data.split("test").as_numpy_iterator()]))
    assert ask.task == task
    assert len(answers) == data.sizes["test"]
    described = task.describe(answers[0], ("a", "b"), top=2)
    assert task.write(described)
    assert task.cells(described)
    settled = task.settled(answers[0])
    image = Image.new("RGB", SHAPE[1::-1])
    picture = task.picture(image, settled, described)
    assert (picture.mode, picture.width >= image.width) == ("RGB", True)
    stored = task.in_file(settled, Stored(values=(0, 255, 7), void=9))
    assert (stored is None) == (not task.labels.has_sides)
    assert stored is None or stored.dtype == np.uint8


@each_task
def test_a_task_travels_and_says_what_it_is(task: Task) -> None:
    assert pickle.loads(pickle.dumps(task)) == task
    assert len({task, pickle.loads(pickle.dumps(task))}) == 1
    assert task_called(task.name) == task
    assert task.metrics[0].name != LOSS.name
    assert LOSS in task.metrics
    assert objective_of(task, None) == f"val_{task.metrics[0].name}"
    assert {f"val_{metric.name}" for metric in task.metrics} <= set(OBJECTIVES)
    for metric in task.metrics:
        for reported in (metric.name, f"val_{metric.name}", f"best_val_{metric.name}"):
            assert find_metric(reported) == metric
    assert task_of(task.labels, task.name) == task
    task.check(TrainSpec())
    for loss in task.losses:
        task.check(TrainSpec(loss=loss))
    with pytest.raises(reskeras.RequestError, match=rf"'hinge' is no loss of {task.name}"):
        task.check(TrainSpec(loss="hinge"))
    if not task.smooths:
        with pytest.raises(reskeras.RequestError, match="no classes to smooth over"):
            task.check(TrainSpec(label_smoothing=0.1))
    if not task.weighs:
        with pytest.raises(reskeras.RequestError, match="does not weigh classes"):
            task.check(TrainSpec(class_weight="balanced"))


def test_no_two_tasks_have_one_name_and_unknown_names_are_refused() -> None:
    assert len({task.name for task in TASKS}) == len(TASKS)
    assert {task.labels for task in TASKS} == set(Labels)
    assert task_of(Labels.CLASS) == CLASSIFICATION
    with pytest.raises(reskeras.RequestError, match="did you mean 'segmentation'"):
        task_called("segmentatoin")
    with pytest.raises(reskeras.RequestError, match="takes masks, but the data hold labels"):
        task_of(Labels.CLASS, "segmentation")
    assert task_of_output(Output((None, 10), "softmax")) == CLASSIFICATION
    assert task_of_output(Output((None, 8, 8, 10), "softmax")) == SEGMENTATION
    assert find_metric("epoch_seconds") is None
    assert find_metric("val_focal_loss") is None  # another metric than the loss
    with pytest.raises(reskeras.RequestError, match="unknown metric 'val_f2'; known: accuracy"):
        metric_of("val_f2")
    with pytest.raises(reskeras.RequestError, match="'val_mean_iou' for classification"):
        objective_of(CLASSIFICATION, "val_mean_iou")


def test_metrics_are_written_by_their_unit_and_compared_by_their_direction() -> None:
    psnr = Metric(name="psnr", label="PSNR", better=Better.HIGHER, unit=Unit.NUMBER, decimals=2)
    assert psnr.write(28.4) == "28.40"  # not 2840.0 %
    assert psnr.write_difference(0.123) == "0.12"
    assert psnr.sign == 1.0
    assert write_score("val_accuracy", 0.98765) == "98.8 %"
    assert write_score("test_loss", 0.123456) == "0.1235"
    assert write_score("val_mean_iou", None) == "-"
    assert metric_of("val_accuracy").write_difference(0.0125) == "1.2 points"
    assert (metric_of("val_loss").sign, metric_of("val_accuracy").sign) == (-1.0, 1.0)


def perfect(task: Task, labels: np.ndarray, output: Output, facts: Facts) -> tuple[Any, Any]:
    """Targets of labels, and outputs that are as right and as sure as can be."""
    target = np.stack(
        [task.targets(tf.constant(y), {"head": output}, facts)["head"] for y in labels]
    )
    if task.labels in (Labels.CLASS, Labels.MASK):
        right = np.eye(COUNT, dtype="float32")[labels]
    else:
        right = target.astype("float32")
    if output.activation == "linear" and task.smooths:
        right = 60 * right - 30
    return target, right


@pytest.mark.parametrize("activation", ["softmax", "sigmoid", "linear"])
@each_task
def test_a_sure_and_right_answer_has_no_loss_and_full_marks(task: Task, activation: str) -> None:
    if not task.smooths and activation != "linear":
        pytest.skip("an output of numbers")
    if task.name == "multilabel" and activation == "softmax":
        pytest.skip("shares of all classes")
    labels = some_labels(task, 6).astype("float32" if task.labels.dtype == "float32" else "int32")
    if task.labels is Labels.IMAGE:
        labels = labels / np.float32(255)
    shape = default_space(FACTS, task).base.spec
    sides = outputs_by_name(reskeras.build(shape))["head"].shape[1:]
    output = Output((None, *sides), activation)
    target, answer = perfect(task, labels, output, FACTS)
    for loss in (task.loss(output, FACTS), task.trained_loss(output, FACTS, TrainSpec())):
        assert float(loss(target, answer)) == pytest.approx(0, abs=1e-5)
    for word in task.losses:
        loss = task.trained_loss(output, FACTS, TrainSpec(loss=word))
        assert float(loss(target, answer)) == pytest.approx(0, abs=2e-3), word
        worse = float(loss(target, np.roll(answer, 1, axis=-1)))
        assert worse > 10 * float(loss(target, answer)), word
    for metric in task.keras_metrics(output, FACTS):
        metric.update_state(target, answer)
        best = 0 if isinstance(metric, keras.metrics.MeanAbsoluteError) else 1
        assert float(metric.result()) == pytest.approx(best, abs=1e-4)
    tally = Tally(task, output, FACTS)
    for start in (0, 2, 3):  # batches of 2, 1 and 3
        stop = {0: 2, 2: 3, 3: 6}[start]
        tally.update_state(target[start:stop], answer[start:stop])
    scores = {name: float(value) for name, value in tally.result().items()}
    whole = Tally(task, output, FACTS)
    whole.update_state(target, answer)
    assert scores == pytest.approx({n: float(v) for n, v in whole.result().items()}, abs=1e-5)
    assert set(scores) == {metric.name for metric in task.metrics} - {LOSS.name}
    for name, value in scores.items():
        if name == "psnr":
            assert value == pytest.approx(100)  # the error of float32
        elif name == "pixel_error":
            assert value < 0.5  # of answers at whole pixels, or a quarter from them
        else:
            best = 1 if metric_of(name).better is Better.HIGHER else 0
            assert value == pytest.approx(best, abs=1e-3), name


def test_a_single_channel_is_the_answer_to_a_yes_or_no_question() -> None:
    facts = Facts(SHAPE, 2)
    for activation, answer in (("sigmoid", [[0.9], [0.2]]), ("linear", [[3.0], [-2.0]])):
        output = Output((None, 1), activation)
        targets = [
            CLASSIFICATION.targets(tf.constant(y), {"head": output}, facts)["head"] for y in (1, 0)
        ]
        assert np.array(targets).tolist() == [[1.0], [0.0]]
        (accuracy,) = CLASSIFICATION.keras_metrics(output, facts)
        assert isinstance(accuracy, keras.metrics.BinaryAccuracy)
        accuracy.update_state(np.array(targets), np.array(answer))
        assert float(accuracy.result()) == 1.0
        tally = Tally(CLASSIFICATION, output, facts)
        tally.update_state(np.array(targets), np.array(answer))
        assert float(tally.result()["accuracy"]) == 1.0


@each_task
def test_labels_and_answers_are_told_alike(task: Task) -> None:
    ant, sure = np.array([1, 0, 1]), np.array([0.6, 0.5, 0.9])
    names = ["ant", "bee", "cow"]
    told = {
        Labels.CLASS: (np.int32(2), np.array([0.1, 0.2, 0.7]), "cow", "cow 70.0 %"),
        Labels.CLASSES: (ant, sure, "ant, cow", "ant, cow"),
        Labels.NUMBERS: (ant * 1.23456, ant * 1.2351, "1.23, 0, 1.23", "1.24, 0, 1.24"),
    }
    # What has places is drawn.
    label, answer, *wanted = told.get(task.labels, (np.zeros((2, 2)), np.zeros((2, 2, 3)), "", ""))
    assert [task.label_in_words(label, names), task.answer_in_words(answer, names)] == wanted
    if task.labels is Labels.CLASSES:
        assert task.label_in_words(ant, ()) == "0, 2"
        assert task.label_in_words(0 * ant, names) == "none"


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_the_focal_loss_is_its_formula(activation: str) -> None:
    """(1 - p)^2 times the cross-entropy (arXiv 1708.02002, eq. 4), for either activation."""
    right = np.array([0.9, 0.6, 0.2], "float32")
    label = np.array([1, 0, 1])
    one = np.where(label == 1, right, 1 - right)[:, None]
    channels = one if activation == "sigmoid" else np.concatenate([1 - one, one], axis=1)
    output = Output((None, channels.shape[1]), activation)
    target = np.stack([encoded(each, output) for each in label])
    loss = CLASSIFICATION.trained_loss(output, Facts(SHAPE, 2), TrainSpec(loss="focal"))
    wanted = np.mean((1 - right) ** 2 * -np.log(right))
    assert float(loss(target, channels)) == pytest.approx(wanted, rel=1e-5)


def test_heads_of_lower_resolution_and_valid_padding_get_the_pixels_that_they_see() -> None:
    mask = tf.reshape(tf.range(64), (8, 8))
    outputs = {
        "head": Output((None, 4, 4, 64), "softmax", middle=(4, 4)),
        "head2": Output((None, 2, 2, 64), "softmax", middle=(4, 4)),
    }
    targets = SEGMENTATION.targets(mask, outputs, Facts((8, 8, 1), 64))
    assert targets["head"].numpy().tolist() == [
        [8 * row + 2 + c for c in range(4)] for row in range(2, 6)
    ]
    # The pixel in the middle of each 2x2 patch of the cropped mask.
    assert targets["head2"].numpy().tolist() == [[27, 29], [43, 45]]
    # Maps of the same shape whose pixels are 2x2 of the image, each from its middle.
    coarse = {"head": Output((None, 4, 4, 64), "softmax")}
    targets = SEGMENTATION.targets(mask, coarse, Facts((8, 8, 1), 64))
    assert targets["head"].numpy().tolist() == [
        [8 * row + c for c in (1, 3, 5, 7)] for row in (1, 3, 5, 7)
    ]


def test_maps_of_any_number_are_flipped_with_their_image_and_labels_are_not() -> None:
    image = tf.reshape(tf.range(64, dtype="float32"), (8, 8, 1))
    flips = 0

    def changed(labels: Labels) -> Augmenter:
        return Augmenter(augmentation=AUGMENTATIONS["shift_flip"], labels=labels)

    for number in range(40):
        both = tf.concat([image, 2 * image], -1)
        moved, maps = changed(Labels.IMAGE)(image, both, number)
        np.testing.assert_array_equal(maps, tf.concat([moved, 2 * moved], -1))
        one, mask = changed(Labels.MASK)(image, tf.cast(image[..., 0], "int32"), number)
        np.testing.assert_array_equal(mask, one[..., 0])
        _, label = changed(Labels.CLASS)(image, tf.constant(3), number)
        assert int(label) == 3
        row = one.numpy()[4, :, 0]
        flips += row[np.flatnonzero(row)[0]] > row[np.flatnonzero(row)[-1]]
    assert 10 <= flips <= 30  # a fair coin leaves this range once in a thousand times


def test_nothing_outside_asks_which_task_it_is() -> None:
    """Names of tasks and of their metrics stand in the tasks' room alone."""
    # kinds of head, of which there may be tasks of the same name
    names = {task.name for task in TASKS} - {"segmentation", "numbers"}
    names |= {metric.name for task in TASKS for metric in task.metrics} - {LOSS.name}
    names |= {f"val_{name}" for name in names}
    found = []
    for folder in ("reskeras", "tuning"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            # Features of embedded sets are named by their makers.
            rooms = ("tasks", "data/embedded")
            if any((ROOT / "reskeras" / room) in path.parents for room in rooms):
                continue
            tree = ast.parse(path.read_text(encoding="utf-8"))
            for node in ast.walk(tree):
                if isinstance(node, ast.Constant) and node.value in names:
                    found.append(f"{path.relative_to(ROOT)}:{node.lineno}: {node.value!r}")
                asked = ast.unparse(node.left) if isinstance(node, ast.Compare) else ""
                if isinstance(node, ast.Match):
                    asked = ast.unparse(node.subject)
                if isinstance(node, ast.Call) and ast.unparse(node.func) == "isinstance":
                    asked = ast.unparse(node.args[0])
                if asked.split(".")[-1] in ("task", "name") and "task" in asked.split("."):
                    found.append(f"{path.relative_to(ROOT)}:{node.lineno}: {ast.unparse(node)}")
    assert [line for line in found if not line.endswith(("task is None", "task is not None"))] == []
