"""Every task keeps the promises that the other rooms rely on; a new task is tested by its
existing."""

import ast
import math
import pickle
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

import reskeras
from reskeras.data import from_arrays
from reskeras.data.augment import changed
from reskeras.tasks import (
    CLASSIFICATION,
    LOSS,
    OBJECTIVES,
    SEGMENTATION,
    TASKS,
    Better,
    Metric,
    Output,
    Task,
    Unit,
    find_metric,
    metric_of,
    objective_of,
    task_of_labels,
    task_of_output,
    write_score,
)
from reskeras.training.train import evaluate, train
from tuning.space import default_space

ROOT = Path(reskeras.__file__).parents[1]
SHAPE, CLASSES = (8, 8, 1), 3


def examples(task: Task, size: int = 12) -> dict[str, np.ndarray]:
    random = np.random.default_rng(5)
    arrays = {}
    for split in ("train", "val", "test"):
        arrays[f"x_{split}"] = random.random((size, *SHAPE), dtype="float32")
        labels = random.integers(0, CLASSES, (size, *task.label_shape(SHAPE)))
        labels.reshape(size, -1)[:CLASSES, 0] = np.arange(CLASSES)  # every class is there
        arrays[f"y_{split}"] = labels
    return arrays


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_a_task_goes_the_whole_way_by_its_own_default_space(task: Task) -> None:
    data = from_arrays(examples(task))
    assert data.task == task
    recipe = default_space(data.image_shape, data.classes, data.task).base
    assert task.fit(recipe.spec, data.image_shape, data.classes) == recipe.spec
    model = reskeras.build(recipe.spec)
    assert task_of_output(model.output.shape) == task
    epochs = train(model, data, recipe.train, last_epoch=1)
    names = {metric.name for metric in task.metrics}
    assert {f"val_{name}" for name in names} <= set(epochs[-1].metrics)
    shown = {metric.name for metric in task.metrics if metric.while_training}
    assert shown == names & set(epochs[-1].metrics)
    scores = evaluate(model, data, "test")
    assert set(scores) == names
    assert all(math.isfinite(value) for value in scores.values())


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_a_task_travels_and_says_what_it_is(task: Task) -> None:
    assert pickle.loads(pickle.dumps(task)) == task
    assert len({task, pickle.loads(pickle.dumps(task))}) == 1
    assert task.metrics[0].name != LOSS.name
    assert LOSS in task.metrics
    assert objective_of(task, None) == f"val_{task.metrics[0].name}"
    assert {f"val_{metric.name}" for metric in task.metrics} <= set(OBJECTIVES)
    for metric in task.metrics:
        for reported in (metric.name, f"val_{metric.name}", f"best_val_{metric.name}"):
            assert find_metric(reported) == metric
    labels = (7, *task.label_shape(SHAPE))
    assert task_of_labels((7, *SHAPE), labels) == task
    answer = np.full((*task.label_shape(SHAPE), CLASSES), 0.2, "float32")
    answer[..., 1] = 0.6
    (best, *rest) = task.describe(answer, ("a", "b"), top=2)
    assert (best["class"], best["name"], len(rest)) == (1, "b", 1)
    assert rest[0]["name"] in ("a", None)
    assert task.write([best]).startswith("b ")
    assert task.write([best]).endswith(" %")
    if task.gives_masks:
        assert (task.mask(answer) == 1).all()
    else:
        with pytest.raises(TypeError, match="not masks"):
            task.mask(answer)


def test_no_two_tasks_claim_the_same_data_or_output() -> None:
    assert len({task.name for task in TASKS}) == len(TASKS)
    assert len({task.label_shape(SHAPE) for task in TASKS}) == len(TASKS)
    assert task_of_labels((7, *SHAPE), (7, 5)) is None
    assert task_of_output((None, 4, 4)) is None
    assert find_metric("epoch_seconds") is None
    assert find_metric("val_focal_loss") is None  # another metric than the loss
    with pytest.raises(reskeras.RequestError, match="unknown metric 'val_f1'; known: accuracy"):
        metric_of("val_f1")
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


@pytest.mark.parametrize("activation", ["softmax", "sigmoid", "linear"])
@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_a_sure_and_right_answer_has_no_loss_and_full_marks(task: Task, activation: str) -> None:
    output = Output((None, *task.label_shape(SHAPE), CLASSES), activation)
    label = np.arange(math.prod(task.label_shape(SHAPE) or (1,))) % CLASSES
    label = label.reshape(task.label_shape(SHAPE)).astype("int32")
    target = task.targets(tf.constant(label), {"head": output})["head"]
    right = np.eye(CLASSES, dtype="float32")[label]
    answer = {"softmax": right, "sigmoid": right, "linear": 60 * right - 30}[activation]
    loss = task.losses({"head": output})["head"](target[None], answer[None])
    assert float(loss) == pytest.approx(0, abs=1e-5)
    for metric in task.keras_metrics(output, CLASSES):
        metric.update_state(target[None], answer[None])
        assert float(metric.result()) == pytest.approx(1)


def test_a_single_channel_is_the_answer_to_a_yes_or_no_question() -> None:
    for activation, answer in (("sigmoid", [[0.9], [0.2]]), ("linear", [[3.0], [-2.0]])):
        output = Output((None, 1), activation)
        targets = [CLASSIFICATION.targets(tf.constant(y), {"head": output})["head"] for y in (1, 0)]
        assert np.array(targets).tolist() == [[1.0], [0.0]]
        (accuracy,) = CLASSIFICATION.keras_metrics(output, 2)
        assert isinstance(accuracy, keras.metrics.BinaryAccuracy)
        accuracy.update_state(np.array(targets), np.array(answer))
        assert float(accuracy.result()) == 1.0


def test_heads_of_lower_resolution_and_valid_padding_get_the_pixels_that_they_see() -> None:
    mask = tf.reshape(tf.range(64), (8, 8))
    outputs = {
        "head": Output((None, 4, 4, 64), "softmax"),
        "head2": Output((None, 2, 2, 64), "softmax"),
    }
    targets = SEGMENTATION.targets(mask, outputs)
    assert targets["head"].numpy().tolist() == [
        [8 * row + 2 + c for c in range(4)] for row in range(2, 6)
    ]
    # The pixel in the middle of each 2x2 patch of the cropped mask.
    assert targets["head2"].numpy().tolist() == [[27, 29], [43, 45]]


class Wide(type(SEGMENTATION)):  # type: ignore[misc]
    """Labels of several maps, such as images."""


def test_maps_of_any_number_are_flipped_with_their_image_and_labels_are_not() -> None:
    image = tf.reshape(tf.range(64, dtype="float32"), (8, 8, 1))
    flips = 0
    for number in range(40):
        moved, maps = changed(
            image, tf.concat([image, 2 * image], -1), "shift_flip", number, Wide()
        )
        np.testing.assert_array_equal(maps, tf.concat([moved, 2 * moved], -1))
        one, mask = changed(
            image, tf.cast(image[..., 0], "int32"), "shift_flip", number, SEGMENTATION
        )
        np.testing.assert_array_equal(mask, one[..., 0])
        _, label = changed(image, tf.constant(3), "shift_flip", number, CLASSIFICATION)
        assert int(label) == 3
        row = one.numpy()[4, :, 0]
        flips += row[np.flatnonzero(row)[0]] > row[np.flatnonzero(row)[-1]]
    assert 10 <= flips <= 30  # a fair coin leaves this range once in a thousand times


def test_nothing_outside_asks_which_task_it_is() -> None:
    """Names of tasks and of their metrics stand in the tasks' room alone."""
    names = {task.name for task in TASKS} - {"segmentation"}  # which is a kind of head too
    names |= {metric.name for task in TASKS for metric in task.metrics} - {LOSS.name}
    names |= {f"val_{name}" for name in names}
    found = []
    for folder in ("reskeras", "tuning"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            if (ROOT / "reskeras" / "tasks") in path.parents:
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
                if "task" in asked.split("."):
                    found.append(f"{path.relative_to(ROOT)}:{node.lineno}: {ast.unparse(node)}")
    assert [line for line in found if not line.endswith(("task is None", "task is not None"))] == []
