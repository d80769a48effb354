"""The doctor: networks that are broken on purpose, and those that are not."""

import dataclasses
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import reskeras
from reskeras.data import ImageData, from_arrays
from reskeras.lab.doctor import SIGNS, Case, examine, heal
from reskeras.lab.doctor.by_arithmetic import BY_ARITHMETIC
from reskeras.lab.doctor.by_initialization import BY_INITIALIZATION
from reskeras.lab.networks import image_network
from reskeras.lab.trained import images_of
from reskeras.spec import (
    Classifier,
    ImagenetStem,
    LinearStem,
    NoNorm,
    PlainBlock,
    Recipe,
    ResNet,
    Stage,
    TrainSpec,
)
from reskeras.tasks import task_called


@pytest.fixture(scope="module")
def data(blobs: dict[str, np.ndarray]) -> ImageData:
    return from_arrays(blobs, name="blobs")


def case_of(data: ImageData, spec: dict[str, Any], train: dict[str, Any]) -> Case:
    network: dict[str, Any] = {"blocks": 2, "width": 8} | spec
    net = image_network(data.image_shape, Classifier(classes=data.classes), **network)
    recipe = Recipe(spec=net, train=TrainSpec(**({"batch_size": 32} | train)))
    return Case(recipe=recipe, data=data, memory=1 << 30)


def test_a_healthy_network_has_no_bad_sign(data: ImageData) -> None:
    found = {finding.sign: finding for finding in examine(case_of(data, {}, {}))}
    assert list(found) == [sign for sign in SIGNS if sign != "gradients"]  # there is a norm
    assert [sign for sign, finding in found.items() if not finding.healthy] == []
    assert found["labels"].number < 0.5


NO_NORM = {"norm": NoNorm(), "norm_order": "relu_only_preact"}


@pytest.mark.parametrize(
    ("sign", "spec", "train"),
    [
        ("batch", {}, {"batch_size": 2}),
        ("activations", {"blocks": 14, **NO_NORM}, {}),
        ("gradients", {"blocks": 8, "block": PlainBlock(), "norm": NoNorm(),
                       "init": "glorot_normal"}, {}),
        ("learning rate", {}, {"learning_rate": 50.0}),
        ("learning rate", {}, {"learning_rate": 1e-7}),
    ],
    ids=["batch of 2", "sums explode", "gradients vanish", "rate too high", "rate too low"],
)  # fmt: skip
def test_a_broken_network_is_found_and_healed(
    data: ImageData, sign: str, spec: dict[str, Any], train: dict[str, Any]
) -> None:
    case = case_of(data, spec, train)
    finding = SIGNS[sign].examine(case)
    assert finding is not None
    assert not finding.healthy
    told: list[str] = []
    healed, left = heal(case, [finding], told.append)
    assert left == []
    after = SIGNS[sign].examine(healed)
    assert after is None or after.healthy
    assert healed.recipe != case.recipe
    assert told[0].startswith(f"{sign}: ")


def test_a_network_that_cannot_learn_images_by_heart(data: ImageData) -> None:
    finding = SIGNS["overfit"].examine(case_of(data, {"width": 1, "dropout": 0.95}, {}))
    assert finding is not None
    assert not finding.healthy


def test_memory(data: ImageData) -> None:
    case = dataclasses.replace(case_of(data, {}, {"batch_size": 4096}), memory=80 << 20)
    finding = SIGNS["memory"].examine(case)
    assert finding is not None
    assert finding.number > finding.limit
    healed, left = heal(case, [finding], lambda _: None)
    assert left == []
    assert reskeras.cost(healed.spec).training_bytes(healed.recipe.train.batch_size) <= 80 << 20


def test_labels_that_belong_to_other_images(blobs: dict[str, np.ndarray]) -> None:
    random = np.random.default_rng(0)
    mixed = {
        name: random.permutation(values) if name.startswith("y_") else values
        for name, values in blobs.items()
    }
    finding = SIGNS["labels"].examine(case_of(from_arrays(mixed, name="mixed"), {}, {}))
    assert finding is not None
    assert not finding.healthy


def test_classes_out_of_balance(blobs: dict[str, np.ndarray]) -> None:
    keep = np.flatnonzero(blobs["y_train"] != 2)
    rare = np.flatnonzero(blobs["y_train"] == 2)[:2]
    chosen = np.concatenate([keep, rare])
    arrays = blobs | {name: blobs[name][chosen] for name in ("x_train", "y_train")}
    case = case_of(from_arrays(arrays, name="rare"), {}, {})
    finding = SIGNS["classes"].examine(case)
    assert finding is not None
    assert finding.number == pytest.approx(np.bincount(arrays["y_train"])[:2].max() / 2)
    assert not finding.healthy
    healed, _ = heal(case, [finding], lambda _: None)
    assert healed.recipe.train.class_weight == "balanced"


def test_images_that_all_look_the_same_leave_units_dead(blobs: dict[str, np.ndarray]) -> None:
    """Half the units are off for one image, and so for all."""
    flat = {
        name: 0.9 + 0.01 * values if name.startswith("x_") else values
        for name, values in blobs.items()
    }
    network = ResNet(
        input_shape=(64,),
        stem=LinearStem(width=256),
        block=PlainBlock(),
        norm=NoNorm(),
        stages=(Stage(blocks=1, width=256),),
        head=Classifier(classes=3),
    )
    case = Case(recipe=Recipe(spec=network), data=from_arrays(flat, name="flat"))
    finding = SIGNS["dead units"].examine(case)
    assert finding is not None
    assert 0.3 < finding.number < 0.6
    assert not finding.healthy


def test_a_stem_for_large_images_on_small_ones(data: ImageData) -> None:
    """8x8 images are 1x1 in the first stage, where one of nine weights of a 3x3 window meets a
    pixel."""
    spec = case_of(data, {}, {}).spec
    net = dataclasses.replace(
        spec,
        stem=ImagenetStem(width=8),
        stages=tuple(dataclasses.replace(spec.stages[0], stride=2) for _ in range(2)),
    )
    case = Case(recipe=Recipe(spec=net), data=data)
    finding = SIGNS["padding"].examine(case)
    assert finding is not None
    assert 0.5 < finding.number < 8 / 9
    healed, left = heal(case, [finding], lambda _: None)
    assert left == []
    assert healed.spec.stem.kind == "cifar"  # type: ignore[union-attr]


def test_images_are_divided_by_their_white_value_once(blobs: dict[str, np.ndarray]) -> None:
    arrays = {
        name: (values.clip(0) * 1000).astype("uint16") if name.startswith("x_") else values
        for name, values in blobs.items()
    }
    data = from_arrays(arrays, name="white")
    assert data.peak is not None
    images = images_of(case_of(data, {}, {}).spec, data, 8)
    expected = arrays["x_train"][data.sample(8)] / data.peak
    np.testing.assert_allclose(images, expected, rtol=1e-5)


def test_objects_larger_than_what_a_network_sees() -> None:
    """Two rectangles of 20 and 12 pixels: nine of ten objects are not larger than 19.2."""
    images = np.zeros((4, 32, 32, 1), "float32")
    masks = np.zeros((4, 32, 32), int)
    masks[:, 2:22, 2:6] = 1
    masks[:, 25:28, 3:15] = 1
    arrays = {f"{axis}_{split}": values for split in ("train", "val")
              for axis, values in (("x", images), ("y", masks))}  # fmt: skip
    data = from_arrays(arrays, name="masks")
    spec = data.task.fit(reskeras.preset("unet_small"), data.facts)
    shallow = dataclasses.replace(spec, stages=spec.stages[:2])
    case = Case(recipe=Recipe(spec=shallow), data=data)
    finding = SIGNS["receptive field"].examine(case)
    assert finding is not None
    assert finding.limit == pytest.approx(20)
    assert finding.number == reskeras.cost(shallow).receptive_field
    assert finding.healthy == (finding.number >= 20)


class _Stub(SimpleNamespace):
    """Data for arithmetic alone: 1,000 images of a size, with one object in a quarter of it."""

    def class_counts(self) -> tuple[int, ...]:
        return (100,) * 10

    def sample(self, count: int) -> Any:
        return np.arange(min(count, 4))

    @property
    def reader(self) -> Any:
        mask = np.zeros(self.sides, int)
        mask[tuple(slice(0, max(1, side // 4)) for side in self.sides)] = 1
        pairs = [(None, mask)] * 4
        return SimpleNamespace(
            chosen=lambda split, places: SimpleNamespace(as_numpy_iterator=lambda: iter(pairs))
        )


TASK_OF_HEAD = {
    "segmentation": "segmentation",
    "heatmap": "keypoints",
    "regression": "restoration",
    "numbers": "numbers",
}


@pytest.mark.parametrize("name", reskeras.presets())
def test_presets_are_healthy_by_arithmetic(name: str) -> None:
    spec = reskeras.preset(name)
    task = task_called(TASK_OF_HEAD.get(spec.head.kind, "classification"))
    data: Any = _Stub(sizes={"train": 1000}, task=task, sides=spec.input_shape[:-1])
    case = Case(recipe=Recipe(spec=spec), data=data)
    bad = [
        finding.says
        for sign in BY_ARITHMETIC
        if (finding := sign.examine(case)) is not None and not finding.healthy
    ]
    assert bad == []


@pytest.mark.parametrize(
    ("name", "bad"), [("digits_basic", []), ("plain20", []), ("plain56", ["gradients"])]
)
def test_presets_at_initialization(name: str, bad: list[str]) -> None:
    """He 2015, Fig. 6: the plain network of 56 layers is worse than that of 20 layers."""
    spec = reskeras.preset(name)
    images = np.random.default_rng(0).random((8, *spec.input_shape), dtype="float32")
    data: Any = SimpleNamespace(sampled=lambda count: images, peak=None)
    case = Case(recipe=Recipe(spec=spec), data=data)
    found = [sign.examine(case) for sign in BY_INITIALIZATION]
    assert [one.sign for one in found if one is not None and not one.healthy] == bad
