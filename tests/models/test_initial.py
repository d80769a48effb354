"""Weights from another network: what can be taken computes the same, and what was taken is said."""

import dataclasses
import zipfile
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from nets import images, numpy, randomize, small

import reskeras
from reskeras.errors import RequestError
from reskeras.models.initial import Taken, _absorb_preprocessing, initialize
from reskeras.spec import (
    BasicBlock,
    CifarStem,
    Classifier,
    GroupNorm,
    Level,
    NoNorm,
    Recipe,
    ResNet,
    Segmenter,
    Stage,
    TrainSpec,
    UNet,
)

ENCODER = ResNet(
    input_shape=(8, 8, 1),
    stem=CifarStem(width=8),
    block=BasicBlock(),
    stages=(Stage(blocks=1, width=8), Stage(blocks=1, width=8, stride=2)),
    head=Classifier(classes=3),
)


def trained(spec: Any, seed: int = 0) -> tuple[Any, Path]:
    """A model with random weights and statistics, and its file."""
    model: Any = reskeras.build(spec)
    randomize(model, seed)
    path = Path("source.keras")
    model.save(path)
    return model, path


def initial(spec: Any, path: Path | str) -> tuple[Any, Taken]:
    model: Any = reskeras.build(spec)
    return model, initialize(model, Recipe(spec=spec, train=TrainSpec(init=str(path))))


def of_body(model: Any, x: np.ndarray, layer: str = "head_pool") -> np.ndarray:
    """What goes into the head, in inference mode: statistics are part of it."""
    return numpy(keras.Model(model.input, model.get_layer(layer).output)(x))


def test_an_equal_network_computes_the_same() -> None:
    source, path = trained(small())
    mine, taken = initial(small(), path)
    np.testing.assert_array_equal(numpy(mine(images())), numpy(source(images())))
    assert taken.new == taken.unused == taken.adapted == ()
    assert taken.told() == f"{len(taken.layers)} of {len(taken.layers)} layers start from {path}"


def test_other_classes_and_sizes_get_a_new_head_alone() -> None:
    source, path = trained(small())
    _, taken = initial(small(input_shape=(12, 12, 1), head=Classifier(classes=5)), path)
    assert taken.new == ("head",)
    assert taken.told().endswith("; new: head; not taken from there: head")
    same, _ = initial(small(head=Classifier(classes=5)), path)
    np.testing.assert_array_equal(of_body(same, images()), of_body(source, images()))


@pytest.mark.parametrize(("before", "after"), [(3, 1), (1, 3), (3, 4)])
def test_gray_images_look_the_same_to_any_number_of_channels(before: int, after: int) -> None:
    source, path = trained(small(input_shape=(8, 8, before)))
    mine, taken = initial(small(input_shape=(8, 8, after)), path)
    assert taken.adapted == ("stem_conv",)
    gray = images()
    ours, theirs = (np.repeat(gray, count, axis=-1) for count in (after, before))
    np.testing.assert_allclose(numpy(mine(ours)), numpy(source(theirs)), rtol=1e-4, atol=1e-6)


def test_an_encoder_goes_into_a_u_net_and_back() -> None:
    source, path = trained(ENCODER)
    unet = UNet(
        input_shape=(8, 8, 3),
        encoder=ENCODER,
        stages=(Level(width=4),),
        head=Segmenter(classes=2),
        block=BasicBlock(),
    )
    mine, taken = initial(unet, path)
    assert taken.adapted == ("encoder_stem_conv",)
    assert all(name.startswith("encoder_") for name in taken.layers)
    assert all(name.startswith(("decoder", "head", "final")) for name in taken.new)
    gray = images()
    np.testing.assert_allclose(
        of_body(mine, np.repeat(gray, 3, axis=-1), "encoder_stage2"),
        of_body(source, gray, "stage2"),
        rtol=1e-4,
        atol=1e-6,
    )
    mine.save("unet.keras")
    back, taken = initial(ENCODER, "unet.keras")
    assert taken.new == ("head",)
    np.testing.assert_allclose(of_body(back, gray), of_body(source, gray), rtol=1e-4, atol=1e-6)


def test_a_deeper_network_takes_the_blocks_that_are_there() -> None:
    _, path = trained(small())
    deeper = small(stages=(Stage(blocks=3, width=8), Stage(blocks=1, width=16, stride=2)))
    mine, taken = initial(deeper, path)
    assert {name.rpartition("_")[0] for name in taken.new} == {"stage1_block3"}
    assert "new: stage1_block3_conv1, " in taken.told()
    assert len(mine.layers) > len(taken.layers)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_layer_named_as_new_has_nothing_from_the_source(channels: int) -> None:
    source, path = trained(small(norm=NoNorm()))  # its convolutions have biases
    source.get_layer("stage1_block2_conv1").bias.assign(np.zeros(8))  # the only one to give up none
    source.save(path)
    spec = small(input_shape=(8, 8, channels), norm=GroupNorm(groups=2))
    model: Any = reskeras.build(spec)
    before = {layer.name: [numpy(w) for w in layer.weights] for layer in model.layers}
    taken = initialize(model, Recipe(spec=spec, train=TrainSpec(init=str(path))))
    assert taken.layers == ("stage1_block2_conv1", "head")
    assert {"stem_conv", "stage1_block1_conv1"} <= set(taken.new)
    assert taken.adapted == ()
    for name in taken.new:
        for weight, old in zip(model.get_layer(name).weights, before[name], strict=True):
            np.testing.assert_array_equal(numpy(weight), old)
    np.testing.assert_array_equal(
        numpy(model.get_layer("head").kernel), numpy(source.get_layer("head").kernel)
    )


def test_what_cannot_be_taken_is_refused() -> None:
    _, path = trained(small())
    other = small(
        stem=CifarStem(width=4), stages=(Stage(blocks=1, width=4),), norm=GroupNorm(groups=2)
    )
    with pytest.raises(RequestError, match=r"source\.keras shares no layers with resnet: it has s"):
        initial(other, path)
    with pytest.raises(RequestError, match=r"none\.keras: no such \.keras file; or give none, im"):
        initial(small(), "none.keras")
    Path("bad.keras").write_bytes(Path(path).read_bytes()[:-30])
    with pytest.raises(RequestError, match=r"bad\.keras: damaged: not a complete ZIP file"):
        initial(small(), "bad.keras")
    with zipfile.ZipFile("bad.keras", "w") as archive:
        archive.writestr("notes.txt", "no model")
    with pytest.raises(RequestError, match=r"bad\.keras: not a model that Keras can load"):
        initial(small(), "bad.keras")
    with pytest.raises(RequestError, match="there are none for 'resnet', only for networks that"):
        initial(small(), "imagenet")
    model = reskeras.build(small())
    before = [numpy(variable).copy() for variable in model.variables]
    assert initialize(model, Recipe(spec=small())).layers == ()
    for variable, value in zip(model.variables, before, strict=True):
        np.testing.assert_array_equal(numpy(variable), value)


@pytest.mark.parametrize(
    ("module", "mark", "bias"),
    [("resnet", "x", True), ("resnet_v2", "post_bn", True), ("densenet", "bn", False)],
)
def test_the_first_layer_absorbs_the_preprocessing_of_keras_applications(
    module: str, mark: str, bias: bool
) -> None:
    layers = keras.layers
    model: Any = keras.Sequential(
        [
            keras.Input((9, 9, 3)),
            layers.Conv2D(4, 3, use_bias=bias, name="conv1_conv"),  # without a border
            layers.BatchNormalization(name="conv1_bn"),
            layers.Activation("relu", name=mark),
        ]
    )
    randomize(model)
    colors = np.random.default_rng(1).uniform(size=(2, 9, 9, 3)).astype("float32")
    preprocess = getattr(keras.applications, module).preprocess_input
    expected = numpy(model(preprocess(255 * colors)))
    _absorb_preprocessing(model)
    np.testing.assert_allclose(numpy(model(colors)), expected, rtol=1e-3, atol=1e-3)


def test_imagenet_starts_a_gray_network_of_other_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []

    def resnet50(**options: Any) -> Any:
        assert options == {"include_top": False, "weights": "imagenet"}
        made.append(make(include_top=False, weights=None))
        randomize(made[0])
        return made[0]

    make = keras.applications.ResNet50
    monkeypatch.setattr(keras.applications, "ResNet50", resnet50)
    spec = dataclasses.replace(
        reskeras.preset("resnet50"), input_shape=(32, 32, 1), head=Classifier(classes=5)
    )
    mine, taken = initial(spec, "imagenet")
    assert taken.new == ("head",)
    assert taken.adapted == ("stem_conv",)
    assert taken.told() == (
        "106 of 107 layers start from imagenet; adapted to the channels: stem_conv; new: head"
    )
    np.testing.assert_array_equal(
        numpy(mine.get_layer("stage4_block3_conv3").kernel),
        numpy(made[0].get_layer("conv5_block3_3_conv").kernel),
    )
    np.testing.assert_allclose(
        numpy(mine.get_layer("stem_conv").kernel)[..., 0, :],
        numpy(made[0].get_layer("conv1_conv").kernel).sum(-2),
        rtol=1e-4,
    )
