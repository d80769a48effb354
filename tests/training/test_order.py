"""The order in which data are stored matters to no score: sorted by class, as folders are, or
shuffled, from every source, in memory or not."""

import dataclasses
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

import reskeras
from reskeras.data import Cache, DataOptions, ImageData, from_arrays, load
from reskeras.data.store import Stored, cached
from reskeras.spec import BasicBlock, CifarStem, Classifier, ResNet, Stage, TrainSpec
from reskeras.tasks import Labels
from reskeras.training.feed import Feed
from reskeras.training.targets import Targets
from reskeras.training.train import train

CLASSES, TRAIN, VAL = 3, 2400, 300
NUMBERS = itertools.count()
NET = ResNet(
    input_shape=(8, 8, 1),
    stem=CifarStem(width=8),
    block=BasicBlock(),
    stages=(Stage(blocks=1, width=8), Stage(blocks=1, width=16, stride=2)),
    head=Classifier(classes=CLASSES),
)


def images(size: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Bytes, sorted by class; a class is how bright an image is, and where it is brightest."""
    random = np.random.default_rng(seed)
    labels = np.sort(np.arange(size) % CLASSES)
    x = random.normal(60 + 50 * labels[:, None, None], 35, (size, 8, 8))
    for image, label in zip(x, labels, strict=True):
        image[2 * label : 2 * label + 3] += 30
    return x.clip(0, 255).astype(np.uint8), labels


def arrays(*, shuffled: bool) -> dict[str, np.ndarray]:
    found = {}
    for split, size, seed in (("train", TRAIN, 1), ("val", VAL, 2)):
        x, y = images(size, seed)
        order = np.random.default_rng(3).permutation(size) if shuffled else np.arange(size)
        found |= {f"x_{split}": x[order], f"y_{split}": y[order]}
    return found


def of_arrays(given: dict[str, np.ndarray], _: Path) -> ImageData:
    return from_arrays(given)


def of_files(given: dict[str, np.ndarray], folder: Path) -> ImageData:
    """Their names give their order: sorted by class, of course."""
    for split in ("train", "val"):
        for number, (image, label) in enumerate(
            zip(given[f"x_{split}"], given[f"y_{split}"], strict=True)
        ):
            place = folder / "files" / split / f"c{label}"
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(place / f"{number:04}.bmp")
    return load(str(folder / "files"), (8, 8, 1))


def of_records(given: dict[str, np.ndarray], _: Path) -> ImageData:
    stored = f"stored_{next(NUMBERS)}"

    class Stored(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version("1.0.0")
        name = stored
        pkg_dir_path = None

        def _info(self) -> Any:
            features = {
                "image": tfds.features.Image(shape=(8, 8, 1)),
                "label": tfds.features.ClassLabel(num_classes=CLASSES),
            }
            return tfds.core.DatasetInfo(
                builder=self,
                features=tfds.features.FeaturesDict(features),
                supervised_keys=("image", "label"),
                disable_shuffling=True,  # the records stay in their order
            )

        def _split_generators(self, _: Any) -> Any:
            names = {"train": "train", "validation": "val", "test": "val"}
            return {name: self._examples(split) for name, split in names.items()}

        def _examples(self, split: str) -> Any:
            pairs = zip(given[f"x_{split}"], given[f"y_{split}"], strict=True)
            for number, (image, label) in enumerate(pairs):
                yield number, {"image": image[..., None], "label": int(label)}

        def _generate_examples(self) -> Any:
            raise NotImplementedError

    Stored().download_and_prepare()
    return load(stored, (8, 8, 1))


@pytest.mark.parametrize("cache", [Cache.MEMORY, Cache.DISK, Cache.NONE])
@pytest.mark.parametrize("make", [of_arrays, of_files, of_records])
def test_sorted_data_score_like_shuffled_ones(
    make: Callable[[dict[str, np.ndarray], Path], ImageData],
    cache: Cache,
    tmp_path: Path,
) -> None:
    scores, full = {}, {}
    for shuffled in (False, True):
        folder = tmp_path / str(shuffled)
        folder.mkdir()
        given = arrays(shuffled=shuffled)
        opened = make(given, folder)
        options = dataclasses.replace(opened.options, cache=cache)
        data = cached(dataclasses.replace(opened, options=options))
        assert data.in_memory is (cache is Cache.MEMORY)
        if make is not of_arrays:
            assert isinstance(data.reader, Stored) is (cache is Cache.DISK)
        model = reskeras.build(dataclasses.replace(NET, name="net"))
        how = TrainSpec(epochs=4, batch_size=64, learning_rate=3e-3)
        # The last epoch of all takes more images.
        epochs = train(model, data, how, last_epoch=3)
        scores[shuffled] = epochs[-1].metrics["val_accuracy"]
        # What is exact: the statistics of all training images.
        x = given["x_train"][..., None].astype("float32") / 255
        assert reskeras.recalibrate(model, x) == TRAIN
        x = given["x_val"][..., None].astype("float32") / 255
        found = model.predict(x, verbose=0).argmax(-1)
        full[shuffled] = np.mean(found == given["y_val"])
    assert min(full.values()) > 0.85
    for shuffled, score in scores.items():
        assert score == pytest.approx(full[shuffled], abs=0.03)
    assert scores[False] == pytest.approx(scores[True], abs=0.06)


@pytest.mark.parametrize("make", [of_arrays, of_files, of_records])
def test_every_epoch_has_every_image_once_and_mixes_the_classes(
    make: Callable[[dict[str, np.ndarray], Path], ImageData], tmp_path: Path
) -> None:
    given = arrays(shuffled=False)
    data = make(given, tmp_path)
    epochs = [list(data.shuffled("train", seed).as_numpy_iterator()) for seed in (1, 1, 2)]
    keys = [[image.tobytes() for image, _ in epoch] for epoch in epochs]
    assert keys[0] == keys[1] != keys[2]
    assert len(keys[0]) == TRAIN
    whole = sorted((x / np.float32(255)).tobytes() for x in given["x_train"].astype("float32"))
    assert sorted(keys[0]) == sorted(keys[2]) == whole
    labels = np.array([label for _, label in epochs[0]])
    for start in range(0, TRAIN, 100):  # a hundred labels of one kind would be a class
        assert np.bincount(labels[start : start + 100], minlength=CLASSES).min() > 15


@pytest.mark.parametrize("make", [of_arrays, of_files, of_records])
def test_a_sample_has_its_share_of_each_class_in_random_order(
    make: Callable[[dict[str, np.ndarray], Path], ImageData], tmp_path: Path
) -> None:
    given = arrays(shuffled=False)
    data = make(given, tmp_path)
    places = data.sample(90)
    assert len(set(places.tolist())) == 90
    np.testing.assert_array_equal(places, data.sample(90))
    shares = np.bincount(given["y_train"][places], minlength=CLASSES)
    if make is of_records:  # whose labels are not known without reading all
        assert shares.min() > 15
    else:
        assert shares.tolist() == [30, 30, 30]
    assert np.bincount(given["y_train"][places[:30]], minlength=CLASSES).min() > 3
    sampled = data.sampled(90)
    assert sampled.dtype == np.uint8
    wanted = sorted(x.tobytes() for x in given["x_train"][places])
    assert sorted(x.tobytes() for x in sampled) == wanted
    assert sorted(data.sample(10_000)) == list(range(TRAIN))


@pytest.mark.parametrize("make", [of_arrays, of_files, of_records])
def test_the_sample_is_the_same_in_memory_and_on_disk(
    make: Callable[[dict[str, np.ndarray], Path], ImageData], tmp_path: Path
) -> None:
    opened = make(arrays(shuffled=False), tmp_path)
    found = []
    for cache in (Cache.MEMORY, Cache.DISK, Cache.NONE):
        if make is of_records and cache is Cache.NONE:
            continue  # whose labels are not known without reading all
        data = cached(
            dataclasses.replace(opened, options=dataclasses.replace(opened.options, cache=cache))
        )
        image = keras.Input((8, 8, 1))
        head = keras.layers.Dense(CLASSES, activation="softmax", name="head")
        model = keras.Model(image, head(keras.layers.Flatten()(image)))
        feed = Feed(Targets(model, data))
        found.append([batch.numpy().tobytes() for batch in feed.images(500, 64)])
        assert len(found[-1]) == 8
    assert all(one == found[0] for one in found)


def of_every_kind(kind: Labels, folder: Path) -> str:
    """Files of 8x8 images with labels of a kind; returns what opens them."""
    random, count = np.random.default_rng(5), 20
    inputs = folder / ("images" if kind is Labels.MASK else "inputs")
    inputs.mkdir()
    for number in range(count):
        pixels = random.integers(0, 256, (8, 8), np.uint8)
        Image.fromarray(pixels).save(inputs / f"{number:02}.png")
        match kind:
            case Labels.MASK | Labels.IMAGE:
                beside = folder / ("masks" if kind is Labels.MASK else "targets")
                beside.mkdir(exist_ok=True)
                label = (pixels > 127).astype(np.uint8) if kind is Labels.MASK else pixels // 2
                Image.fromarray(label).save(beside / f"{number:02}.png")
    columns = {
        Labels.CLASS: "label",
        Labels.CLASSES: "a,b",
        Labels.NUMBERS: "target",
        Labels.POINTS: "p_x,p_y",
    }
    if kind not in columns:
        return str(folder)
    cells = {
        Labels.CLASS: lambda n: "xyz"[n % 3],
        Labels.CLASSES: lambda n: f"{n % 2},{n // 2 % 2}",
        Labels.NUMBERS: lambda n: f"{n / 7}",
        Labels.POINTS: lambda n: f"{n % 8},{n / 3}" if n % 5 else ",",
    }[kind]
    rows = [f"inputs/{n:02}.png,{cells(n)}" for n in range(count)]
    table = folder / "labels.csv"
    table.write_text("\n".join([f"path,{columns[kind]}", *rows]))
    return str(table)


@pytest.mark.parametrize("kind", Labels)
def test_batches_of_every_kind_are_the_same_in_memory_on_disk_and_from_files(
    kind: Labels, tmp_path: Path
) -> None:
    name = of_every_kind(kind, tmp_path)
    found = []
    for cache in (Cache.MEMORY, Cache.DISK, Cache.NONE):
        data = cached(load(name, options=DataOptions(cache=cache)))
        assert data.task.labels is kind
        image = keras.Input((8, 8, 1))
        if kind.follows_image:
            end = {Labels.POINTS: "linear", Labels.MASK: "softmax", Labels.IMAGE: "linear"}[kind]
            head = keras.layers.Conv2D(data.classes, 1, activation=end, name="head")(image)
        else:
            flat = keras.layers.Flatten()(image)
            head = keras.layers.Dense(data.classes, activation="sigmoid", name="head")(flat)
        feed = Feed(Targets(keras.Model(image, head), data))
        for augment in ("none", "shift_flip"):
            spec = TrainSpec(batch_size=6, augment=augment, seed=3)  # type: ignore[arg-type]
            batches = feed.training(spec, 1)
            found.append([[part.numpy() for part in (x, *_flat(y))] for x, y in batches])
    plain, changed = found[:2]
    assert sum(len(batch[0]) for batch in plain) == 14
    for one, wanted in zip(found, [plain, changed] * 3, strict=True):
        for batch, other in zip(one, wanted, strict=True):
            for part, same in zip(batch, other, strict=True):
                np.testing.assert_array_equal(part, same)
    assert any((a[0] != b[0]).any() for a, b in zip(plain, changed, strict=True))


def _flat(target: Any) -> list[Any]:
    return list(target.values()) if isinstance(target, dict) else [target]
