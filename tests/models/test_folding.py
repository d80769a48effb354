"""Folded models against the models they come from: equal outputs, and as many batch norms left as
theory says."""

import dataclasses
import itertools
from collections.abc import Callable, Iterator
from typing import Any, get_args

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from nets import kinds

import reskeras
from reskeras.models.folding import fold_batch_norm
from reskeras.spec import (
    BasicBlock,
    CifarStem,
    Classifier,
    DenseBlock,
    DenseNet,
    DenseStage,
    Level,
    NormOrder,
    ResNet,
    Segmenter,
    ShortcutWord,
    Stage,
    UNet,
    is_residual,
)


@pytest.fixture(autouse=True)
def _float32() -> Iterator[None]:
    yield
    keras.config.set_dtype_policy("float32")


def randomize(model: keras.Model) -> None:
    """Random weights and statistics, by far not those of a fresh model."""
    random = np.random.default_rng(0)
    for weight in model.weights:
        # Kernels keep their fan-in's scale, so that deep nets neither explode nor fade out, which
        # would hide differences.
        if weight.name in ("gamma", "moving_variance"):
            weight.assign(random.uniform(0.5, 1.5, weight.shape))
        elif weight.name in ("beta", "moving_mean", "bias"):
            weight.assign(random.uniform(-0.5, 0.5, weight.shape))


def norms(model: keras.Model) -> list[str]:
    return [layer.name for layer in model.layers if isinstance(layer, layers.BatchNormalization)]


def inputs_of(model: keras.Model, n: int = 3) -> Any:
    random = np.random.default_rng(1)
    return keras.tree.map_structure(
        lambda x: random.normal(size=(n, *x.shape[1:])).astype("float32"), model.input
    )


def check(
    model: keras.Model, left: int | None, rtol: float = 1e-4, atol: float = 1e-5
) -> keras.Model:
    """Folds a model and compares the outputs; `left` batch norms must be left, or any fewer if it
    is None."""
    randomize(model)
    x, weights = inputs_of(model), model.get_weights()
    before = model(x, training=False)
    folded = fold_batch_norm(model)
    after = folded(x, training=False)
    keras.tree.assert_same_structure(before, after)
    for ys in zip(keras.tree.flatten(before), keras.tree.flatten(after), strict=True):
        one, other = (np.asarray(keras.ops.convert_to_numpy(y), "float32") for y in ys)
        assert one.std() > 0.01  # so that a difference can show
        np.testing.assert_allclose(other, one, rtol=rtol, atol=atol)
    assert (
        len(norms(folded)) == left if left is not None else len(norms(folded)) < len(norms(model))
    )
    assert folded.name == model.name
    assert {layer.name for layer in folded.layers} <= {layer.name for layer in model.layers}
    assert all(type(layer).__module__.startswith("keras.") for layer in folded.layers)
    for one, other in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert not {id(weight) for weight in folded.weights} & {id(weight) for weight in model.weights}
    return folded


BLOCKS = kinds("block")


def small(**changes: object) -> ResNet:
    spec = ResNet(
        input_shape=(8, 8, 1),
        stem=CifarStem(width=8),
        block=BasicBlock(),
        stages=(Stage(blocks=2, width=8), Stage(blocks=1, width=16, stride=2)),
        shortcut="project_on_change",
        head=Classifier(classes=3, activation="none"),
    )
    return dataclasses.replace(spec, **changes)


@pytest.mark.parametrize(
    ("block", "order"), [*itertools.product(BLOCKS, get_args(NormOrder))], ids=str
)
def test_networks_of_every_block_and_norm_order(block: object, order: NormOrder) -> None:
    model = reskeras.build(small(block=block, norm_order=order))
    check(model, None)


@pytest.mark.parametrize(
    ("order", "left"),
    # Three blocks, three additions
    [
        ("original", 0),
        ("relu_before_add", 0),
        ("relu_only_preact", 0),
        ("norm_after_add", 3),
    ],
)
@pytest.mark.parametrize("block", [*filter(is_residual, BLOCKS)], ids=str)
def test_only_norms_behind_additions_are_left(block: object, order: NormOrder, left: int) -> None:
    model = reskeras.build(small(block=block, norm_order=order))
    assert len(norms(fold_batch_norm(model))) == left


@pytest.mark.parametrize("shortcut", get_args(ShortcutWord))
def test_networks_of_every_shortcut(shortcut: ShortcutWord) -> None:
    check(reskeras.build(small(shortcut=shortcut)), 0)


def test_a_densenet_keeps_the_norms_behind_concatenations() -> None:
    spec = DenseNet(
        input_shape=(8, 8, 1),
        stem=CifarStem(width=8),
        block=DenseBlock(growth_rate=4, compression=0.5),
        stages=(DenseStage(blocks=3), DenseStage(blocks=2)),
        head=Classifier(classes=3, activation="none"),
    )
    # Twelve norms: two per dense layer, the transition's, the last. Those between a layer's two
    # convolutions fold.
    model = reskeras.build(spec)
    assert len(norms(model)) == 12
    check(model, 12 - 5)


@pytest.mark.parametrize("order", ["original", "full_preact"])
def test_unets(order: NormOrder) -> None:
    spec = UNet(
        input_shape=(8, 8, 1),
        block=BasicBlock(),
        norm_order=order,
        stages=(Level(width=4), Level(width=8), Level(width=16)),
        head=Segmenter(classes=2, activation="none"),
    )
    model = reskeras.build(spec)
    check(model, 0 if order == "original" else None)


def test_networks_of_keras_applications() -> None:
    resnet = keras.applications.ResNet50(
        weights=None, input_shape=(32, 32, 3), classes=4, classifier_activation=None
    )
    assert len(norms(resnet)) == 53
    assert not norms(fold_batch_norm(resnet))


NORMS: list[dict[str, Any]] = [
    {},
    {"center": False},
    {"scale": False},
    {"center": False, "scale": False, "epsilon": 0.3},
]
LINEAR: dict[str, tuple[Callable[..., layers.Layer], tuple[int, ...]]] = {
    "conv1d": (lambda **k: layers.Conv1D(6, 3, padding="causal", **k), (9, 4)),
    "conv2d": (lambda **k: layers.Conv2D(6, 3, padding="same", strides=2, **k), (8, 7, 4)),
    "conv2d_groups": (lambda **k: layers.Conv2D(6, 3, groups=2, dilation_rate=2, **k), (8, 7, 4)),
    "conv3d": (lambda **k: layers.Conv3D(6, 2, **k), (3, 4, 5, 4)),
    "conv1d_transpose": (lambda **k: layers.Conv1DTranspose(6, 3, strides=2, **k), (5, 4)),
    "conv2d_transpose": (
        lambda **k: layers.Conv2DTranspose(6, 3, strides=2, padding="same", **k),
        (5, 4, 4),
    ),
    "conv3d_transpose": (lambda **k: layers.Conv3DTranspose(6, 2, **k), (2, 3, 3, 4)),
    "dense": (lambda **k: layers.Dense(6, **k), (4,)),
    "dense_of_images": (lambda **k: layers.Dense(6, **k), (3, 3, 4)),
}


@pytest.mark.parametrize("options", NORMS, ids=str)
@pytest.mark.parametrize("kind", LINEAR)
def test_every_linear_layer_takes_up_the_norm_behind_it(kind: str, options: dict[str, Any]) -> None:
    make, shape = LINEAR[kind]
    x = keras.Input(shape)
    linear = make(use_bias=options.get("scale", True), name="linear")
    folded = check(
        keras.Model(x, layers.ReLU()(layers.BatchNormalization(**options)(linear(x)))), 0
    )
    assert folded.get_layer("linear").use_bias


# Causal: channels last
@pytest.mark.parametrize(
    "kind", [kind for kind in LINEAR if "dense" not in kind and kind != "conv1d"]
)
def test_channels_first(kind: str) -> None:
    make, (*space, channels) = LINEAR[kind]
    x = keras.Input((channels, *space))
    try:  # TensorFlow convolves channels first on a CPU only with oneDNN, which not all CPUs get
        keras.ops.conv(
            np.zeros((1, 1, 3, 3), "float32"),
            np.zeros((1, 1, 1, 1), "float32"),
            data_format="channels_first",
        )
    except tf.errors.UnimplementedError:
        pytest.skip("TensorFlow has no convolution with channels first on this CPU")
    check(
        keras.Model(x, layers.BatchNormalization(axis=1)(make(data_format="channels_first")(x))), 0
    )


@pytest.mark.parametrize("options", NORMS, ids=str)
@pytest.mark.parametrize("kind", ["conv2d_groups", "conv3d", "dense", "dense_of_images"])
def test_layers_that_pad_nothing_take_up_the_norm_before_them(
    kind: str, options: dict[str, Any]
) -> None:
    make, shape = LINEAR[kind]
    x = keras.Input(shape)
    y = layers.BatchNormalization(**options)(layers.ReLU()(x))
    linear = make(activation="relu", use_bias=options.get("scale", True))
    # The one behind the activation
    check(keras.Model(x, layers.BatchNormalization()(linear(y))), 1)


def test_a_layer_takes_up_the_norms_on_both_sides() -> None:
    x = keras.Input((6, 6, 4))
    y = layers.BatchNormalization()(layers.ReLU()(x))
    y = layers.Conv2D(8, 1, strides=2, padding="same", groups=4)(y)
    check(keras.Model(x, layers.BatchNormalization()(y)), 0)


def test_a_norm_between_two_layers_is_folded_once() -> None:
    x = keras.Input((6, 6, 4))
    y = layers.BatchNormalization()(layers.Conv2D(8, 3)(x))
    check(keras.Model(x, layers.Conv2D(4, 1)(y)), 0)


@pytest.mark.parametrize("kind", ["conv1d", "conv2d", "conv1d_transpose", "conv2d_transpose"])
def test_layers_that_pad_leave_the_norm_before_them(kind: str) -> None:
    make, shape = LINEAR[kind]
    x = keras.Input(shape)
    check(keras.Model(x, make()(layers.BatchNormalization()(layers.ReLU()(x)))), 1)


class MyDense(layers.Dense):
    """Doubles what a dense layer gives, which folding cannot know."""

    def call(self, inputs: Any, training: Any = None) -> Any:
        return 2 * super().call(inputs) + 1


def _kept() -> dict[str, keras.Model]:
    def norm(**options: Any) -> layers.Layer:
        return layers.BatchNormalization(**options)

    x = keras.Input((4, 4, 4))
    y, two, shared, shared_norm = (
        layers.Conv2D(4, 1)(x),
        layers.Conv2D(4, 1)(x),
        layers.Conv2D(4, 1),
        norm(),
    )
    other_dtype = layers.Conv2D(4, 1, dtype="mixed_bfloat16")(x)
    return {
        "activation in the layer": keras.Model(
            x, norm()(layers.Conv2D(4, 1, activation="tanh")(x))
        ),
        "two users": keras.Model(x, layers.Add()([y, norm()(y)])),
        "an output too": keras.Model(x, [two, norm()(two)]),
        "layer called twice": keras.Model(x, norm()(shared(shared(x)))),
        "layer behind it called twice": keras.Model(x, shared(layers.ReLU()(shared(norm()(x))))),
        "norm called twice": keras.Model(
            x, shared_norm(layers.Conv2D(4, 1)(shared_norm(layers.Conv2D(4, 1)(x))))
        ),
        "other axis": keras.Model(x, norm(axis=1)(layers.Conv2D(4, 1)(x))),
        "another dtype": keras.Model(x, norm()(other_dtype)),
        "by its batch": keras.Model(x, norm()(layers.Conv2D(4, 1)(x), training=True)),
        "depthwise": keras.Model(x, norm()(layers.DepthwiseConv2D(3)(x))),
        "not linear": keras.Model(x, norm()(layers.MaxPooling2D()(x))),
        "padding between": keras.Model(x, layers.Conv2D(4, 3)(layers.ZeroPadding2D()(norm()(x)))),
    }


@pytest.mark.parametrize("case", _kept())
def test_what_cannot_be_folded_is_kept(case: str) -> None:
    check(_kept()[case], 1)


def test_a_part_of_a_model() -> None:
    x = keras.Input((6, 6, 2))
    middle = layers.Conv2D(2, 1)(x)
    last = layers.Conv2D(2, 1)(layers.ReLU()(layers.BatchNormalization()(middle)))
    end = layers.BatchNormalization()(last)
    check(keras.Model(x, end), 0)
    # The convolution that the first one follows is no part of it
    check(keras.Model(middle, layers.ReLU()(end)), 1)
    check(keras.Model(middle, last), 1)


def test_subclasses_are_kept() -> None:
    x = keras.Input((4,))
    model = keras.Model(x, layers.BatchNormalization()(MyDense(4)(x)))
    randomize(model)
    folded = fold_batch_norm(model)
    assert len(norms(folded)) == 1
    np.testing.assert_array_equal(folded(np.ones((2, 4))), model(np.ones((2, 4))))


def test_structures_and_names_are_kept() -> None:
    a, b = keras.Input((6, 6, 2), name="a"), keras.Input((6, 6, 2), name="b")
    one = layers.BatchNormalization(name="out_norm")(layers.Conv2D(3, 3, name="conv_a")(a))
    two = layers.ReLU(name="out_relu")(
        layers.BatchNormalization(name="norm_b")(layers.Conv2D(3, 3, name="conv_b")(b))
    )
    both = layers.Add(name="sum")([keras.ops.tanh(one), two])
    model = keras.Model({"a": a, "b": b}, {"first": one, "second": [two, both]}, name="two_headed")
    folded = check(model, 0)
    assert folded.output_names == model.output_names
    assert {layer.name for layer in model.layers} - {layer.name for layer in folded.layers} == {
        "norm_b"
    }
    model.get_layer("conv_a").trainable = False
    assert not fold_batch_norm(model).get_layer("conv_a").trainable
    assert fold_batch_norm(model).get_layer("conv_b").trainable


def _refused() -> dict[str, keras.Model]:
    x = keras.Input((4,))
    inner = keras.Model(x, layers.BatchNormalization()(layers.Dense(4)(x)), name="odd")
    quantized, adapted = layers.Dense(4, name="odd"), layers.Dense(4, name="odd")
    models = {
        "nested": keras.Model(x, inner(x)),
        "quantized": keras.Model(x, layers.BatchNormalization()(quantized(x))),
        "lora": keras.Model(x, layers.BatchNormalization()(adapted(x))),
    }
    quantized.quantize("int8")
    adapted.enable_lora(1)
    return models


@pytest.mark.parametrize("case", _refused())
def test_layers_that_are_not_plain_are_refused_by_name(case: str) -> None:
    with pytest.raises(TypeError, match=r"takes plain layers, not nested models, .*: odd"):
        fold_batch_norm(_refused()[case])


def test_a_sequential_model_is_refused_with_a_way_out() -> None:
    model = keras.Sequential(
        [keras.Input((6, 6, 2)), layers.Conv2D(2, 1), layers.BatchNormalization()]
    )
    with pytest.raises(TypeError, match="takes a Functional model, not Sequential; keras"):
        fold_batch_norm(model)
    check(keras.Model(model.inputs, model.outputs), 0)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16", "bfloat16", "float64"])
def test_dtype_policies_are_copied(policy: str) -> None:
    keras.config.set_dtype_policy(policy)
    model = reskeras.build(small())
    keras.config.set_dtype_policy("float32")
    # Half precision rounds at 2^-11 (bfloat16: 2^-8) after each layer, and folding moves what is
    # rounded.
    tolerance = {"mixed_float16": 0.02, "float64": 1e-6}.get(policy, 0.15)
    folded = check(model, 0, rtol=tolerance, atol=tolerance)
    policies = {layer.name: layer.dtype_policy.name for layer in model.layers}
    assert all(layer.dtype_policy.name == policies[layer.name] for layer in folded.layers[1:])
    assert folded.get_layer("stage1_block1_conv1").dtype_policy.name == policy


def test_normalization_layers_keep_what_they_adapted_to() -> None:
    x = keras.Input((4,))
    normalize = layers.Normalization()
    normalize.adapt(np.arange(20.0).reshape(5, 4))
    model = keras.Model(x, layers.BatchNormalization()(layers.Dense(3)(normalize(x))))
    folded = fold_batch_norm(model)
    assert not norms(folded)
    np.testing.assert_allclose(folded(np.ones((1, 4))), model(np.ones((1, 4))), rtol=1e-4)


def test_a_folded_model_saves_and_is_still_compiled() -> None:
    model = reskeras.build(small())
    randomize(model)
    model.compile(loss="mse", metrics=["mae"])
    folded = fold_batch_norm(model)
    folded.save("folded.keras")
    again = keras.saving.load_model("folded.keras")
    x, y = inputs_of(model), np.zeros((3, 3))
    np.testing.assert_array_equal(again.predict(x, verbose=0), folded.predict(x, verbose=0))
    np.testing.assert_allclose(
        folded.evaluate(x, y, verbose=0), model.evaluate(x, y, verbose=0), rtol=1e-4
    )
