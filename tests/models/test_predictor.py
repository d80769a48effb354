import keras
import numpy as np
import pytest
from keras import layers

import reskeras
from reskeras.errors import RequestError
from reskeras.models.inputs import input_form
from reskeras.models.predictor import answerer, predictor


def test_a_predictor_gives_what_predict_gives_in_batches_of_any_size() -> None:
    model = reskeras.build(reskeras.preset("resnet20"))
    images = np.random.default_rng(0).uniform(size=(7, 32, 32, 3))  # float64, as NumPy makes them
    expected = model.predict(images, verbose=0)
    for batch_size in (1, 3, 7, 32):
        outputs = predictor(model, batch_size)(images)
        assert isinstance(outputs, np.ndarray)
        assert outputs.dtype == "float32"
        np.testing.assert_allclose(outputs, expected, rtol=1e-4, atol=1e-6)


def test_a_predictor_traces_once_and_keeps_its_weights() -> None:
    traced = []

    class Counted(layers.Layer):
        def call(self, x: object) -> object:
            traced.append(self.name)
            return x

    x = keras.Input((4,))
    model = keras.Model(x, layers.Dense(2, name="dense")(Counted()(x)))
    predict = predictor(model, 4)
    traced.clear()
    first = predict(np.ones((10, 4)))
    predict(np.ones((3, 4), "int64"))
    assert len(traced) == 1
    model.get_layer("dense").set_weights([np.zeros((4, 2)), np.zeros(2)])
    np.testing.assert_array_equal(predict(np.ones((10, 4))), first)


def test_inputs_and_outputs_keep_their_structure() -> None:
    a, b = keras.Input((4,), name="a"), keras.Input((4,), name="b")
    model = keras.Model(
        {"b": b, "a": a}, {"sum": layers.Add()([a, b]), "pair": [layers.Dense(2)(a), b]}
    )
    inputs = {"b": np.full((5, 4), 2.0, "float32"), "a": np.ones((5, 4), "float32")}
    outputs, expected = predictor(model, 2)(inputs), model.predict(inputs, verbose=0)
    keras.tree.assert_same_structure(outputs, expected)
    keras.tree.map_structure(np.testing.assert_allclose, outputs, expected)
    inputs["a"] = inputs["a"][:3]
    with pytest.raises(ValueError, match=r"same length of at least 1, not \[3, 5\]"):
        predictor(model)(inputs)


def test_what_does_not_fit_is_refused() -> None:
    x = keras.Input((4,))
    model = keras.Model([x], layers.Dense(2)(x))  # a list of one input takes a bare array too
    assert predictor(model)(np.ones((3, 4))).shape == (3, 2)
    with pytest.raises(ValueError, match="at least 1, not 0"):
        predictor(model, 0)
    with pytest.raises(ValueError, match=r"of at least 1, not \[0\]"):
        predictor(model)(np.ones((0, 4)))
    with pytest.raises(TypeError):
        predictor(model)(np.ones((3, 5)))


def head(activation: str | None, channels: int, *, flat: bool = False) -> keras.Model:
    keras.utils.set_random_seed(4)
    x = keras.Input((12,) if flat else (2, 3, 2))
    return keras.Model(x, layers.Dense(channels, activation)(x if flat else layers.Flatten()(x)))


def test_a_classifier_gives_probabilities_whatever_the_activation() -> None:
    images = np.random.default_rng(0).normal(size=(5, 2, 3, 2)).astype("float32")

    def logits(model: keras.Model) -> np.ndarray:
        kernel, bias = model.layers[-1].get_weights()
        return images.reshape(5, -1) @ kernel + bias

    for activation in ("softmax", None):
        model = head(activation, 3)
        powers = np.exp(logits(model))
        np.testing.assert_allclose(
            answerer(model, batch_size=2)(images), powers / powers.sum(-1, keepdims=True), rtol=1e-4
        )
    model = head("sigmoid", 3)
    np.testing.assert_allclose(answerer(model)(images), 1 / (1 + np.exp(-logits(model))), rtol=1e-4)
    for activation in ("sigmoid", None):
        model = head(activation, 1)
        one = 1 / (1 + np.exp(-logits(model)))
        np.testing.assert_allclose(
            answerer(model)(images), np.concatenate([1 - one, one], -1), rtol=1e-4
        )


def test_a_classifier_brings_images_into_the_networks_form() -> None:
    images = np.random.default_rng(0).uniform(size=(3, 4, 5, 3)).astype("float32")
    x = keras.Input((3, 4, 5))
    planes = layers.GlobalAveragePooling2D(data_format="channels_first")(x)
    model = keras.Model(x, layers.Activation("softmax")(planes))
    assert input_form(model).image_shape("net") == (4, 5, 3)
    means = np.exp(images.mean((1, 2)))
    np.testing.assert_allclose(
        answerer(model)(images), means / means.sum(-1, keepdims=True), rtol=1e-4
    )
    x = keras.Input((16,))
    vectors = keras.Model(x, layers.Dense(2)(x))
    assert input_form(vectors).image_shape("net") == (4, 4, 1)
    square = images[:, :, :4, :1]
    flat = keras.Model(x, layers.Dense(2, "softmax")(x))
    np.testing.assert_allclose(
        answerer(flat)(square), flat.predict(square.reshape(3, 16), verbose=0), rtol=1e-4
    )


def test_the_last_of_several_heads_is_asked() -> None:
    x = keras.Input((4, 4, 1))
    maps = layers.Conv2D(3, 1, activation="softmax")
    model = keras.Model(x, {"aux": layers.Conv2D(3, 1)(x), "head": maps(x)})
    images = np.random.default_rng(0).uniform(size=(2, 4, 4, 1)).astype("float32")
    np.testing.assert_allclose(
        answerer(model)(images), model.predict(images, verbose=0)["head"], rtol=1e-4
    )


def test_what_is_no_classifier_is_refused() -> None:
    a, b = keras.Input((2, 2, 1)), keras.Input((2, 2, 1))
    for model in (
        keras.Model([a, b], layers.Add()([a, b])),
        head("softmax", 3, flat=True),
    ):
        with pytest.raises(RequestError, match=r"not images of one size|takes 2 inputs, not one"):
            answerer(model)
    with pytest.raises(RequestError, match="which is no answer to any task"):
        answerer(keras.Model(a, {"stage1": layers.Flatten()(a)}))
    sequential = keras.Sequential([keras.Input((2, 2, 1)), layers.Flatten(), layers.Dense(2)])
    with pytest.raises(RequestError, match="makes one of a built Sequential"):
        answerer(sequential)
