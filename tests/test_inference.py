import keras
import numpy as np
import pytest
from keras import layers

import reskeras
from reskeras.inference import predictor


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
    model = keras.Model({"b": b, "a": a}, {"sum": layers.Add()([a, b]), "pair": [layers.Dense(2)(a), b]})
    inputs = {"b": np.full((5, 4), 2.0, "float32"), "a": np.ones((5, 4), "float32")}
    outputs, expected = predictor(model, 2)(inputs), model.predict(inputs, verbose=0)
    keras.tree.assert_same_structure(outputs, expected)
    keras.tree.map_structure(np.testing.assert_allclose, outputs, expected)
    inputs["a"] = inputs["a"][:3]
    with pytest.raises(ValueError, match=r"of one length of at least 1, not of \[3, 5\]"):
        predictor(model)(inputs)


def test_what_does_not_fit_is_refused() -> None:
    x = keras.Input((4,))
    model = keras.Model([x], layers.Dense(2)(x))  # a list of one input takes a bare array too
    assert predictor(model)(np.ones((3, 4))).shape == (3, 2)
    with pytest.raises(ValueError, match="at least 1, not 0"):
        predictor(model, 0)
    with pytest.raises(ValueError, match=r"of at least 1, not of \[0\]"):
        predictor(model)(np.ones((0, 4)))
    with pytest.raises(TypeError):
        predictor(model)(np.ones((3, 5)))
