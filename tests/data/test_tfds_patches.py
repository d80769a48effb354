"""TFDS images of unequal sizes, in patches: the same images as files give the same patches."""

import dataclasses
import io
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow_datasets as tfds
from click.testing import CliRunner
from data.test_tfds import Made, builder_of_
from PIL import Image

import reskeras
from reskeras.cli import main
from reskeras.data import Cache, DataOptions, ImageData, load
from reskeras.data.tfds_places import Serialized
from reskeras.spec import Level, PlainBlock, Recipe, Segmenter, TrainSpec, UNet
from reskeras.spec.text import dump_recipe
from reskeras.tasks import Labels

IMAGE = tfds.features.Image
ANY, GRAY = (None, None, 3), (None, None, 1)
SPLITS = {"train": 10, "validation": 4, "test": 3}
FILES = {"png": "PNG", "jpeg": "JPEG"}


def sides(number: int) -> tuple[int, int]:
    """Height and width; the first are smaller than a patch."""
    return 12 + 3 * (number % 5), 40 - 4 * (number % 7)


def smooth(number: int, size: tuple[int, int]) -> np.ndarray:
    """Colors that JPEG keeps about."""
    random = np.random.default_rng(number)
    few = Image.fromarray(random.integers(0, 256, (4, 4, 3), np.uint8))
    return np.asarray(few.resize(size[::-1], Image.Resampling.BICUBIC))


def mask(number: int) -> np.ndarray:
    """One class beside 0: 1 in the first of the records of a split, 2 in the last."""
    found = np.zeros((*sides(number), 1), np.uint8)
    found[3:8, 5:9] = 1 if number % 100 < 5 else 2
    return found


def encoded(image: np.ndarray, form: str) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image.squeeze()).save(file, FILES[form])
    return file.getvalue()


def cells(form: str) -> Made:
    return Made(
        {
            "id": tfds.features.Text(),
            "image": IMAGE(shape=ANY, encoding_format=form),
            "mask": IMAGE(shape=GRAY, encoding_format="png"),
        },
        lambda n: {
            "id": str(n),
            "image": io.BytesIO(encoded(smooth(n, sides(n)), form)),
            "mask": mask(n),
        },
        ("image", "mask"),
        SPLITS,
    )


def div(form: str, times: int = 2) -> Made:
    def example(n: int) -> dict[str, Any]:
        height, width = sides(n)
        high = smooth(n, (times * height, times * width))
        low = high[::times, ::times]
        return {
            "id": str(n),
            "lr": io.BytesIO(encoded(low, form)),
            "hr": io.BytesIO(encoded(high, form)),
        }

    image = {"shape": ANY, "encoding_format": form}
    features = {"id": tfds.features.Text(), "lr": IMAGE(**image), "hr": IMAGE(**image)}
    return Made(features, example, ("lr", "hr"), SPLITS)


def changed(one: Made, key: str, number: int, value: Any) -> Made:
    def example(n: int) -> dict[str, Any]:
        return one.example(n) | ({key: value} if n == number else {})

    return dataclasses.replace(one, example=example)


def in_order(named: str, one: Made) -> Any:
    """A builder that stores the examples in their order: sorted by class."""

    class Sorted(builder_of_(named, one), skip_registration=True):  # type: ignore[misc]
        name = named
        pkg_dir_path = None

        def _info(self) -> Any:
            return tfds.core.DatasetInfo(
                builder=self,
                features=tfds.features.FeaturesDict(dict(one.features)),
                supervised_keys=one.supervised,
                disable_shuffling=True,
            )

    return Sorted


Opener = Callable[..., ImageData]


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Prepares a data set, once under each name."""
    tfds.disable_progress_bar()
    folder = tmp_path_factory.mktemp("prepared")

    def prepare(name: str, one: Made, form: str | None = None, shards: int | None = None) -> Path:
        if not (folder / name).exists():
            kind = builder_of_(name, one) if form or shards else in_order(name, one)
            builder = kind(data_dir=folder, file_format=form)
            config = tfds.download.DownloadConfig(num_shards=shards)
            builder.download_and_prepare(download_config=config)
        return folder

    return prepare


@pytest.fixture
def opened(prepared: Callable[..., Path]) -> Opener:
    def opener(
        name: str,
        one: Made,
        shape: Any = (16, 16, 3),
        form: str | None = None,
        shards: int | None = None,
        **options: Any,
    ) -> ImageData:
        folder = prepared(name, one, form, shards)
        how = DataOptions(**{"data_dir": str(folder), "resize": "patch"} | options)
        return load(name, shape, how)

    return opener


def numbers(name: str, folder: str, split: str) -> list[int]:
    """The examples of a split, in the order in which TFDS itself gives them."""
    builder = tfds.builder(name, data_dir=folder)
    if builder.info.file_format is tfds.core.FileFormat.ARRAY_RECORD:
        found = [record["id"] for record in builder.as_data_source(split)]
    else:
        found = [record["id"] for record in tfds.as_numpy(builder.as_dataset(split))]
    return [int(number) for number in found]


def as_files(one: Made, places: tuple[str, str], form: str, order: dict[str, list[int]]) -> None:
    """Writes the same images to a folder, in the same order."""
    for split, some in order.items():
        for place, number in enumerate(some):
            example = one.example(number)
            for key, folder in zip((one.supervised or ("", ""))[:2], places, strict=True):
                path = Path("set", split, folder)
                path.mkdir(parents=True, exist_ok=True)
                value = example[key]
                end = "png" if isinstance(value, np.ndarray) else form
                content = value.getvalue() if end == form and hasattr(value, "getvalue") else None
                content = content or encoded(value, "png")
                (path / f"{place:03}.{end}").write_bytes(content)


def order_of(data: ImageData) -> dict[str, list[int]]:
    splits = {"train": "train", "val": "validation", "test": "test"}
    folder = str(data.options.data_dir)
    return {ours: numbers(data.name, folder, theirs) for ours, theirs in splits.items()}


def rows(data: ImageData, split: str) -> Any:
    """Two epochs of training patches, or all windows of another split."""
    count = 2 * data.sizes[split] if split == "train" else data.sizes[split]
    return data.reader.rows(split, np.arange(count))  # type: ignore[attr-defined]


def same(one: ImageData, other: ImageData) -> None:
    assert one.sizes == other.sizes
    for split in one.sizes:
        for part, again in zip(rows(one, split), rows(other, split), strict=True):
            assert part.dtype == again.dtype
            np.testing.assert_array_equal(part, again)


@pytest.mark.parametrize(
    ("kind", "form", "shards"),
    [("png", None, None), ("jpeg", None, 2), ("png", None, 20), ("jpeg", "array_record", 2)],
)
def test_patches_of_images_with_masks_are_those_of_files(
    opened: Opener, kind: str, form: str | None, shards: int | None
) -> None:
    one = cells(kind)
    if shards == 20:  # more files than TFDS reads in turn, of more records than it takes in one
        one = dataclasses.replace(one, splits={"train": 400, "validation": 20, "test": 20})
    name = f"cells_{kind}_{shards or 0}"
    data = opened(name, one, form=form, shards=shards)
    order = order_of(data)
    if shards is None:
        assert order["train"] == [*range(10)]
    elif shards == 20:
        builder = tfds.builder(name, data_dir=data.options.data_dir)
        assert builder.info.splits["train"].num_shards == 20
    as_files(one, ("images", "masks"), kind, order)
    files = load("./set", (16, 16, 3), DataOptions(resize="patch"))
    assert (data.task, data.classes, data.ignores) == (files.task, 3, True)
    assert data.notes[-1] == files.notes[-1]
    same(data, files)
    same(pickle.loads(pickle.dumps(data)), opened(name, one, cache=Cache.NONE))


@pytest.mark.parametrize("resize", ["patch", None])
@pytest.mark.parametrize(("kind", "form"), [("png", None), ("jpeg", "array_record")])
def test_images_to_restore_are_those_of_files(
    opened: Opener, kind: str, form: str | None, resize: Any
) -> None:
    """Nothing says that hr is twice as large but the images."""
    one = div(kind)
    shape = (16, 16, 3) if resize else None
    data = opened(f"div_{kind}", one, shape, form, 2 if form else None, resize=resize)
    as_files(one, ("inputs", "targets"), kind, order_of(data))
    files = load("./set", shape, DataOptions(resize=resize))
    assert (data.task.labels, data.enlarge, data.resize) == (Labels.IMAGE, 2, resize or "crop")
    assert (data.image_shape, data.classes, data.pixels) == (files.image_shape, 3, "bytes")
    assert data.notes == files.notes
    assert data.sizes == files.sizes
    for split in data.sizes if kind == "png" or resize else ():  # TFDS' fast JPEG is another one
        found, wanted = (list(d.reader.stored(split).as_numpy_iterator()) for d in (data, files))
        for pair, other in zip(found, wanted, strict=True):
            np.testing.assert_array_equal(pair[0], other[0])
            np.testing.assert_array_equal(pair[1], other[1])
    if resize:
        same(data, files)


def test_what_is_enlarged_is_what_pillow_enlarges(opened: Opener) -> None:
    one = div("png", 3)
    data = opened("div_3", one)
    assert data.enlarge == 3
    places = order_of(data)["val"]
    first = data.reader.wholes("val").tolist().index(2)
    assert data.reader.called("val", first) == "validation[2] at 0, 0"
    low, high = (one.example(places[2])[key] for key in ("lr", "hr"))
    target = Image.open(high)
    large = Image.open(low).resize(target.size, Image.Resampling.BICUBIC)
    image, label = (part[0] for part in data.reader.rows("val", [first]))  # type: ignore[attr-defined]
    np.testing.assert_array_equal(label, np.asarray(target)[:16, :16])
    np.testing.assert_array_equal(image, np.asarray(large)[:16, :16])


def flat(number: int) -> np.ndarray:
    """An image that says its number."""
    return np.full((*sides(number), 3), number, np.uint8)


def seen(data: ImageData, split: str) -> set[int]:
    """The numbers of the flat images of a split."""
    parts = data.reader.stored(split).as_numpy_iterator()
    return set(np.unique(np.concatenate([image.ravel() for image, _ in parts])).tolist())


@pytest.mark.parametrize("shards", [1, 7])
def test_splits_hold_the_same_images_as_without_patches(opened: Opener, shards: int) -> None:
    one = cells("png")
    one = dataclasses.replace(
        one,
        example=lambda n: {"id": str(n), "image": flat(n), "mask": mask(n)},
        splits={"train": 60},
    )
    name = f"flat_{shards}"
    asked = "train=train[:50%],val=train[50%:80%],test=train[80%:]"
    for splits in (None, asked):
        patches, whole = (
            opened(name, one, shards=shards, splits=splits, resize=resize)
            for resize in ("patch", "stretch")
        )
        for split in ("val", "test"):
            assert seen(patches, split) == seen(whole, split)
        assert not seen(patches, "val") & seen(patches, "test")
        # Each is cut by its own sides.
        images, masks = rows(patches, "val")
        known, counts = np.unique(images[..., 0][masks >= 0], return_counts=True)
        assert counts.tolist() == [int(np.prod(sides(number))) for number in known]
        assert seen(patches, "train") <= seen(whole, "train")
        assert len(seen(whole, "train")) == (30 if splits else 48)


def test_one_window_reads_one_record(opened: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    data = opened("cells_png_0", cells("png"), cache=Cache.NONE)
    read, places = Serialized.read, []

    def reading(self: Serialized, spec: str, place: int) -> bytes:
        places.append((spec, place))
        return read(self, spec, place)

    monkeypatch.setattr(Serialized, "read", reading)
    windows = np.flatnonzero(data.reader.wholes("val") == 3)
    data.reader.rows("val", windows)  # type: ignore[attr-defined]
    assert places == [("validation", 3)]


def test_sizes_that_features_say_are_cut_as_well(opened: Opener) -> None:
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (30, 24, 40, 1), np.uint8)
    one = Made(
        {"image": IMAGE(shape=(24, 40, 1)), "mask": IMAGE(shape=(24, 40, 1))},
        lambda n: {"image": images[n % 30], "mask": images[n % 30] % 2},
        ("image", "mask"),
        {"train": 6, "validation": 3, "test": 3},
    )
    data = opened("fixed", one, None)
    assert data.image_shape == (24, 40, 1)
    data = opened("fixed", one, (16, 16, 1))
    assert data.sizes == {"train": -(-6 * 24 * 40 // 256), "val": 3 * 2 * 3, "test": 3 * 2 * 3}
    image, label = rows(data, "val")
    counted = label >= 0
    assert counted.sum() == 3 * 24 * 40
    np.testing.assert_array_equal(image[..., 0][counted] % 2, label[counted])


def test_scores_are_those_of_files(opened: Opener) -> None:
    one = cells("png")
    data = opened("cells_png_0", one)
    as_files(one, ("images", "masks"), "png", order_of(data))
    spec = UNet(
        input_shape=(16, 16, 3),
        block=PlainBlock(),
        stages=(Level(width=4), Level(width=8)),
        head=Segmenter(classes=3),
    )
    train = TrainSpec(epochs=1, batch_size=8, resize="patch")
    Path("space.yaml").write_text(dump_recipe(Recipe(spec=spec, train=train)))

    def run(*words: str) -> str:
        done = CliRunner().invoke(main, words)
        assert done.exit_code == 0, (done.output, done.exc_info)
        return done.stdout

    where = ["--data", data.name, "--data-dir", str(data.options.data_dir)]
    run("train", "space.yaml", *where, "--out", "net")
    scores = [
        json.loads(run("evaluate", "net", *source, "--json"))["metrics"]
        for source in (where, ["--data", "./set"])
    ]
    assert scores[0] == pytest.approx(scores[1], abs=1e-6)


def refused(opened: Opener, name: str, one: Made, **options: Any) -> str:
    with pytest.raises(reskeras.RequestError) as error:
        opened(name, one, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_what_does_not_fit_is_named(opened: Opener) -> None:
    other = np.zeros((9, 9, 1), np.uint8)
    assert refused(opened, "bad_mask", changed(cells("png"), "mask", 102, other)) == (
        "data set 'bad_mask': mask of validation[2]: the mask has another size than its image "
        "(9x9 and 18x24)"
    )
    pair = changed(div("png"), "hr", 3, np.zeros((41, 61, 3), np.uint8))
    for resize in ("patch", None):
        assert refused(opened, "bad_ratio", pair, resize=resize) == (
            "data set 'bad_ratio': hr of train[3]: the target has 41x61 for an image of 21x28 "
            "pixels; targets have the sides of their images, or twice, three times ... as large "
            "ones"
        )
    pair = changed(div("png"), "hr", 3, np.zeros((63, 84, 3), np.uint8))
    assert "hr of train[3]: the target has 63x84 for an image of 21x28 pixels: 3 times" in refused(
        opened, "other_ratio", pair
    )
    assert "train.resize: stretch changes how sharp" in refused(
        opened, "div_png", div("png"), resize="stretch"
    )
    told = refused(opened, "div_png", div("png"), shape=(32, 32, 3), resize=None)
    assert "24x80 pixels (height x width), fewer than the network's input_shape, 32x32" in told
    assert "hr of train[0]" in told
    assert "--ignore 0 is for masks" in refused(opened, "div_png", div("png"), ignore=0)
    assert "--cache disk: images that patches" in refused(
        opened, "div_png", div("png"), cache=Cache.DISK
    )
    colors = dataclasses.replace(div("png", 1), splits={"train": 4})
    assert "hr holds colors; a mask has a number for each class; --task restoration" in refused(
        opened, "div_1", colors
    )
    assert opened("div_1", colors, task="restoration").enlarge == 1


def test_images_with_classes_are_refused_before_they_are_downloaded() -> None:
    with pytest.raises(reskeras.RequestError, match=r"patch is for images with masks and for im"):
        load("mnist", None, DataOptions(resize="patch"))


def test_damage_is_named(opened: Opener, prepared: Callable[..., Path]) -> None:
    nothing = changed(cells("png"), "image", 101, io.BytesIO(b"nothing"))
    assert refused(opened, "no_image", nothing) == (
        "data set 'no_image': image of validation[1] is damaged, or no image"
    )
    whole = encoded(smooth(101, sides(101)), "png")
    half = changed(cells("png"), "image", 101, io.BytesIO(whole[: len(whole) // 2]))
    data = opened("half_image", half)
    with pytest.raises(Exception, match=r"'half_image': image of validation\[1\] is damaged"):
        rows(data, "val")
    folder = prepared("short", cells("png"))
    (path,) = (folder / "short").rglob("*train.tfrecord*")
    path.write_bytes(path.read_bytes()[:-9])
    assert "short-train.tfrecord-00000-of-00001: damaged: 9 whole records, not 10;" in refused(
        opened, "short", cells("png")
    )


def test_files_that_cannot_be_read_at_any_place_are_refused(opened: Opener) -> None:
    pytest.importorskip("pyarrow")
    told = refused(opened, "parquet", cells("png"), form="parquet")
    assert "'parquet' is stored as parquet, whose records are not read at any place" in told
