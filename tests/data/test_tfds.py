"""TFDS data sets: builders with the features of popular ones, tiny and made here."""

import dataclasses
import http.server
import importlib.util
import json
import pickle
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow_datasets as tfds
from click.testing import CliRunner
from PIL import Image

import reskeras
from reskeras.cli import main
from reskeras.data import DataOptions, ImageData, from_tfds, load, tfds_prepare
from reskeras.data.options import NO_OPTIONS
from reskeras.data.tfds import with_held
from reskeras.data.tfds_records import Part, Range
from reskeras.tasks import Labels, task_called

CLASSIFICATION = task_called("classification")
SEGMENTATION = task_called("segmentation")

Example = dict[str, Any]
IMAGE, CLASS = tfds.features.Image, tfds.features.ClassLabel
ANY, RGB, GRAY = (None, None, 3), (8, 8, 3), (None, None, 1)
SIZES = [(40, 30), (20, 36), (24, 24), (33, 50)]
"""Height and width of images without a common size."""


def pixels(number: int, shape: tuple[int, ...], kind: Any = np.uint8) -> np.ndarray:
    """The image of an example: noise that its number fixes."""
    random = np.random.default_rng(number)
    if np.dtype(kind).kind == "f":
        return random.normal(size=shape).astype(kind)
    return random.integers(0, np.iinfo(kind).max, shape, kind, endpoint=True)


def photo(number: int) -> np.ndarray:
    return pixels(number, (*SIZES[number % 4], 3))


def trimap(number: int) -> np.ndarray:
    return pixels(1000 + number, (*SIZES[number % 4], 1)) % 3 + 1


def eyes(number: int) -> np.ndarray:
    """A point in the image, and one that is below some."""
    height, _ = SIZES[number % 4]
    return np.array([[10, number % height], [3, 30]], np.float32)


@dataclasses.dataclass(frozen=True)
class Made:
    """The features of a data set and its examples, by their number."""

    features: Mapping[str, Any]
    example: Callable[[int], Example]
    supervised: tuple[str, str] | None = None
    splits: Mapping[str, int] = dataclasses.field(
        default_factory=lambda: {"train": 20, "validation": 8, "test": 8}
    )

    def numbers(self, split: str) -> range:
        first = 100 * list(self.splits).index(split)
        return range(first, first + self.splits[split])


def made() -> dict[str, Made]:
    boxes = tfds.features.Sequence(
        {"bbox": tfds.features.BBoxFeature(), "label": CLASS(num_classes=4)}
    )
    box = tfds.features.BBox(0.0, 0.0, 1.0, 1.0)
    rgb = lambda n: pixels(n, RGB)  # noqa: E731
    pair = ("image", "label")
    return {
        "cifar": Made(
            {"id": tfds.features.Text(), "image": IMAGE(shape=RGB), "label": CLASS(num_classes=3)},
            lambda n: {"id": str(n), "image": rgb(n), "label": n % 3},
            pair,
        ),
        "nette": Made(
            {"image": IMAGE(shape=ANY, encoding_format="png"), "label": CLASS(names=["a", "b"])},
            lambda n: {"image": photo(n), "label": n % 2},
            pair,
        ),
        "pet": Made(
            {
                "image": IMAGE(shape=ANY, encoding_format="png"),
                "label": CLASS(num_classes=4),
                "species": CLASS(names=["cat", "dog"]),
                "file_name": tfds.features.Text(),
                "segmentation_mask": IMAGE(shape=GRAY, encoding_format="png"),
                "head_bbox": tfds.features.BBoxFeature(),
            },
            lambda n: {
                "image": photo(n),
                "label": n % 4,
                "species": n % 2,
                "file_name": f"{n}.png",
                "segmentation_mask": trimap(n),
                "head_bbox": box,
            },
            pair,
            {"train": 20, "test": 8},
        ),
        "flowers": Made(
            {
                "image": IMAGE(shape=ANY),
                "label": CLASS(num_classes=3),
                "file_name": tfds.features.Text(),
            },
            lambda n: {"image": photo(n), "label": n % 3, "file_name": f"{n}.jpg"},
            pair,
        ),
        "celeb": Made(
            {
                "image": IMAGE(shape=RGB),
                "landmarks": {"nose_x": np.int64, "nose_y": np.int64},
                "attributes": {"Smiling": np.bool_, "Young": np.bool_},
            },
            lambda n: {
                "image": rgb(n),
                "landmarks": {"nose_x": n, "nose_y": n},
                "attributes": {"Smiling": n % 3 == 0, "Young": n % 2 == 0},
            },
        ),
        "euro": Made(
            {
                "sentinel2": tfds.features.Tensor(shape=(8, 8, 13), dtype=np.float32),
                "label": CLASS(num_classes=2),
                "filename": tfds.features.Text(),
            },
            lambda n: {
                "sentinel2": pixels(n, (8, 8, 13), np.float32),
                "label": n % 2,
                "filename": "x",
            },
            ("sentinel2", "label"),
            {"train": 30},
        ),
        "sat": Made(
            {
                "sentinel1": tfds.features.Tensor(shape=(8, 8, 8), dtype=np.float32),
                "sentinel2": tfds.features.Tensor(shape=(8, 8, 10), dtype=np.float32),
                "label": CLASS(num_classes=2),
                "sample_id": np.int64,
            },
            lambda n: {
                "sentinel1": pixels(n, (8, 8, 8), np.float32),
                "sentinel2": pixels(n, (8, 8, 10), np.float32),
                "label": n % 2,
                "sample_id": n,
            },
        ),
        "voc": Made(
            {
                "image": IMAGE(shape=ANY),
                "image/filename": tfds.features.Text(),
                "objects": boxes,
                "labels": tfds.features.Sequence(CLASS(num_classes=4)),
            },
            lambda n: {
                "image": photo(n),
                "image/filename": "x",
                "objects": [{"bbox": box, "label": 1}],
                "labels": [1, 2],
            },
        ),
        "clic": Made({"image": IMAGE(shape=ANY)}, lambda n: {"image": photo(n)}),
        "div": Made(
            {"lr": IMAGE(shape=ANY), "hr": IMAGE(shape=ANY)},
            lambda n: {"lr": photo(n), "hr": photo(n)},
            ("lr", "hr"),
        ),
        "numbers": Made(
            {"image": IMAGE(shape=RGB), "label": np.int64},
            lambda n: {"image": rgb(n), "label": [3, 7, 20][n % 3]},
            pair,
        ),
        "real": Made(
            {"image": IMAGE(shape=RGB), "age": np.float32},
            lambda n: {"image": rgb(n), "age": 1.5},
        ),
        "scenes": Made(
            {
                "image": IMAGE(shape=RGB),
                "map": tfds.features.LabeledImage(
                    labels=["sky", "road", "car"], shape=(8, 8, 1), dtype=np.uint8
                ),
            },
            lambda n: {"image": rgb(n), "map": pixels(n, (8, 8, 1)) % 2},
        ),
        "stereo": Made(
            {
                "images": {
                    "left": IMAGE(shape=(8, 8, 1), dtype=np.uint16),
                    "right": IMAGE(shape=(8, 8, 1), dtype=np.uint16),
                },
                "annotation": IMAGE(shape=RGB),
            },
            lambda n: {
                "images": {
                    "left": pixels(n, (8, 8, 1), np.uint16),
                    "right": pixels(n + 1, (8, 8, 1), np.uint16),
                },
                "annotation": pixels(n, (8, 8, 1)).repeat(3, -1) // 64,
            },
        ),
        "ignored": Made(
            {"image": IMAGE(shape=RGB), "mask": IMAGE(shape=(8, 8, 1))},
            lambda n: {
                "image": rgb(n),
                "mask": np.array([0, 1, 255], np.uint8)[pixels(n, (8, 8, 1)) % 3],
            },
            ("image", "mask"),
        ),
        "strange": Made(
            {"image": IMAGE(shape=RGB), "mask": IMAGE(shape=(8, 8, 1))},
            lambda n: {"image": rgb(n), "mask": pixels(n, (8, 8, 1)) % 2 + (n >= 100)},
            ("image", "mask"),
        ),
        "tags": Made(
            {
                "image": IMAGE(shape=RGB),
                "tags": tfds.features.Sequence(CLASS(names=["a", "b", "c"])),
            },
            lambda n: {"image": rgb(n), "tags": [k for k in range(3) if n >> k & 1]},
            ("image", "tags"),
        ),
        "flags": Made(
            {"image": IMAGE(shape=RGB), "flags": tfds.features.Tensor(shape=(2,), dtype=np.bool_)},
            lambda n: {"image": rgb(n), "flags": np.array([n % 2 == 0, n % 3 == 0])},
        ),
        "sizes": Made(
            {
                "image": IMAGE(shape=RGB),
                "sizes": tfds.features.Tensor(shape=(2,), dtype=np.float32),
            },
            lambda n: {"image": rgb(n), "sizes": np.array([n / 3, -n], np.float32)},
        ),
        "faces": Made(
            {
                "image": IMAGE(shape=ANY, encoding_format="png"),
                "eyes": tfds.features.Tensor(shape=(2, 2), dtype=np.float32),
            },
            lambda n: {"image": photo(n), "eyes": eyes(n)},
        ),
        "larger": Made(
            {"low": IMAGE(shape=RGB), "high": IMAGE(shape=(16, 16, 3))},
            lambda n: {"low": rgb(n), "high": pixels(n, (16, 16, 3))},
            ("low", "high"),
        ),
        "gan": Made(
            {"image": IMAGE(shape=RGB), "label": CLASS(num_classes=2)},
            lambda n: {"image": rgb(n), "label": n % 2},
            pair,
            {"trainA": 9, "trainB": 5},
        ),
        "secret": Made(
            {"image": IMAGE(shape=RGB), "label": CLASS(num_classes=2)},
            lambda n: {"image": rgb(n), "label": -1 if n >= 200 else n % 2},
            pair,
        ),
    }


@pytest.fixture(scope="session")
def sets() -> dict[str, Made]:
    return {f"tiny_{name}": one for name, one in made().items()}


@pytest.fixture(scope="session")
def folder(sets: dict[str, Made], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All of them, prepared: TFDS then opens them from the folder, without their builders."""
    tfds.disable_progress_bar()
    place = tmp_path_factory.mktemp("prepared")
    for name, one in sets.items():
        builder_of_(name, one)(data_dir=place).download_and_prepare()
    return place


def builder_of_(named: str, one: Made) -> Any:
    class Tiny(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version("1.0.0")
        name = named
        pkg_dir_path = None

        def _info(self) -> Any:
            return tfds.core.DatasetInfo(
                builder=self,
                features=tfds.features.FeaturesDict(dict(one.features)),
                supervised_keys=one.supervised,
            )

        def _split_generators(self, _: Any) -> Any:
            return {split: self._examples(split) for split in one.splits}

        def _examples(self, split: str) -> Any:
            for number in one.numbers(split):
                yield number, one.example(number)

        def _generate_examples(self) -> Any:
            raise NotImplementedError

    return Tiny


@pytest.fixture
def opened(folder: Path) -> Callable[..., ImageData]:
    def opener(name: str, shape: Any = None, **options: Any) -> ImageData:
        return load(f"tiny_{name}", shape, DataOptions(data_dir=str(folder), **options))

    return opener


def pairs(data: ImageData, split: str) -> list[tuple[np.ndarray, Any]]:
    return list(data.reader.stored(split).as_numpy_iterator())


def same(found: Any, wanted: Any) -> None:
    """Compares (image, label) pairs in any order."""

    def key(pair: Any) -> Any:
        return pair[0].tobytes(), np.asarray(pair[1]).tolist()

    assert [key(pair) for pair in sorted(found, key=key)] == sorted(map(key, wanted))


def test_a_class_label_needs_no_choice(opened: Any, sets: dict[str, Made]) -> None:
    for name, shape in (("cifar", RGB), ("euro", (8, 8, 13))):
        data, one = opened(name), sets[f"tiny_{name}"]
        assert (data.task, data.image_shape) == (CLASSIFICATION, shape)
        key = (one.supervised or ("", ""))[0]
        numbers = [n for split in one.splits for n in one.numbers(split)]
        same(
            [pair for split in data.sizes for pair in pairs(data, split)],
            [(one.example(n)[key], one.example(n)["label"]) for n in numbers],
        )
        assert not data.notes or "a tenth" in data.notes[0]
        pickle.loads(pickle.dumps(data)).split("val")


@pytest.mark.parametrize("resize", ["crop", "pad", "stretch"])
def test_images_are_resized_as_files_are(opened: Any, tmp_path: Path, resize: Any) -> None:
    """The same images as PNG files, and both as they reach a network."""
    data = opened("nette", (16, 12, 3), resize=resize)
    for number in range(20):
        place = tmp_path / "files" / "train" / "ab"[number % 2]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(photo(number)).save(place / f"{number}.png")
    files = load(str(tmp_path / "files"), (16, 12, 3), DataOptions(resize=resize))
    assert data.resize == files.resize == resize
    same(pairs(data, "train"), [p for s in ("train", "val") for p in pairs(files, s)])
    assert "20 of 20 sampled images are resized to 16x12" in data.notes[0]
    assert {"stretch": "stretched", "crop": "cropped", "pad": "padded"}[resize] in data.notes[0]


def test_the_size_is_the_median_where_no_network_says_it(opened: Any) -> None:
    height, width = np.median([SIZES[n % 4] for n in range(20)], axis=0).astype(int)
    assert opened("nette").image_shape == (height, width, 3)
    assert opened("flowers").image_shape == (height, width, 3)
    sides = tuple(8 * round(side / 8) for side in (height, width))  # for a U-Net
    assert opened("pet", features="label=segmentation_mask").image_shape == (*sides, 3)
    assert opened("cifar").image_shape == RGB


def test_features_choose_the_label(opened: Any, folder: Path) -> None:
    data = opened("pet")
    assert (data.classes, data.task, data.resize) == (4, CLASSIFICATION, CLASSIFICATION.resize)
    species = opened("pet", (8, 8, 3), features="label=species")
    assert species.class_names == ("cat", "dog")
    assert species.digest != data.digest
    smiling = opened("celeb", features="label=attributes/Smiling")
    same(pairs(smiling, "train"), [(pixels(n, RGB), int(n % 3 == 0)) for n in range(20)])
    left = opened("stereo", features="image=images/left, label=annotation")
    wanted = [pixels(n, (8, 8, 1), np.uint16).astype("f4") / 65535 for n in range(20)]
    found = sorted(image.tobytes() for image, _ in pairs(left, "train"))
    np.testing.assert_allclose(
        np.frombuffer(b"".join(found), "f4"),
        np.frombuffer(b"".join(sorted(image.tobytes() for image in wanted)), "f4"),
        rtol=1e-6,
    )
    sat = opened("sat", features="image=sentinel2")
    assert sat.image_shape == (8, 8, 10)
    same(pairs(sat, "train"), [(pixels(n, (8, 8, 10), np.float32), n % 2) for n in range(20)])


@pytest.mark.parametrize("resize", ["crop", "pad", "stretch"])
def test_masks_that_count_from_1_are_classes_at_the_nearest_pixel(
    opened: Any, tmp_path: Path, resize: Any
) -> None:
    data = opened("pet", (16, 24, 3), features="label=segmentation_mask", resize=resize)
    assert (data.task, data.classes, data.class_names) == (SEGMENTATION, 3, ("1", "2", "3"))
    assert any("1, 2, 3" in note for note in data.notes)
    for number in range(20):
        for kind, image in (("images", photo(number)), ("masks", trimap(number)[..., 0])):
            place = tmp_path / "files" / "train" / kind
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(place / f"{number}.png")
    files = load(str(tmp_path / "files"), (16, 24, 3), DataOptions(resize=resize))
    same(*([p for s in ("train", "val") for p in pairs(d, s)] for d in (data, files)))


def test_masks_by_name_or_kind(opened: Any) -> None:
    data = opened("scenes")
    assert (data.task, data.class_names) == (SEGMENTATION, ("sky", "road", "car"))
    masks = [(pixels(n, RGB), (pixels(n, (8, 8, 1)) % 2)[..., 0]) for n in range(20)]
    same(pairs(data, "train"), masks)
    gray = opened("stereo", features="image=images/right,label=annotation")
    assert (gray.task, gray.classes) == (SEGMENTATION, 4)
    with pytest.raises(reskeras.RequestError, match="masks hold 255 beside 0, 1"):
        opened("ignored")
    left = opened("ignored", ignore=255)
    assert (left.classes, left.ignores, left.notes[-1]) == (
        2,
        True,
        "pixels of masks that are 255 have no class",
    )
    wanted = [(pixels(n, RGB), (pixels(n, (8, 8, 1)) % 3)[..., 0].astype(int)) for n in range(20)]
    same(pairs(left, "train"), [(x, np.where(y == 2, -1, y).astype(np.int32)) for x, y in wanted])
    assert left.digest != opened("ignored", ignore=0).digest
    strange = opened("strange")
    with pytest.raises(reskeras.RequestError, match="the value 2, which no training mask holds"):
        strange.tensors("val")


def test_labels_of_every_kind(opened: Any) -> None:
    train = range(20)
    data = opened("tags")
    assert (data.task.labels, data.class_names) == (Labels.CLASSES, ("a", "b", "c"))
    sets = [np.array([n >> k & 1 for k in range(3)], np.float32) for n in train]
    same(pairs(data, "train"), [(pixels(n, RGB), y) for n, y in zip(train, sets, strict=True)])
    data = opened("flags", features="label=flags")
    assert data.task.labels is Labels.CLASSES
    same(
        pairs(data, "train"),
        [(pixels(n, RGB), np.array([n % 2 == 0, n % 3 == 0], np.float32)) for n in train],
    )
    data = opened("sizes", features="label=sizes")
    assert (data.task.labels, data.classes) == (Labels.NUMBERS, 2)
    numbers = np.array([[n / 3, -n] for n in train], np.float32)
    same(pairs(data, "train"), [(pixels(n, RGB), y) for n, y in zip(train, numbers, strict=True)])
    np.testing.assert_allclose(data.mean, numbers.mean(0), rtol=1e-6)
    np.testing.assert_allclose(data.spread, numbers.std(0), rtol=1e-6)
    data = opened("larger")
    assert (data.task.labels, data.image_shape, data.enlarge) == (Labels.IMAGE, (16, 16, 3), 2)
    low = [Image.fromarray(pixels(n, RGB)) for n in train]
    large = [np.asarray(image.resize((16, 16), Image.Resampling.BICUBIC)) for image in low]
    same(
        pairs(data, "train"),
        [(x, pixels(n, (16, 16, 3))) for n, x in zip(train, large, strict=True)],
    )
    data = opened("numbers", task="numbers")
    assert (data.task.labels, data.class_names) == (Labels.NUMBERS, ("label",))
    found = sorted(label.item() for _, label in pairs(data, "train"))
    assert found == sorted([3, 7, 20][n % 3] for n in train)


@pytest.mark.parametrize("resize", ["stretch", "pad"])
def test_points_are_those_of_a_table(opened: Any, tmp_path: Path, resize: Any) -> None:
    """The same images and points, as files and a CSV."""
    data = opened("faces", (16, 24, 3), features="label=eyes", resize=resize)
    assert data.task.labels is Labels.POINTS
    rows = ["image,a_x,a_y,b_x,b_y,split"]
    Path("set").mkdir()
    for number in range(20):
        Image.fromarray(photo(number)).save(f"set/{number}.png")
        rows.append(f"{number}.png,{','.join(map(str, eyes(number).ravel()))},train")
    Path("set/labels.csv").write_text("\n".join(rows))
    files = load("./set", (16, 24, 3), DataOptions(resize=resize))
    found, wanted = (
        [(x, np.nan_to_num(y, nan=-9)) for split in splits for x, y in pairs(one, split)]
        for one, splits in ((data, ("train",)), (files, ("train", "val")))
    )
    same(found, wanted)
    assert np.isnan(data.tensors("train")[1]).any()


def test_whole_numbers_are_classes_in_their_order(opened: Any) -> None:
    data = opened("numbers")
    assert (data.classes, data.class_names) == (3, ("3", "7", "20"))
    assert any("labels are 3, 7, 20" in note for note in data.notes)
    same(pairs(data, "val"), [(pixels(n, RGB), n % 3) for n in range(100, 108)])


@pytest.mark.parametrize(
    ("name", "features", "told"),
    [
        ("voc", None, r"does not hold one label .*labels: Sequence\(ClassLabel\)"),
        (
            "voc",
            "label=objects",
            r"objects of data set .* is Sequence\(.*\), and no label",
        ),
        ("pet", "label=head_bbox", "is BBoxFeature.*it has label, species, segmentation_mask"),
        ("pet", "label=specis", "no feature 'specis'; did you mean 'species'"),
        ("pet", "label", "write --features image=image,label=label"),
        ("pet", "label=label,label=species", "label is there twice"),
        ("pet", "image=file_name", "is Text, and no image"),
        ("pet", "image=segmentation_mask,label=segmentation_mask", "cannot be the image and"),
        ("clic", None, "does not hold one label for each image.*features: image: Image"),
        ("div", None, "hr holds colors; a mask has a number for each class"),
        ("real", None, "does not hold one label .*age: float32"),
        ("real", "label=age", "number 0 is always 1.5 in training; there is nothing to learn"),
        ("celeb", None, "several labels .* such as --features label=attributes/Smiling"),
        ("sat", None, "several images .* such as --features image=sentinel1"),
        ("stereo", None, r"does not hold one label|several images"),
    ],
)
def test_what_is_no_image_with_a_label_is_refused_in_a_line(
    opened: Any, name: str, features: str | None, told: str
) -> None:
    with pytest.raises(reskeras.RequestError, match=told) as caught:
        opened(name, features=features)
    assert "\n" not in str(caught.value)


def test_splits_are_those_of_tfds(opened: Any) -> None:
    data = opened("cifar", splits="train=train[:75%],val=train[75%:]+test[:2],test=validation")
    assert dict(data.sizes) == {"train": 15, "val": 7, "test": 8}
    seen = [image.tobytes() for s in data.sizes for image, _ in pairs(data, s)]
    assert len(set(seen)) == 30
    same(pairs(data, "test"), [(pixels(n, RGB), n % 3) for n in range(100, 108)])
    numbers = {pixels(n, RGB).tobytes(): n for n in range(300)}
    builder = tfds.builder("tiny_cifar", data_dir=data.options.data_dir)
    wanted = [r["image"].tobytes() for r in tfds.as_numpy(builder.as_dataset("train[:75%]"))]
    assert [image.tobytes() for image, _ in pairs(data, "train")] == wanted
    assert all(numbers[image] < 20 for image in wanted)
    assert data.digest != opened("cifar").digest
    alike = opened("cifar", splits="train=train,val=validation[0:8],test=test")
    assert alike.digest == opened("cifar").digest


def test_a_missing_validation_split_is_random_and_a_test_is_not_invented(opened: Any) -> None:
    data = opened("euro", splits="train=train")
    assert dict(data.sizes) == {"train": 27, "val": 3}
    assert len(data.tensors("train")[0]) == 27
    assert "random images of train" in data.notes[0]
    both = [image.tobytes() for s in data.sizes for image, _ in pairs(data, s)]
    assert len(set(both)) == 30


@pytest.mark.parametrize(
    ("splits", "told"),
    [
        ("train=train[:80%],val=train[70%:]", "train and val share 2 records of train"),
        ("train=train,val=validation,test=validation[:1]", "val and test share 1 records"),
        ("train=train+train[:3]", "takes 3 records of train twice"),
        ("train=trian", "Unknown split 'trian'"),
        ("train=train[:120%]", r"in \[-100, 100\]"),
        ("train=train[5:5]", "holds no records of train"),
        ("train=all[:5]", "does not support slice"),
        ("train=train[", "Unrecognized split format"),
        ("val=train", "says nothing of train"),
        ("training=train", "write --splits train="),
    ],
)
def test_splits_that_make_no_sense_are_refused_in_a_line(
    opened: Any, splits: str, told: str
) -> None:
    with pytest.raises(reskeras.RequestError, match=told) as caught:
        opened("cifar", splits=splits)
    assert "\n" not in str(caught.value)


def test_hidden_labels_are_not_used(opened: Any) -> None:
    data = opened("secret")
    assert dict(data.sizes) == {"train": 18, "val": 2, "test": 8}
    assert "'test' are hidden" in data.notes[0]
    with pytest.raises(reskeras.RequestError, match=r"the labels of test \(val\) are hidden"):
        opened("secret", splits="train=train,val=test")


def test_parts_of_a_split_are_shuffled_and_read_once(opened: Any) -> None:
    data = opened("cifar", splits="train=train[:15],val=train[15:]")
    stored = [image.tobytes() for image, _ in pairs(data, "train")]
    orders = [
        [image.tobytes() for image, _ in data.reader.shuffled("train", seed).as_numpy_iterator()]
        for seed in (1, 1, 2)
    ]
    assert orders[0] == orders[1] != orders[2]
    assert sorted(orders[0]) == sorted(orders[2]) == sorted(stored)
    chosen = [
        i.tobytes() for i, _ in data.reader.chosen("train", np.array([2, 9])).as_numpy_iterator()
    ]
    assert sorted(chosen) == sorted([stored[2], stored[9]])


def test_the_record_of_options_opens_the_same_data(
    opened: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder.parent)
    options = DataOptions(
        splits="train=train[:15],val=train[15:]", features="label=species", data_dir=folder.name
    )
    data = from_tfds("tiny_pet", (8, 8, 3), options)
    document = json.loads(json.dumps(data.options.document()))
    assert document["data_dir"] == str(folder.resolve())
    again = load(data.source, (8, 8, 3), NO_OPTIONS.over(document))
    assert (again.digest, again.class_names) == (data.digest, ("cat", "dog"))
    for one, other in zip(pairs(data, "val"), pairs(again, "val"), strict=True):
        np.testing.assert_array_equal(one[0], other[0])


def test_a_folder_that_tfds_has_made_is_no_folder_of_classes(
    opened: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    assert load("tiny_cifar", None, DataOptions(data_dir=".")).digest == opened("cifar").digest


@pytest.mark.parametrize("option", ["splits", "features", "data_dir"])
def test_other_sources_refuse_options_of_tfds(blobs_npz: Path, option: str) -> None:
    with pytest.raises(reskeras.RequestError, match=f"--{option.replace('_', '-')} is for"):
        load(str(blobs_npz), None, DataOptions(**{option: "x"}))


def test_the_command_line_has_the_options(folder: Path) -> None:
    wanted = ["--features", "label=attributes/Young", "--splits", "train=train,val=test"]
    told = CliRunner().invoke(
        main, ["data", "tiny_celeb", "--data-dir", str(folder), *wanted, "--json"]
    )
    assert told.exit_code == 0, told.output
    document = json.loads(told.stdout)
    assert document["sizes"] == {"train": 20, "val": 8}
    assert document["counts"] == {"train": [10, 10], "val": [4, 4]}


def test_versions_and_configurations_are_those_of_tfds(folder: Path) -> None:
    data = load("tiny_cifar:1.0.0", None, DataOptions(data_dir=str(folder)))
    assert data.digest.startswith("tiny_cifar/1.0.0")
    with pytest.raises(reskeras.RequestError, match=r"cannot be loaded at version 9\.9\.9"):
        load("mnist:9.9.9")
    with pytest.raises(reskeras.RequestError, match="did you mean '160px'"):
        load("imagenette/160p")
    with pytest.raises(reskeras.RequestError, match="a file, not a folder"):
        load("mnist", None, DataOptions(data_dir=__file__))


def test_an_unknown_data_set_is_told_its_nearest() -> None:
    with pytest.raises(
        reskeras.RequestError, match="unknown data set 'mnistt'; did you mean 'mnist'"
    ):
        load("mnistt", (8, 8, 3))


def test_a_data_set_to_download_without_a_network_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tfds_prepare, "_PROBE_URL", "http://127.0.0.1:9")  # nothing listens there
    with pytest.raises(
        reskeras.RequestError, match="must be downloaded, but the network does not answer"
    ):
        load("mnist", (8, 8, 3))


class Broken(http.server.BaseHTTPRequestHandler):
    """Sends half of what it announces, or nothing."""

    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/half" else 404)
        self.send_header("Content-Length", "100")
        self.end_headers()
        self.wfile.write(b"x" * 50)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Broken) as serving:
        thread = threading.Thread(target=serving.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{serving.server_port}"
        serving.shutdown()
        thread.join()


@pytest.fixture
def preparing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., ImageData]:
    """Opens a data set that is prepared by a function."""
    monkeypatch.setattr(tfds_prepare, "_network_answers", lambda: True)
    monkeypatch.setattr(
        "tensorflow_datasets.core.utils.gcs_utils.is_dataset_on_gcs", lambda name: False
    )

    def opener(split_generators: Callable[[Any], Any]) -> ImageData:
        class New(builder_of_("tiny_new", made()["cifar"]), skip_registration=True):
            name = "tiny_new"
            pkg_dir_path = None

            def _split_generators(self, manager: Any) -> Any:
                return split_generators(manager)

        monkeypatch.setattr(tfds, "builder", lambda name, data_dir: New(data_dir=tmp_path / "here"))
        return load("tiny_new")

    return opener


@pytest.mark.parametrize(
    ("path", "told"), [("half", r"IncompleteRead|50 bytes"), ("gone", "HTTP code: 404")]
)
def test_a_download_that_fails_is_told_in_a_line(
    preparing: Any, server: str, path: str, told: str
) -> None:
    with pytest.raises(reskeras.RequestError, match=f"cannot be downloaded: .*({told})") as caught:
        preparing(lambda manager: manager.download(f"{server}/{path}"))
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(importlib.util.find_spec("apache_beam") is not None, reason="it is here")
def test_a_data_set_that_needs_beam_or_another_package_says_so(preparing: Any) -> None:
    from tensorflow_datasets.core.utils.lazy_imports_utils import apache_beam

    with pytest.raises(reskeras.RequestError, match="is made by Apache Beam"):
        preparing(lambda _: {"train": apache_beam.Create([1])})

    def importing(_: Any) -> Any:
        raise ModuleNotFoundError("No module named 'nobody'", name="nobody.has")

    with pytest.raises(reskeras.RequestError, match="needs the Python package nobody; install"):
        preparing(importing)


def test_a_missing_manual_download_is_told_in_a_line(tmp_path: Path) -> None:
    with pytest.raises(reskeras.RequestError, match="must be downloaded by hand to") as caught:
        load("imagenet2012", None, DataOptions(data_dir=str(tmp_path)))
    told = str(caught.value)
    assert "\n" not in told
    assert str(tmp_path / "downloads" / "manual") in told
    assert "ILSVRC2012_img_train.tar" in told


def test_what_cannot_be_trained_on_is_refused_before_it_is_downloaded() -> None:
    for name in ("voc", "coco/2017", "clic", "celeb_a"):
        with pytest.raises(reskeras.RequestError, match=r"label for each image|several labels"):
            load(name)


def test_tfds_own_random_examples_can_be_read(opened: Any, folder: Path) -> None:
    with tfds.testing.mock_data(num_examples=20, data_dir=str(folder)):
        data = opened("flowers", (8, 8, 3))
        images, labels = data.tensors("train")
    assert images.shape == (20, 8, 8, 3)
    assert set(np.unique(labels)) <= {0, 1, 2}


@pytest.mark.parametrize(
    ("have", "expected"),
    [
        ({"train": 50, "validation": 9, "test": 7}, {"train": 50, "val": 9, "test": 7}),
        ({"train": 50, "val": 9}, {"train": 45, "val": 5, "test": 9}),
        ({"train": 50, "test": 7}, {"train": 45, "val": 5, "test": 7}),
        ({"train": 50}, {"train": 40, "val": 5, "test": 5}),
    ],
)
def test_missing_splits_are_random_images_of_train(
    have: dict[str, int], expected: dict[str, int]
) -> None:
    known = {split: Part(split, (Range(split, 0, size),)) for split, size in have.items()}
    parts = with_held(known, [])
    assert {split: part.size for split, part in parts.items()} == expected
    cut = [part.places for part in parts.values() if part.places is not None]
    if cut:
        assert sorted(np.concatenate(cut)) == list(range(50))
        assert all(np.ptp(places) > 20 for places in cut)  # not the end of train


def test_a_data_set_without_train_is_told_how_to_name_its_splits(opened: Any) -> None:
    with pytest.raises(reskeras.RequestError, match=r"no split 'train'.*\(it has: trainA, trainB"):
        opened("gan")
    assert dict(opened("gan", splits="train=trainA,val=trainB").sizes) == {"train": 9, "val": 5}
