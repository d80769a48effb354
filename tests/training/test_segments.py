"""A segmented model must be indistinguishable from Keras' own, but for float rounding."""

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from nets import small

import reskeras
from reskeras.data import from_arrays
from reskeras.errors import RequestError
from reskeras.spec import BasicBlock, BottleneckBlock, DenseBlock, Level, Segmenter, UNet
from reskeras.training.compiled import CompiledTrainer, Programs
from reskeras.training.segments import SegmentedModel
from reskeras.training.targets import Targets

SHAPE = (8, 8, 1)
SPECS: dict[str, Any] = {
    "preact": small(
        block=BottleneckBlock(),
        norm_order="full_preact",
        stages=[{"blocks": 3, "width": 8}, {"blocks": 2, "width": 16, "stride": 2}],
    ),
    "dense": small(block=DenseBlock(growth_rate=4), dropout=0.2),
    "unet": UNet(
        input_shape=SHAPE,
        block=BasicBlock(),
        stages=(Level(width=4), Level(width=8)),
        head=Segmenter(classes=3),
    ),
}


def build(name: str) -> Any:
    keras.utils.set_random_seed(7)
    return reskeras.build(SPECS[name])


def images(n: int = 5) -> Any:
    return tf.constant(np.random.default_rng(5).normal(size=(n, *SHAPE)).astype("float32"))


def run(segmented: SegmentedModel, model: Any, x: Any, *, training: bool) -> Any:
    tensors = {id(model.inputs[0]): x}
    segmented.run(tensors, training)
    return tensors[id(model.outputs[0])]


@pytest.mark.parametrize("recompute", [False, True], ids=["kept", "recomputed"])
@pytest.mark.parametrize("name", SPECS)
def test_outputs_gradients_and_statistics_are_keras_own(name: str, recompute: bool) -> None:
    found = []
    for how in ("keras", "segments"):
        model, x = build(name), images()
        segmented = SegmentedModel(model, recompute)
        with tf.GradientTape() as tape:
            outputs = (
                model(x, training=True)
                if how == "keras"
                else run(segmented, model, x, training=True)
            )
            loss = tf.reduce_sum(outputs**2)
        gradients = tape.gradient(loss, [v.value for v in model.trainable_variables])
        still = model(x) if how == "keras" else run(segmented, model, x, training=False)
        others = [v.numpy() for v in model.non_trainable_variables]
        found.append([outputs, *gradients, still, *others])
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("inlined", [0, 40], ids=["called", "inlined"])
def test_equal_blocks_share_one_trace(monkeypatch: pytest.MonkeyPatch, inlined: int) -> None:
    monkeypatch.setattr("reskeras.training.segments._INLINED", inlined)
    model = build("preact")
    segmented = SegmentedModel(model, recompute=False)
    found = run(segmented, model, images(), training=False)
    np.testing.assert_allclose(found, model(images()), rtol=1e-4, atol=1e-5)
    # Stem and first block, blocks 2 and 3, stage 2's first and second block, the rest.
    assert len(segmented.segments) == 6
    assert len(segmented.functions) == 5


def test_blocks_that_differ_in_anything_but_names_share_nothing() -> None:
    image = x = keras.Input(SHAPE)
    for settings in (
        {},
        {"dilation_rate": 2},
        {"activation": "tanh"},
        {"data_format": "channels_last", "groups": 1},
    ):
        x = keras.layers.Add()([x, keras.layers.Conv2D(1, 3, padding="same", **settings)(x)])
    x = keras.layers.Concatenate()([x, x[:, ::-1]])
    x = keras.layers.Concatenate()([x[:, :, ::-1], x])
    model = keras.Model(image, x)
    segmented = SegmentedModel(model, recompute=False)
    found = run(segmented, model, images(), training=False)
    np.testing.assert_allclose(found, model(images()), rtol=1e-5, atol=1e-6)
    # The first and the last of the convolutions are the same.
    assert len(segmented.segments) - len(segmented.functions) == 1


def test_recomputation_passes_less_from_the_forward_to_the_backward_pass() -> None:
    def elements(recompute: bool) -> int:
        deep = [{"blocks": 3, "width": 8}, {"blocks": 2, "width": 16, "stride": 2}]
        model = reskeras.build(small(block=DenseBlock(growth_rate=4), stages=deep))
        segmented = SegmentedModel(model, recompute)

        @tf.function
        def gradients(x: Any) -> Any:
            with tf.GradientTape() as tape:
                loss = tf.reduce_sum(run(segmented, model, x, training=True) ** 2)
            return tape.gradient(loss, [v.value for v in model.trainable_variables])

        graph = gradients.get_concrete_function(tf.TensorSpec((5, *SHAPE))).graph
        outputs = {
            id(t): t
            for op in graph.get_operations()
            if "PartitionedCall" in op.type
            for t in op.outputs
        }
        return sum(
            t.shape.num_elements()
            for t in outputs.values()
            if t.shape.rank == 4 and t.shape[0] == 5
        )

    assert elements(recompute=True) < 0.4 * elements(recompute=False)


def test_masks_that_run_through_layers_are_refused() -> None:
    words = keras.Input((4,), dtype="int32")
    embedded = keras.layers.Embedding(5, 3, mask_zero=True, name="words")(words)
    masked = keras.Model(words, keras.layers.LSTM(2)(embedded))
    with pytest.raises(RequestError, match="does not support masks, but 'words' makes one"):
        run(SegmentedModel(masked, recompute=False), masked, np.ones((2, 4)), training=False)


@pytest.mark.main_path
@pytest.mark.parametrize("recompute", [False, True], ids=["kept", "recomputed"])
def test_losses_see_the_logits_behind_a_saturated_softmax(recompute: bool) -> None:
    # From probabilities alone a cross-entropy is at most -log(1e-7) = 16.1, and what is further off
    # gets no gradient.
    x, y = images(16).numpy(), np.arange(16) % 3
    data = from_arrays({"x_train": x, "y_train": y, "x_val": x, "y_val": y})
    batches = tf.data.Dataset.from_tensor_slices((x, y)).batch(16)
    results = []
    for compiled in (True, False):
        keras.utils.set_random_seed(7)
        model, optimizer = reskeras.build(small()), keras.optimizers.SGD(0.01)
        head = model.get_layer("head")
        head.kernel.assign(1000 * head.kernel)
        if compiled:
            trainer = CompiledTrainer(
                model, Targets(model, data), optimizer, recompute=recompute, programs=Programs()
            )
            loss = trainer.epoch(batches, np.array([0.01]))["loss"]
        else:
            model.compile(optimizer, "sparse_categorical_crossentropy")
            loss = model.fit(batches, shuffle=False, verbose=0).history["loss"][0]
        results.append([loss, model.get_layer("stem_conv").get_weights()[0]])
    assert results[0][0] > 50
    for found, wanted in zip(*results, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-3)
