"""Tables of paths and labels: every row gets its own image, and what does not fit is named."""

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import reskeras
from reskeras.data import ImageData, load


def images(folder: Path, count: int, suffix: str = ".png") -> list[str]:
    """Gray images, each as bright as its number; returns their names without the suffix."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        Image.new("L", (8, 8), number).save(folder / f"i{number:02}{suffix}")
    return [f"i{number:02}" for number in range(count)]


def write(path: Path, rows: list[list[object]], delimiter: str = ",", bom: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8-sig" if bom else "utf-8", newline="") as file:
        csv.writer(file, delimiter=delimiter).writerows(rows)


def seen(data: ImageData) -> dict[str, dict[int, int]]:
    """For each split, the label of each image, by its number."""
    found = {}
    for split, size in data.sizes.items():
        pixels, labels = next(data.split(split).batch(999).as_numpy_iterator())
        numbers = np.rint(pixels[:, 0, 0, 0] * 255).astype(int).tolist()
        found[split] = dict(zip(numbers, labels.tolist(), strict=True))
        assert len(found[split]) == size
    return found


def refused(name: str = "./set/labels.csv") -> str:
    with pytest.raises(reskeras.RequestError) as error:
        load(name)
    assert "\n" not in str(error.value) or "cannot be read" in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("header", [("Path", "Label"), ("ID", "target"), ("File Name", "CLASS")])
@pytest.mark.parametrize("place", ["set", "set/images"])
def test_every_row_names_an_image_and_its_class(
    tmp_path: Path, delimiter: str, header: tuple[str, str], place: str
) -> None:
    names = images(tmp_path / place, 20)
    words = ["dog", "cat", "eel, sea"]
    rows = [[name, words[number % 3]] for number, name in enumerate(names)]
    if header[0] != "ID":
        rows = [[f"{name}.png", word] for name, word in rows]
    write(tmp_path / "set/labels.csv", [list(header), *rows], delimiter, bom=delimiter == ";")
    data = load("./set/labels.csv")
    assert (data.name, data.class_names) == ("labels", ("cat", "dog", "eel, sea"))
    assert Path(data.source) == tmp_path / "set/labels.csv"
    together = {n: label for split in seen(data).values() for n, label in split.items()}
    assert together == {n: sorted(words).index(words[n % 3]) for n in range(20)}
    assert data.sizes == {"train": 14, "val": 3, "test": 3}


def test_a_table_in_a_folder_is_found(tmp_path: Path) -> None:
    names = images(tmp_path / "set/images", 20)
    rows = [[name, number % 2] for number, name in enumerate(names)]
    write(tmp_path / "set/train.csv", [["id", "y"], *rows])
    write(tmp_path / "set/notes.csv", [["who", "when"], ["me", "now"]])
    data = load("./set")
    assert (data.name, data.source) == ("set", str(tmp_path / "set"))
    assert seen(data) == seen(load("./set/train.csv"))
    write(tmp_path / "set/sample.csv", [["id", "y"], ["i00", 0]])
    assert refused("./set") == (
        "set: sample.csv, train.csv could all hold the labels; give one of them to --data"
    )
    for name in "ab":
        images(tmp_path / "set" / name, 20)
    assert load("./set").class_names == ("a", "b", "images")  # a folder of classes


def test_whole_numbers_are_in_numeric_order(tmp_path: Path) -> None:
    names = images(tmp_path / "set", 30)
    rows = [[name, [10, 9, "2.0"][number % 3]] for number, name in enumerate(names)]
    write(tmp_path / "set/labels.csv", [["image", "class"], *rows])
    assert load("./set/labels.csv").class_names == ("2", "9", "10")


def test_splits_and_groups_are_taken(tmp_path: Path) -> None:
    names = images(tmp_path / "set", 24)
    splits = ["Training"] * 16 + ["valid"] * 4 + ["TEST"] * 4
    rows = [[n, k % 2, split] for k, (n, split) in enumerate(zip(names, splits, strict=True))]
    write(tmp_path / "set/labels.csv", [["image", "class", "Split"], *rows])
    found = seen(load("./set/labels.csv"))
    assert [sorted(split) for split in found.values()] == [
        list(range(16)),
        list(range(16, 20)),
        list(range(20, 24)),
    ]
    rows = [[name, k % 2, f"p{k // 4}"] for k, name in enumerate(names)]
    write(tmp_path / "set/labels.csv", [["image", "class", "patient_id"], *rows])
    data = load("./set/labels.csv")
    patients = [{number // 4 for number in split} for split in seen(data).values()]
    assert data.sizes == {"train": 16, "val": 4, "test": 4}
    assert sum(map(len, patients)) == len(set.union(*patients)) == 6


def test_labels_are_part_of_the_digest(tmp_path: Path) -> None:
    names = images(tmp_path / "set", 20)
    rows: list[list[object]] = [[name, "ab"[k % 2]] for k, name in enumerate(names)]
    table = tmp_path / "set/labels.csv"
    write(table, [["image", "class"], *rows])
    before = load("./set/labels.csv")
    write(table, [["image", "class"], *reversed(rows)])
    assert load("./set/labels.csv").digest == before.digest
    assert load(str(table)).digest == before.digest
    write(table, [["image", "class"], [names[0], "b"], [names[1], "a"], *rows[2:]])
    assert load("./set/labels.csv").digest != before.digest


HEADER: list[object] = ["image", "label"]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([["a", "b"], ["i00", "x"]], ": no column is called path, file, filename or image"),
        ([["image", "b"], ["i00", "x"]], ": no column is called label, class, target, category or"),
        ([["image", "b"], ["i00", "x"]], "; the columns are image, b"),
        (
            [["image", "path", "y"], ["i00", "i00", "x"]],
            ": image, path could each be the path; rename or delete all but one (the columns are "
            "image, path, y)",
        ),
        ([["id", "y", "Y"], ["i00", "1", "1"]], ": y, Y could each be the label"),
        ([["id", "y", "Y"], ["i00", "1", "1"]], "(the columns are id, y, Y); or --labels says"),
        ([HEADER, ["i00", "cat"], ["i01", ""]], ": 1 rows have no label (lines 3)"),
        ([HEADER, ["", "cat"]], ": 1 rows have no path (lines 2)"),
        ([HEADER, ["i00", "cat", "x"]], ", line 2: 3 fields; the header has 2"),
        ([HEADER], ": no rows below the header"),
        ([], ": empty; the first row names the columns"),
        ([HEADER, ["i00", "a"], ["i00.png", "b"]], "lines 2 and 3: i00.png has the label 'a' and"),
        ([HEADER, ["../i00.png", "a"]], ", line 2: ../i00.png: leaves set, the table's folder"),
        ([HEADER, ["images/../../x", "a"]], ", line 2: images/../../x: leaves set"),
        ([HEADER, ["/etc/passwd", "a"]], ", line 2: /etc/passwd: lies outside of set"),
        ([HEADER, ["out.png", "a"]], ", line 2: out.png: a link to "),
        ([HEADER, ["away/i00", "a"]], ", line 2: away/i00: a link to "),
        ([HEADER, ["x" * 300, "a"]], ": no file can be called so"),
        ([HEADER, ["two", "a"]], ", line 2: two: could be two.jpg, two.png; add the suffix"),
        (
            [[*HEADER, "split"], ["i00", "a", "rest"]],
            ", line 2: the split 'rest' is not train, val",
        ),
        ([[*HEADER, "split"], ["i00", "a", "test"]], ": the splits are test, without train"),
        (
            [[*HEADER, "split"], ["i00", "a", "train"], ["i01", "b", "val"]],
            ": classes that train does not have: b",
        ),
        (
            [HEADER, *([f"i{number:02}", f"w{number}"] for number in range(21))],
            ": 21 different labels (w0, w1, w10, w11, w12, ...) for 21 images; labels are classes",
        ),
        ([HEADER, *([f"i{number:02}", "one"] for number in range(9))], "only the class 'one' has"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path: Path, rows: list[list[object]], message: str) -> None:
    images(tmp_path / "set", 21)
    images(tmp_path / "elsewhere", 2)
    (tmp_path / "set/out.png").symlink_to(tmp_path / "elsewhere/i00.png")
    (tmp_path / "set/away").symlink_to(tmp_path / "elsewhere")
    for suffix in ("jpg", "png"):
        Image.new("L", (8, 8)).save(tmp_path / f"set/two.{suffix}")
    write(tmp_path / "set/labels.csv", rows)
    found = refused()
    assert found.startswith("set")
    assert message in found


def test_files_that_are_no_tables_are_named(tmp_path: Path) -> None:
    assert refused() == "set/labels.csv: not a table: No such file or directory"
    images(tmp_path / "set", 2)
    (tmp_path / "set/labels.csv").write_bytes("image,label\ni00,caf\u00e9\n".encode("latin-1"))
    assert refused() == "set/labels.csv: not UTF-8; save the table as UTF-8"
    (tmp_path / "set/labels.csv").write_text('image,label\ni00,"cat\n')
    assert refused() == "set/labels.csv: not a table: unexpected end of data"


def test_missing_files_are_few_or_refused_and_rows_may_repeat(tmp_path: Path) -> None:
    names = images(tmp_path / "set", 39)
    rows: list[list[object]] = [[name, "ab"[k % 2]] for k, name in enumerate(names)]
    write(tmp_path / "set/labels.csv", [HEADER, *rows, ["gone.png", "a"], rows[0], []])
    data = load("./set/labels.csv")
    assert sum(data.sizes.values()) == 39
    assert data.notes == (
        "1 rows repeat an image with its label; it counts once",
        "1 of 40 files cannot be read, and are left out:\n  gone.png: no such file",
    )
    write(tmp_path / "set/labels.csv", [HEADER, *rows, *([f"no{k}", "a"] for k in range(9))])
    assert refused().startswith("set: 9 of 48 files cannot be read; fix or delete them:\n  no0: no")


def test_absolute_paths_and_links_inside_are_taken(tmp_path: Path) -> None:
    names = images(tmp_path / "set/scans", 20)
    (tmp_path / "set/more").symlink_to("scans")
    (tmp_path / "linked").symlink_to("set")
    rows: list[list[object]] = [[tmp_path / "set/scans" / f"{name}.png", 1] for name in names[:10]]
    rows += [[f"more\\{name}.png", 2] for name in names[10:]]
    write(tmp_path / "set/labels.csv", [HEADER, *rows])
    for name in ("./set/labels.csv", "./linked/labels.csv"):
        found = seen(load(name))
        assert {n: label for split in found.values() for n, label in split.items()} == {
            n: n // 10 for n in range(20)
        }
