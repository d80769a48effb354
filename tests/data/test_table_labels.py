"""Tables whose labels are several classes, numbers or points, by the rows that were written."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import reskeras
from reskeras.cli import main
from reskeras.data import DataOptions, ImageData, load
from reskeras.tasks import Labels

COUNT = 20


def write(header: list[str], rows: list[list[Any]], sides: tuple[int, int] = (8, 8)) -> None:
    """A table, and gray images in `set/`, each as bright as its number."""
    folder = Path("set")
    folder.mkdir(exist_ok=True)
    for number in range(len(rows)):
        Image.fromarray(np.full(sides, number, np.uint8)).save(folder / f"i{number:02}.png")
    with (folder / "labels.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["image", *header])
        table.writerows([f"i{number:02}", *row] for number, row in enumerate(rows))


def opened(**options: Any) -> ImageData:
    return load("./set", options=DataOptions(**options))


def seen(data: ImageData) -> np.ndarray:
    """The label of each image, by its number."""
    found: dict[int, np.ndarray] = {}
    for split in data.sizes:
        for image, label in data.split(split).as_numpy_iterator():
            found[round(float(image[0, 0, 0]) * 255)] = label
            assert label.dtype == data.task.labels.dtype
            assert label.shape == data.label_shape
    return np.stack([found[number] for number in range(COUNT)])


def refused(header: list[str], rows: list[list[Any]], **options: Any) -> str:
    write(header, rows)
    with pytest.raises(reskeras.RequestError) as error:
        opened(**options)
    assert "\n" not in str(error.value)
    assert str(error.value).startswith("set/labels.csv")
    return str(error.value).removeprefix("set/labels.csv")


def test_columns_of_0_and_1_are_classes() -> None:
    flags = np.random.default_rng(0).integers(0, 2, (COUNT, 3))
    write(["cat", "dog", "eel"], [[a, f"{b}.0", c] for a, b, c in flags])
    data = opened()
    assert (data.task.labels, data.class_names) == (Labels.CLASSES, ("cat", "dog", "eel"))
    np.testing.assert_array_equal(seen(data), flags)
    write(["cat", "age", "eel"], [[a, k, c] for k, (a, _, c) in enumerate(flags)])
    message = "the columns cat, eel could be labels, beside age; --labels cat,eel (from Python, lab"
    with pytest.raises(reskeras.RequestError) as error:
        opened()
    assert message in str(error.value)
    data = opened(labels="eel,cat")
    assert data.class_names == ("eel", "cat")
    np.testing.assert_array_equal(seen(data), flags[:, [2, 0]])


@pytest.mark.parametrize("between", [";", " | "])
def test_a_cell_may_hold_several_classes(between: str) -> None:
    sets = [[word for bit, word in enumerate("cab") if number >> bit & 1] for number in range(8)]
    write(["label"], [[between.join(sets[number % 8])] for number in range(COUNT)])
    data = opened()
    assert (data.task.labels, data.class_names) == (Labels.CLASSES, ("a", "b", "c"))
    wanted = [[word in sets[number % 8] for word in "abc"] for number in range(COUNT)]
    np.testing.assert_array_equal(seen(data), wanted)
    assert data.notes == ("3 of 20 images have none of the classes",)


def test_numbers_of_classes_are_in_numeric_order_and_single_ones_are_sets_too() -> None:
    write(["label"], [["10;9", "9", "2;10"][number % 3 :][:1] for number in range(COUNT)])
    assert opened().class_names == ("2", "9", "10")
    write(["label"], [[number % 3] for number in range(COUNT)])
    assert opened().task.labels is Labels.CLASS
    data = opened(task="multilabel")
    np.testing.assert_array_equal(seen(data), np.eye(3)[np.arange(COUNT) % 3])


def test_real_numbers_are_numbers_and_whole_ones_if_the_task_says_so() -> None:
    values = np.linspace(-1, 2, COUNT).round(3)
    write(["target"], [[value] for value in values])
    data = opened()
    assert (data.task.labels, data.class_names) == (Labels.NUMBERS, ("target",))
    np.testing.assert_allclose(seen(data)[:, 0], values, rtol=1e-6)
    train = data.tensors("train")[1].numpy()
    np.testing.assert_allclose(data.mean, train.mean(0), rtol=1e-5)
    np.testing.assert_allclose(data.spread, train.std(0), rtol=1e-5)
    write(["y"], [[number * number] for number in range(COUNT)])
    np.testing.assert_array_equal(seen(opened(task="numbers"))[:, 0], np.arange(COUNT) ** 2)
    write(["age", "weight"], [[number, 70 - number] for number in range(COUNT)])
    data = opened(task="numbers")
    assert data.class_names == ("age", "weight")
    np.testing.assert_array_equal(seen(data), [[n, 70 - n] for n in range(COUNT)])
    assert opened(labels="weight", task="numbers").class_names == ("weight",)


def test_points_move_with_their_image() -> None:
    """A bright pixel at the point is where the point is after the image is resized."""
    random = np.random.default_rng(0)
    places = random.integers((2, 2), (30, 14), (COUNT, 2))
    header = ["Tip_x", "eye_X", "tip_Y", "eye_y"]
    write(header, [[x, x, y, y + 0.5] for x, y in places], sides=(16, 32))
    for number, (x, y) in enumerate(places):
        image = Image.open(f"set/i{number:02}.png")
        image.paste(255, (int(x) - 1, int(y) - 1, int(x) + 2, int(y) + 2))
        image.save(f"set/i{number:02}.png")
    data = opened()
    assert (data.task.labels, data.class_names) == (Labels.POINTS, ("Tip", "eye"))
    assert data.image_shape == (16, 32, 1)
    for resize, shape in (("stretch", (32, 32, 1)), ("pad", (32, 32, 1)), ("crop", (32, 32, 1))):
        data = load("./set", shape, DataOptions(resize=resize))  # type: ignore[arg-type]
        for image, label in data.split("train").as_numpy_iterator():
            (x, y), (other_x, other_y) = label
            if np.isnan(x):
                assert resize == "crop"
                assert np.isnan(other_x)
                continue
            rows, columns = np.nonzero(image[..., 0] > 0.9 * image.max())
            if resize == "crop" and not 3 < x < 28:
                continue  # the bright square is cut
            np.testing.assert_allclose((x, y), (columns.mean(), rows.mean()), atol=0.6)
            scale = {"stretch": 2, "pad": 1, "crop": 2}[resize]
            assert (other_x, other_y) == (x, pytest.approx(y + 0.5 * scale))


def test_points_may_be_missing_or_outside() -> None:
    rows: list[list[Any]] = [[2, number % 8, "", ""] for number in range(COUNT)]
    rows[3][2:] = [99, 0]
    rows[5][2:] = [1, 1]
    rows[6][2:] = [1, 2]
    rows[7][2:] = [1, 3]
    write(["a_x", "a_y", "b_x", "b_y"], rows)
    data = opened()
    found = seen(data)
    assert np.isfinite(found[:, 0]).all()
    assert np.flatnonzero(np.isfinite(found[:, 1]).all(-1)).tolist() == [5, 6, 7]
    assert data.notes == ("1 points outside their image are taken as not there",)


CLASSES = [[number % 2, number] for number in range(COUNT)]


@pytest.mark.parametrize(
    ("header", "rows", "options", "message"),
    [
        (["label"], [["a"], ["b;a"]], {"task": "classification"}, ", line 3: 'b;a' looks like se"),
        (
            ["label"],
            [["0.5"], ["2"]],
            {"task": "classification"},
            ": 1 labels are real numbers (0.",
        ),
        (
            ["label"],
            [["a"], ["2.5"]],
            {"task": "numbers"},
            ", line 2: label holds 'a', which is no",
        ),
        (["label"], [["nan"], ["2.5"]], {}, ", line 2: label holds 'nan', which is no number"),
        (["label"], [["1.5"], ["-1e39"]], {}, ", line 3: label holds '-1e39', beyond float32; "),
        (["a_x", "a_y"], [[3, "1e300"]], {}, ", line 2: a_y holds '1e300', beyond float32; "),
        (["label"], [["1.5"], [""]], {"task": "numbers"}, ": 1 rows have no label (lines 3)"),
        (["label"], [["1.5"]] * 20, {}, ": label is always 1.5 in training; there is nothing to"),
        (["label"], [[f"{n};x"] for n in range(22)], {}, ": 23 different labels (0, 1, 10, 11, 12"),
        (
            ["label"],
            [[n] for n in range(22)],
            {},
            "labels are classes; --task numbers (from Python",
        ),
        (
            ["label"],
            [["n/a"], *([n / 4] for n in range(21))],
            {},
            "; 21 of them are numbers, which --task numbers (from Python, task='numbers') predicts",
        ),
        (["a_x", "a_y"], [["", ""]] * 20, {}, ": no training image has the points a; points are x"),
        (
            ["label"],
            [["a"]],
            {"task": "segmentation"},
            ": a table holds classes, numbers or points,",
        ),
        (
            ["label"],
            [["a"]],
            {"labels": "lable"},
            ": --labels lable: no column is called 'lable'; ",
        ),
        (
            ["label"],
            [["a"]],
            {"labels": "image"},
            ": --labels image: the column 'image' is the path",
        ),
        (
            ["label"],
            [["a"]],
            {"labels": "label,Label"},
            ": --labels label,Label: names a column tw",
        ),
        (["label"], [["a"]], {"labels": ""}, ": --labels : is empty"),
        (
            ["label"],
            [["a"]],
            {"task": "keypoints"},
            ": no columns are called NAME_x and NAME_y, wh",
        ),
        (
            ["a", "b"],
            CLASSES,
            {},
            "; the columns are image, a, b; --labels COLUMN,... (from Python",
        ),
        (
            ["a", "b"],
            CLASSES,
            {"task": "multilabel"},
            ": the columns a could be labels, beside b; ",
        ),
        (
            ["a", "b"],
            [[0, 1], [1, 0], [1, 2]],
            {},
            "the columns are image, a, b; line 4: b holds '2', not 0 or 1; --labels COLUMN",
        ),
        (
            ["a", "b"],
            [[0, 0.5], [1, 0], [1, ""]],
            {"task": "numbers"},
            ": the columns a could be labels, beside b; line 4: b is empty; --labels a (",
        ),
        (
            ["a", "b"],
            CLASSES,
            {"labels": "a,b", "task": "multilabel"},
            ": the columns a, b are no ",
        ),
        (
            ["a_x", "a_y", "b"],
            [[1, 2, 3]],
            {},
            ": the columns a_x, a_y could be labels, beside b; ",
        ),
        (
            ["a_x", "a_y"],
            [[3, 2], [1, ""]],
            {},
            ", line 3: only one of a_x and a_y is given; leave",
        ),
        (["a_x", "a_y"], [[3, 2], [1, "up"]], {}, ", line 3: a_y holds 'up', which is no number"),
        (
            ["a_x", "a_y"],
            [[0.5, n / 40] for n in range(20)],
            {},
            ": all points are in 0..1; give pi",
        ),
        (
            ["a_x", "a_y", "b_x", "b_y"],
            [[3, 2, "", ""]] * 20,
            {},
            ": no training image has the poi",
        ),
        (
            ["cat", "cat"],
            [[0, 1]],
            {},
            ": several columns are called cat; rename or delete all but one",
        ),
        (
            ["label", "label"],
            [["a", "b"]],
            {"labels": "label"},
            ": --labels label: several columns are called label; rename or delete all but one",
        ),
        (["Cat", "CAT"], [["a", "b"]], {"labels": "cat"}, ": --labels cat: several columns are"),
    ],
)
def test_what_does_not_fit_is_named(
    header: list[str], rows: list[list[Any]], options: dict[str, Any], message: str
) -> None:
    assert message in refused(header, rows, **options)


def test_columns_that_differ_by_case_alone_are_told_apart_if_names_say_which() -> None:
    write(["Label", "label"], [["a", str(number % 2)] for number in range(COUNT)])
    np.testing.assert_array_equal(seen(opened(labels="label")), np.arange(COUNT) % 2)
    same = refused(["label", "label"], [["a", "b"]])
    assert "could each be the label; rename or delete all but one" in same
    assert "--labels" not in same


def test_other_data_have_no_columns(blobs_npz: Path) -> None:
    for number in range(8):
        Path(f"photos/{number % 2}").mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8), number).save(f"photos/{number % 2}/{number}.png")
    for name in (str(blobs_npz), "digits", "./photos"):
        with pytest.raises(reskeras.RequestError, match="--labels a is for the columns of a CSV"):
            load(name, options=DataOptions(labels="a"))


def test_names_and_labels_are_part_of_the_digest_and_of_the_record() -> None:
    rows = [[number % 2, number % 3 == 0] for number in range(COUNT)]
    write(["cat", "dog"], [[a, int(b)] for a, b in rows])
    before = opened()
    write(["cat", "eel"], [[a, int(b)] for a, b in rows])
    assert opened().digest != before.digest
    write(["cat", "dog"], [[a, int(not b)] for a, b in rows])
    assert opened().digest != before.digest
    data = opened(labels="dog,cat")
    assert data.options.words() == ["--labels", "dog,cat"]
    assert DataOptions().over(data.options.document()).labels == "dog,cat"


def test_the_command_takes_columns() -> None:
    write(["a", "b"], [[number / 3, number] for number in range(COUNT)])
    done = CliRunner().invoke(main, ["data", "./set", "--labels", "a", "--no-time"])
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines()[0].split() == [
        *("number", "train", "val", "test", "smallest", "largest")
    ]
