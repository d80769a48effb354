"""Training on patches of folders and arrays of larger images (`train.resize: patch`)."""

import dataclasses
import json
import pickle
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import reskeras
from reskeras.cli import main
from reskeras.data import Cache, DataOptions, ImageData, from_arrays, load
from reskeras.data.decode import read_mask
from reskeras.data.label_facts import ClassFacts
from reskeras.data.survey import survey
from reskeras.evaluation.evaluate import evaluate
from reskeras.models.predictor import answerer
from reskeras.models.preprocessing import preprocessed
from reskeras.spec import Level, PlainBlock, Recipe, Segmenter, TrainSpec, UNet
from reskeras.spec.text import dump_recipe
from reskeras.tasks import IGNORED, LOSS
from reskeras.training.feed import Feed
from reskeras.training.targets import Targets
from reskeras.training.train import Training, build_seeded

PATCH = DataOptions(resize="patch")
UNET = UNet(
    input_shape=(16, 16, 1),
    block=PlainBlock(),
    stages=(Level(width=8), Level(width=16)),
    head=Segmenter(classes=2),
)


def pair(random: np.random.Generator, sides: tuple[int, int]) -> tuple[Any, Any]:
    """Noise, and a bright spot of 4x4, which is class 1."""
    image = random.integers(0, 120, sides, np.uint8)
    mask = np.zeros(sides, np.uint8)
    top, left = (int(random.integers(side - 4)) for side in sides)
    spot = slice(top, top + 4), slice(left, left + 4)
    image[spot], mask[spot] = 220, 1
    return image, mask


def folder(root: Path, count: int = 12) -> None:
    """Images of 30x40 to 52x62: one pixel of a hundred is of class 1."""
    random = np.random.default_rng(0)
    for name in ("images", "masks"):
        (root / name).mkdir(parents=True)
    for number in range(count):
        both = pair(random, (30 + 2 * number, 40 + 2 * number))
        for name, array in zip(("images", "masks"), both, strict=True):
            Image.fromarray(array).save(root / name / f"{number:02}.png")


def epoch(data: ImageData, number: int, seed: int = 0) -> list[tuple[Any, Any]]:
    train = TrainSpec(batch_size=16, resize="patch", seed=seed)
    targets = Targets(reskeras.build(UNET), data, train)
    return list(Feed(targets).training(train, number).as_numpy_iterator())


def test_images_keep_their_size(tmp_path: Path) -> None:
    folder(tmp_path / "cells")
    data = load("./cells", (16, 16, 1), PATCH)
    whole = sum(read_mask(path).size for path in Path("cells/masks").iterdir())
    assert (data.resize, data.image_shape, data.ignores, data.in_memory) == (
        ("patch", (16, 16, 1), True, False)
    )
    assert data.about()["resize"] == "patch"
    assert "12 images of 30x40 to 52x62 keep their size" in data.notes[0]
    assert f"an epoch is {data.sizes['train']} random patches of 16x16, a third" in data.notes[0]
    assert "patches of 16x16x1" in data.describe()
    # Other splits count each pixel once.
    counted = sum(
        int((mask != IGNORED).sum())
        for split in ("val", "test")
        for _, mask in data.reader.stored(split).as_numpy_iterator()
    )
    assert data.sizes["train"] == -(-(whole - counted) // 256)


def test_an_epoch_has_its_own_patches_and_repeats(tmp_path: Path) -> None:
    folder(tmp_path / "cells")
    data = load("./cells", (16, 16, 1), PATCH)
    first, again, second, other = (
        epoch(data, 1),
        epoch(load("./cells", (16, 16, 1), PATCH), 1),
        epoch(data, 2),
        epoch(pickle.loads(pickle.dumps(data)), 2),
    )
    for one, two in ((first, again), (second, other)):
        for (image, mask), (image_2, mask_2) in zip(one, two, strict=True):
            np.testing.assert_array_equal(image, image_2)
            np.testing.assert_array_equal(mask, mask_2)
    # Not only in another order.
    seen, others = ({image.tobytes() for x, _ in some for image in x} for some in (first, second))
    assert len(seen & others) < len(seen) / 2
    # A pixel of a hundred is of class 1; a third of the patches are centered on one.
    masks = np.concatenate([mask for _, mask in first])
    assert (masks[:, 7:9, 7:9] == 1).any((1, 2)).mean() >= 1 / 3


def test_training_goes_on_with_the_patches_that_it_would_have_seen(tmp_path: Path) -> None:
    folder(tmp_path / "cells", 4)
    data = load("./cells", (16, 16, 1), PATCH)
    train = TrainSpec(batch_size=16, epochs=2, resize="patch", augment="shift_flip")
    recipe = Recipe(spec=UNET, train=train)
    whole = Training(build_seeded(recipe), data, train)
    whole.run_epoch()
    whole.save(tmp_path / "state")
    expected = whole.run_epoch().metrics
    again = Training(build_seeded(recipe), pickle.loads(pickle.dumps(data)), train)
    assert again.restore(tmp_path / "state")
    assert again.run_epoch().metrics == pytest.approx(expected, abs=1e-6)


def test_a_rare_class_is_found_in_files_of_any_size(tmp_path: Path) -> None:
    """Trained on patches of 16x16, the network answers by windows, and masks have the files' own
    sizes. Half as large, the spots would be 2x2."""
    folder(tmp_path / "cells")
    train = TrainSpec(epochs=4, batch_size=16, learning_rate=0.02, resize="patch")
    Path("space.yaml").write_text(dump_recipe(Recipe(spec=UNET, train=train)))

    def run(*words: str, status: int = 0) -> str:
        done = CliRunner().invoke(main, words)
        assert done.exit_code == status, (done.output, done.exc_info)
        return done.output

    run("train", "space.yaml", "--data", "./cells", "--out", "net")
    run("predict", "net", "cells/images", "--out", "out")
    found, wanted = (
        np.concatenate([read_mask(path).ravel() for path in sorted(Path(folder).glob("*.png"))])
        for folder in ("out", "cells/masks")
    )
    assert (found & wanted).sum() / (found | wanted).sum() > 0.8
    assert "was trained on patches of images in their own size" in run(
        "predict", "net", "cells/images", "--no-windows", status=2
    )
    told = CliRunner().invoke(main, ["evaluate", "net", "--data", "./cells", "--json"])
    scores = json.loads(told.stdout)
    assert (scores["images"], scores["intervals"]["mean_dice"]) == (2, [None, None])
    assert scores["windows"] == load("./cells", (16, 16, 1), PATCH).sizes["test"]
    assert scores["metrics"]["mean_iou"] > 0.8
    # What is exported takes windows, and does not shrink what is larger.
    served = preprocessed(keras.saving.load_model("net/model.keras"), {"resize": "patch"})
    assert served.input_shape == (None, 16, 16, 1)


def test_arrays_larger_than_the_network_are_cut() -> None:
    random = np.random.default_rng(0)
    x, y = (
        np.stack(some) for some in zip(*(pair(random, (40, 36)) for _ in range(6)), strict=True)
    )
    given = {"x_train": x[:4], "y_train": y[:4], "x_val": x[4:], "y_val": y[4:]}
    data = load(given, (16, 16, 1), PATCH)
    assert data.image_shape == (16, 16, 1)
    assert data.sizes == {"train": -(-4 * 40 * 36 // 256), "val": 2 * 3 * 3}
    # Arrays without a network: multiples of 8.
    assert from_arrays(given, options=PATCH).image_shape == (40, 32, 1)
    assert data.digest == from_arrays(given).digest
    images, masks = data.reader.rows("val", np.arange(18))  # type: ignore[attr-defined]
    counted = masks != IGNORED
    assert counted.sum() == 2 * 40 * 36
    np.testing.assert_array_equal(np.sort(images[..., 0][counted]), np.sort(x[4:], axis=None))


def test_what_is_told_of_patches_is_not_of_those_chosen_for_their_class() -> None:
    """Spots are in 1 % of the pixels; trained patches have several times as many."""
    random = np.random.default_rng(0)
    x, y = (
        np.stack(some) for some in zip(*(pair(random, (40, 40)) for _ in range(24)), strict=True)
    )
    data = load(
        {"x_train": x[:20], "y_train": y[:20], "x_val": x[20:], "y_val": y[20:]}, (8, 8, 1), PATCH
    )
    facts = survey(data).labels
    assert isinstance(facts, ClassFacts)
    assert facts.smallest_share == pytest.approx(0.01, rel=0.3)
    assert facts.counts["val"] == (4 * 1584, 4 * 16)
    trained = data.class_counts()
    assert trained[1] / sum(trained) > 0.05
    net = dataclasses.replace(UNET, input_shape=(8, 8, 1))
    ask = answerer(reskeras.build(net), data.about())
    (prior,) = evaluate(ask, data, "val", name="net", batch=32).rivals
    entropy = -0.99 * np.log(0.99) - 0.01 * np.log(0.01)
    assert prior.scores[LOSS].value == pytest.approx(entropy, rel=0.03)


@pytest.mark.parametrize("cache", [Cache.MEMORY, Cache.NONE])
def test_images_to_restore_are_cut(tmp_path: Path, cache: Cache) -> None:
    random = np.random.default_rng(0)
    for number in range(8):
        target = random.integers(0, 256, (48, 56 + 2 * number), np.uint8)
        for name, image in (("inputs", target[::2, ::2]), ("targets", target)):
            (tmp_path / "set" / name).mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(tmp_path / "set" / name / f"{number}.png")
    data = load("./set", (16, 16, 1), dataclasses.replace(PATCH, cache=cache))
    assert (data.resize, data.enlarge, data.ignores) == ("patch", 2, False)
    image, target = next(iter(data.reader.stored("val").as_numpy_iterator()))
    assert data.reader.called("val", 0).endswith(".png at 0, 0")
    file = Path(data.reader.called("val", 0).removesuffix(" at 0, 0"))
    whole = Image.open(tmp_path / "set/targets" / file.name)
    np.testing.assert_array_equal(target[..., 0], np.asarray(whole)[:16, :16])
    small = Image.open(file)
    large = np.asarray(small.resize(whole.size, Image.Resampling.BICUBIC))
    np.testing.assert_array_equal(image[..., 0], large[:16, :16])


def test_requests_that_patches_cannot_serve(tmp_path: Path) -> None:
    folder(tmp_path / "cells", 4)
    on_disk = dataclasses.replace(PATCH, cache=Cache.DISK)
    with pytest.raises(reskeras.RequestError, match="--cache disk: images that patches are cut"):
        load("./cells", (16, 16, 1), on_disk)
    labels = {"x_train": np.zeros((4, 8, 8), np.uint8), "y_train": np.arange(4)}
    for given in (labels, "digits"):
        with pytest.raises(reskeras.RequestError, match=r"train\.resize: patch is for images with"):
            load(given, (4, 4, 1), PATCH)


def test_a_note_names_patches_where_images_shrink(tmp_path: Path) -> None:
    folder(tmp_path / "cells", 4)
    assert "this shrinks images 2.69 times" in load("./cells", (16, 16, 1)).notes[-1]
    assert "train.resize: patch keeps their size" in load("./cells", (16, 16, 1)).notes[-1]
    assert not any("shrinks" in note for note in load("./cells", (32, 32, 1)).notes)
