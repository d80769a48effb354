"""Weights to and from keras.applications: the same function, which only the same structure can
compute."""

import dataclasses
from pathlib import Path

import keras
import numpy as np
import pytest
from nets import images, numpy, randomize, small

import reskeras
from reskeras.spec import BottleneckBlock, Classifier, NoNorm, UNet

APPLICATIONS = {
    **{f"resnet{depth}": f"ResNet{depth}" for depth in (50, 101, 152)},
    **{f"resnet{depth}v2": f"ResNet{depth}V2" for depth in (50, 101, 152)},
    **{f"densenet{depth}": f"DenseNet{depth}" for depth in (121, 169, 201)},
}


def application(name: str, size: int, **options: object) -> keras.Model:
    return getattr(keras.applications, APPLICATIONS[name])(
        weights=None, input_shape=(size, size, 3), **options
    )


def preset(name: str, size: int) -> keras.Model:
    return reskeras.build(dataclasses.replace(reskeras.preset(name), input_shape=(size, size, 3)))


def features(model: keras.Model, x: np.ndarray) -> np.ndarray:
    """What goes into the classifier: a softmax over 1000 classes hides differences."""
    return numpy(keras.Model(model.input, model.layers[-2].output)(x))


# Deeper ones only repeat blocks; tests/nets/test_cost.py compares their numbers of parameters.
@pytest.mark.parametrize("name", ["resnet50", "resnet50v2", "densenet121"])
def test_the_preset_computes_what_keras_applications_does(name: str) -> None:
    size = 97  # odd sides tell paddings apart
    theirs, ours = application(name, size), preset(name, size)
    randomize(theirs)
    reskeras.transfer_weights(theirs, ours)
    x = images(size, size, 3, n=2)
    expected = features(theirs, x)
    np.testing.assert_allclose(
        features(ours, x), expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max()
    )
    np.testing.assert_allclose(numpy(ours(x)), numpy(theirs(x)), rtol=1e-3, atol=1e-6)
    # And back, into the same model with other weights.
    randomize(theirs, seed=1)
    assert not np.allclose(features(theirs, x), expected, rtol=1e-2)
    reskeras.transfer_weights(ours, theirs)
    np.testing.assert_allclose(
        features(theirs, x), expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max()
    )
    keras.backend.clear_session()


@pytest.mark.backend
def test_a_bias_that_the_target_lacks_goes_into_the_batch_norm_behind_it() -> None:
    biased, plain = reskeras.build(small(conv_bias="always")), reskeras.build(small())
    randomize(biased)
    reskeras.transfer_weights(biased, plain)
    np.testing.assert_allclose(
        plain.predict(images(), verbose=0), biased.predict(images(), verbose=0), rtol=1e-4
    )
    norm, conv = biased.get_layer("stem_norm"), biased.get_layer("stem_conv")
    np.testing.assert_allclose(
        numpy(plain.get_layer("stem_norm").moving_mean),
        numpy(norm.moving_mean) - numpy(conv.bias),
        rtol=1e-5,
    )


@pytest.mark.parametrize(("before", "after"), [(0.1, 1e-5), (1e-5, 0.7)])
def test_another_epsilon_goes_into_the_variance_or_into_gamma(before: float, after: float) -> None:
    # The greater epsilon exceeds some of the variances, which cannot become negative.
    one, other = (
        reskeras.build(small(norm={"kind": "batch", "epsilon": epsilon}))
        for epsilon in (before, after)
    )
    randomize(one)
    reskeras.transfer_weights(one, other)
    np.testing.assert_allclose(
        other.predict(images(), verbose=0), one.predict(images(), verbose=0), rtol=1e-4
    )


def test_an_encoder_takes_the_weights_of_its_classifier() -> None:
    spec = UNet(
        input_shape=(64, 64, 3),
        encoder={"preset": "resnet50"},
        up="nearest",
        stages=[{"width": 4}] * 5,
        head={"kind": "segmentation", "classes": 2},
    )
    theirs, ours = application("resnet50", 64, include_top=False), reskeras.build(spec)
    randomize(theirs)
    reskeras.transfer_weights(theirs, ours, prefix="encoder_")
    bridge = keras.Model(ours.input, ours.get_layer("encoder_stage4").output)
    x = images(64, 64, 3, n=1)
    expected = numpy(theirs(x))
    np.testing.assert_allclose(numpy(bridge(x)), expected, rtol=1e-4, atol=1e-5 * expected.max())


def test_pretrained_weights_are_those_of_keras_applications(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = []

    def resnet50(**options: object) -> keras.Model:
        asked.append(options)
        model = make(include_top=options["include_top"], weights=None)
        randomize(model)
        return model

    make = keras.applications.ResNet50
    monkeypatch.setattr(keras.applications, "ResNet50", resnet50)
    spec = dataclasses.replace(
        reskeras.preset("resnet50"),
        name="mine",
        input_shape=(64, 64, 3),
        head=Classifier(classes=5),
    )
    mine = reskeras.build(spec, weights="imagenet")
    assert asked == [{"include_top": False, "weights": "imagenet"}]
    theirs = resnet50(include_top=False, weights="imagenet")
    last = "stage4_block3_conv3"
    np.testing.assert_array_equal(
        numpy(mine.get_layer(last).kernel), numpy(theirs.get_layer("conv5_block3_3_conv").kernel)
    )
    with pytest.raises(
        reskeras.RequestError, match=r"weights 'none\.h5': neither `imagenet` nor a file"
    ):
        reskeras.build("resnet50", weights="none.h5")
    with pytest.raises(
        reskeras.RequestError,
        match="there are none for 'resnet50_v1_5', only for networks that differ from resnet50",
    ):
        reskeras.build("resnet50_v1_5", weights="imagenet")


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        (
            small(),
            small(block=BottleneckBlock()),
            r"the source has no stage1_block1_conv3 \(kernel \[1, 1, 2, 8\] in the target\)",
        ),
        (
            small(),
            small(stages=[{"blocks": 2, "width": 8}, {"blocks": 1, "width": 12, "stride": 2}]),
            r"stage2_block1_conv1 .*: kernel \[3, 3, 8, 16\] there, \[3, 3, 8, 12\] here",
        ),
        (
            small(stages=[{"blocks": 1, "width": 8}]),
            small(),
            r"the source has no stage1_block2_conv1 \(kernel \[3, 3, 8, 8\] in the target\)",
        ),
        (
            small(),
            small(stages=[{"blocks": 1, "width": 8}]),
            r"the target has no stage1_block2_conv1",
        ),
        (
            small(),
            small(head=Classifier(classes=4)),
            r"head .*kernel \[16, 3\] there, \[16, 4\] here",
        ),
        (small(norm=NoNorm()), small(norm={"kind": "layer"}), "the source has no stem_norm"),
        (
            small(norm={"kind": "layer"}),
            small(norm={"kind": "layer", "epsilon": 1.0}),
            "epsilon 1e-05 there, 1.0 here",
        ),
        (
            small(norm=NoNorm()),
            small(norm=NoNorm(), conv_bias="never"),
            "a bias there, none here, and no batch norm follows",
        ),
        (
            small(stages=[{"blocks": 1, "width": 8}]),
            small(stages=[{"blocks": 1, "width": 8, "stride": 2}], shortcut="pad"),
            r"strides \(1, 1\) there, \(2, 2\) here",
        ),
    ],
)
def test_a_mismatch_names_the_layer_and_the_shapes_and_writes_nothing(
    source: object, target: object, message: str
) -> None:
    there, here = reskeras.build(source), reskeras.build(target)
    randomize(there)
    before = here.get_weights()
    with pytest.raises(reskeras.RequestError, match=message):
        reskeras.transfer_weights(there, here)
    for old, new in zip(before, here.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_v1_weights_are_not_poured_into_a_net_with_other_strides() -> None:
    theirs, ours = application("resnet50", 64), preset("resnet50_v1_5", 64)
    with pytest.raises(
        reskeras.RequestError,
        match=r"conv3_block1_1_conv \(stage2_block1_conv1 here\): "
        r"strides \(2, 2\) there, \(1, 1\) here",
    ):
        reskeras.transfer_weights(theirs, ours)
    with pytest.raises(
        reskeras.RequestError,
        match="the target has no layers with weights whose names begin with 'encoder_'",
    ):
        reskeras.transfer_weights(theirs, ours, prefix="encoder_")


def test_the_head_can_stay_as_it_is(tmp_path: Path) -> None:
    source, target = reskeras.build(small()), reskeras.build(small(head=Classifier(classes=5)))
    head = target.get_layer("head").get_weights()
    reskeras.transfer_weights(source, target, head=False)
    np.testing.assert_array_equal(target.get_layer("head").get_weights()[0], head[0])
    np.testing.assert_array_equal(
        numpy(target.get_layer("stem_conv").kernel), numpy(source.get_layer("stem_conv").kernel)
    )
