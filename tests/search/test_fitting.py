"""A search refuses what a trial of it could not train, before it writes anything."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import reskeras
from reskeras.data import DataOptions, ImageData, from_arrays
from reskeras.errors import RequestError
from reskeras.spec import Augmentation, Level, PlainBlock, Recipe, Segmenter, TrainSpec, UNet
from reskeras.training.train import Training, build_seeded
from tuning import Space, tune

RANDOM = np.random.default_rng(0)
X = RANDOM.integers(0, 256, (6, 8, 8, 1)).astype("uint8")
LABELS = {
    "classes": np.arange(6) % 2,
    "masks": RANDOM.integers(0, 2, (6, 8, 8)),
    "points": RANDOM.uniform(1, 6, (6, 2, 2)),
}
UNET = UNet(
    input_shape=(8, 8, 1),
    block=PlainBlock(),
    stages=(Level(width=4), Level(width=8)),
    head=Segmenter(classes=2),
)
ONE_MAP = dataclasses.replace(UNET, head=Segmenter(classes=1, activation="sigmoid"))
SPECS = {
    "classes": reskeras.preset("digits_basic"),
    "masks": UNET,
    "points": reskeras.preset("hourglass_small"),
}
LOSSES = ["cross_entropy", "dice"]


def data_of(kind: str) -> ImageData:
    y = LABELS[kind]
    options = DataOptions(ignore=255) if kind == "masks" else DataOptions()
    if kind == "masks":
        y = np.where(np.arange(8) == 7, 255, y)
    return from_arrays({"x_train": X, "y_train": y, "x_val": X, "y_val": y}, options=options)


@pytest.mark.parametrize(
    ("kind", "vary", "message"),
    [
        ("classes", {"border_weight": [0.0, 10.0]}, "border_weight: there are no pixels of classe"),
        ("classes", {"border_weight": {"low": 0, "high": 10}}, "border_weight: there are no pixe"),
        ("points", {"augment.mixup": [0.0, 0.2]}, "augment.mixup: points cannot be mixed"),
        ("points", {"augment.cutmix": {"low": 0, "high": 1}}, "augment.cutmix: points cannot be"),
        (
            "masks",
            {"loss": LOSSES, "border_weight": [0.0, 10.0]},
            "border_weight: dice does not weigh pixels; cross_entropy, cross_entropy_dice, focal "
            "do (a trial may have train.loss dice and train.border_weight 10.0)",
        ),
        (
            "masks",
            {"border_weight": [0.0, 10.0], "augment.mixup": [0.0, 0.2]},
            "border_weight: masks that are mixed have no borders: no mixup, cutmix (a trial may "
            "have train.border_weight 10.0 and train.augment.mixup 0.2)",
        ),
        # These fit, but the search has no end.
        ("masks", {"loss": LOSSES, "augment.mixup": [0.0, 0.2]}, ""),
        ("masks", {"loss": ["cross_entropy", "focal"], "border_weight": [0.0, 10.0]}, ""),
    ],
)
def test_settings_that_no_trial_can_have(
    kind: str, vary: dict[str, Any], message: str, tmp_path: Path
) -> None:
    train = TrainSpec(loss="cross_entropy") if "loss" in vary else TrainSpec()
    base = Recipe(spec=SPECS[kind], train=train)
    space = Space(base, {f"train.{field}": item for field, item in vary.items()})
    with pytest.raises(RequestError) as error:
        tune(space, data_of(kind), directory=tmp_path / "search", trials=None)
    wanted = f"train.{message}" if message else "a search needs an end"
    assert str(error.value).startswith(wanted)
    assert len(str(error.value).splitlines()) == 1
    assert not (tmp_path / "search").exists()


@pytest.mark.parametrize(
    ("kind", "spec", "train", "message"),
    [
        (
            "masks",
            ONE_MAP,
            TrainSpec(augment=Augmentation(mixup=0.2)),
            "train.augment: mixup and cutmix: pixels without a class need a head of at least two",
        ),
        (
            "classes",
            reskeras.preset("mlp_res"),
            TrainSpec(augment=Augmentation(cutmix=1.0)),
            "train.augment.cutmix: boxes are cut from images with channels last",
        ),
        (
            "classes",
            reskeras.preset("digits_basic"),
            TrainSpec(resize="crop"),
            "train.resize is 'crop', but the data were opened with 'stretch'",
        ),
        (
            "classes",
            reskeras.preset("digits_basic"),
            TrainSpec(accumulate=10, batch_size=4, epochs=3),
            "train.accumulate: a step takes 10 batches, but the training has 6",
        ),
    ],
)
def test_a_search_and_a_training_refuse_the_same(
    kind: str, spec: Any, train: TrainSpec, message: str, tmp_path: Path
) -> None:
    data = data_of(kind)
    space = Space(Recipe(spec=spec, train=train), {"train.learning_rate": [0.01, 0.1]})
    with pytest.raises(RequestError) as error:
        tune(space, data, directory=tmp_path / "search", trials=1)
    assert str(error.value).startswith(message)
    recipe = Recipe(spec=data.task.fit(spec, data.facts), train=train)
    with pytest.raises(RequestError) as again:
        Training(build_seeded(recipe), data, train)
    assert str(again.value) == str(error.value)
