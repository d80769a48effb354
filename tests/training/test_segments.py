"""A training twin must be indistinguishable from Keras' own `fit`, but for float rounding."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

import reskeras
from reskeras.errors import RequestError
from reskeras.spec import (
    BasicBlock,
    BottleneckBlock,
    CifarStem,
    Classifier,
    DenseBlock,
    DenseNet,
    DenseStage,
    Level,
    ResNet,
    Segmenter,
    Stage,
    UNet,
)
from reskeras.training.segments import training_twin

SHAPE = (8, 8, 2)
_STAGES = (Stage(blocks=3, width=8), Stage(blocks=2, width=16, stride=2))
_COMMON = {"input_shape": SHAPE, "stem": CifarStem(width=8), "head": Classifier(classes=3)}
SPECS = {
    "residual": ResNet(**_COMMON, block=BasicBlock(), shortcut="pad", stages=_STAGES),
    "preact": ResNet(**_COMMON, block=BottleneckBlock(), norm_order="full_preact", stages=_STAGES),
    "dense": DenseNet(
        **_COMMON,
        block=DenseBlock(growth_rate=4, compression=0.5),
        stages=(DenseStage(blocks=3), DenseStage(blocks=2)),
    ),
    "unet": UNet(
        input_shape=SHAPE,
        block=BasicBlock(),
        stages=(Level(width=4), Level(width=8)),
        head=Segmenter(classes=3),
    ),
}
ODD = "odd"


def odd_net() -> keras.Model:
    """What the builders do not make: two outputs, dropout, losses, a layer used twice, a plain op, and bare batch norms."""
    layers = keras.layers
    image = keras.Input(SHAPE, name="image")
    shared = layers.Conv2D(2, 3, padding="same", kernel_regularizer="l2", name="shared")
    x = layers.Add()([image, shared(image)])
    x = layers.Dropout(0.5, seed=3)(x)
    x = layers.Add()([x, layers.BatchNormalization(scale=False, center=False)(shared(x))])
    x = layers.Dropout(0.5, seed=4)(x)
    aux = layers.Dense(3, activation="softmax", activity_regularizer="l2", name="aux")(
        layers.Flatten()(x)
    )
    x = layers.Add()([x * 0.5, layers.BatchNormalization(axis=1)(x)])
    main = layers.Dense(3, activation="softmax", name="main")(layers.GlobalAveragePooling2D()(x))
    return keras.Model(image, {"main": main, "aux": aux})


def build(name: str) -> keras.Model:
    keras.utils.set_random_seed(7)
    return odd_net() if name == ODD else reskeras.build(SPECS[name])


def data(name: str) -> tuple[np.ndarray, object]:
    images = (
        20 if name == ODD else 16
    )  # with 20 the last batch is smaller, and all is traced once more
    rng = np.random.default_rng(5)
    x = rng.normal(size=(images, *SHAPE)).astype("float32")
    labels = rng.integers(0, 3, (images, 8, 8) if name == "unet" else images)
    return x, {"main": labels, "aux": labels[::-1].copy()} if name == ODD else labels


def trained(
    runner: keras.Model, model: keras.Model, name: str, optimizer: object | None = None
) -> dict[str, object]:
    """Weights, loss and metrics after two epochs of batches of eight."""
    metrics = {"main": ["accuracy"], "aux": ["accuracy"]} if name == ODD else ["accuracy"]
    optimizer = optimizer or keras.optimizers.SGD(0.03, momentum=0.9, nesterov=True)
    runner.compile(optimizer, "sparse_categorical_crossentropy", metrics=metrics)
    x, y = data(name)
    history = runner.fit(x, y, batch_size=8, epochs=2, shuffle=False, verbose=0).history
    return {"weights": model.get_weights(), "history": history}


def scores(runner: keras.Model, name: str) -> dict[str, object]:
    """What evaluation and prediction say."""
    x, y = data(name)
    predicted = keras.tree.flatten(runner.predict(x, verbose=0))
    return {
        "evaluation": runner.evaluate(x, y, verbose=0, return_dict=True),
        "predicted": predicted,
    }


@functools.cache
def expected(name: str) -> dict[str, object]:
    """What Keras' own `fit` makes of the model."""
    model = build(name)
    return trained(model, model, name) | scores(model, name)


def assert_close(found: object, wanted: object, tolerance: float = 2e-5) -> None:
    assert keras.tree.map_structure(np.shape, found) == keras.tree.map_structure(np.shape, wanted)
    for one, other in zip(keras.tree.flatten(found), keras.tree.flatten(wanted), strict=True):
        np.testing.assert_allclose(one, other, rtol=10 * tolerance, atol=tolerance)


@pytest.mark.parametrize("recompute", [False, True], ids=["kept", "recomputed"])
@pytest.mark.parametrize("name", [*SPECS, ODD])
def test_fit_evaluate_and_predict_equal_keras(name, recompute):
    model = build(name)
    before = model.get_weights()
    twin = training_twin(model, recompute=recompute)
    assert_close(trained(twin, model, name) | scores(twin, name), expected(name))
    moved = [
        not np.array_equal(one, other)
        for one, other in zip(before, model.get_weights(), strict=True)
    ]
    assert all(moved)


@pytest.mark.parametrize("recompute", [False, True], ids=["kept", "recomputed"])
def test_frozen_layers_stay_and_their_batch_norm_uses_its_moving_statistics(recompute):
    results = []
    for runner in (lambda model: model, functools.partial(training_twin, recompute=recompute)):
        model = build("preact")
        for layer in model.layers:
            layer.trainable = "stage2" in layer.name or layer.name == "head"
            if "norm" in layer.name:
                layer.moving_mean.assign_add(np.full(layer.moving_mean.shape, 0.1))
        frozen = model.get_layer("stage1_block2_norm2").get_weights()
        results.append(trained(runner(model), model, "preact"))
        assert_close(model.get_layer("stage1_block2_norm2").get_weights(), frozen, tolerance=0)
    assert_close(*results)


def test_freezing_takes_effect_at_the_next_compile():
    model = build("preact")
    twin = training_twin(model)
    trained(twin, model, "preact")
    model.trainable = False
    model.get_layer("head").trainable = model.trainable = True
    for layer in model.layers:
        layer.trainable = layer.name == "head"
    before = model.get_weights()
    trained(twin, model, "preact")
    after = model.get_weights()
    changed = [
        v.path
        for v, one, other in zip(model.weights, before, after, strict=True)
        if not np.array_equal(one, other)
    ]
    assert changed == ["head/kernel", "head/bias"]


@pytest.mark.parametrize("inlined", [0, 40], ids=["called", "inlined"])
def test_equal_blocks_share_one_trace(monkeypatch, inlined):
    monkeypatch.setattr("reskeras.training.segments._INLINED", inlined)
    model = build("preact")
    twin = training_twin(model)
    assert_close(trained(twin, model, "preact")["weights"], expected("preact")["weights"])
    # Stem and first block, blocks 2 and 3, stage 2's first and second block, the rest.
    assert len(twin._plan.segments) == 6
    assert len(twin._plan.functions) == 5


def test_blocks_that_differ_in_anything_but_names_share_nothing():
    image = x = keras.Input(SHAPE)
    for settings in (
        {},
        {"dilation_rate": 2},
        {"activation": "tanh"},
        {"data_format": "channels_last", "groups": 1},
    ):
        x = keras.layers.Add()([x, keras.layers.Conv2D(2, 3, padding="same", **settings)(x)])
    x = keras.layers.Concatenate()([x, x[:, ::-1]])
    x = keras.layers.Concatenate()([x[:, :, ::-1], x])
    model = keras.Model(image, x)
    twin = training_twin(model)
    images, _ = data("dense")
    assert_close(twin.predict(images, verbose=0), model.predict(images, verbose=0))
    # The first and the last of the convolutions say the same.
    assert len(twin._plan.segments) - len(twin._plan.functions) == 1


def test_variables_are_the_models_and_saving_is_left_to_it(tmp_path):
    model = build("preact")
    twin = training_twin(model)
    assert [id(v) for v in twin.variables] == [id(v) for v in model.variables]
    with pytest.raises(NotImplementedError, match="save the model it was made from"):
        twin.save(tmp_path / "twin.keras")
    trained(twin, model, "preact")
    model.save(tmp_path / "model.keras")
    assert_close(
        keras.models.load_model(tmp_path / "model.keras").get_weights(),
        model.get_weights(),
        tolerance=0,
    )


def test_recomputation_hands_less_from_the_forward_to_the_backward_pass():
    def elements(recompute: bool) -> int:
        twin = training_twin(build("dense"), recompute=recompute)

        @tf.function
        def gradients(x):
            with tf.GradientTape() as tape:
                loss = tf.reduce_sum(twin(x, training=True) ** 2)
            return tape.gradient(loss, [v.value for v in twin.trainable_variables])

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


@pytest.mark.parametrize(
    "make",
    [
        functools.partial(keras.optimizers.SGD, 0.1),
        functools.partial(keras.optimizers.SGD, 0.1, momentum=0.8),
        functools.partial(
            keras.optimizers.SGD,
            keras.optimizers.schedules.CosineDecay(0.1, 4),
            momentum=0.8,
            nesterov=True,
        ),
        functools.partial(keras.optimizers.Adam, 0.01, weight_decay=0.1, clipnorm=0.5),
        functools.partial(keras.optimizers.AdamW, 0.01, gradient_accumulation_steps=2),
        functools.partial(keras.optimizers.Adam, 0.01, amsgrad=True),
        functools.partial(keras.optimizers.RMSprop, 0.01, use_ema=True),
    ],
    ids=["sgd", "momentum", "nesterov_cosine", "adam", "adamw_accumulated", "amsgrad", "rmsprop"],
)
def test_optimizers_equal_keras(make):
    results = []
    for runner in (lambda model: model, training_twin):
        keras.utils.set_random_seed(7)
        image = keras.Input(SHAPE)
        model = keras.Model(
            image, keras.layers.Dense(3, activation="softmax")(keras.layers.Flatten()(image))
        )
        optimizer = make()
        results.append(
            [
                trained(runner(model), model, "dense", optimizer),
                [v.numpy() for v in optimizer.variables],
            ]
        )
    assert_close(*results, tolerance=2e-6)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_equals_keras(policy):
    keras.config.set_dtype_policy(policy)
    try:
        models = [build("preact"), build("preact")]
    finally:
        keras.config.set_dtype_policy("float32")
    start, twin = models[0].get_weights(), training_twin(models[1])
    found, wanted = trained(twin, models[1], "preact"), trained(models[0], models[0], "preact")
    # The last bit of a half-precision activation may round either way, and training spreads that.
    error, path = (
        sum(
            float(np.sum((one - other) ** 2))
            for one, other in zip(wanted["weights"], others, strict=True)
        )
        ** 0.5
        for others in (found["weights"], start)
    )
    assert error < 0.05 * path
    assert type(twin.optimizer) is type(models[0].optimizer)
    assert models[1].get_layer("stage1_block1_conv1").kernel.dtype == "float32"


def test_refusals(monkeypatch):
    model = build("preact")
    with pytest.raises(TypeError, match="takes a Functional model, not a Model"):
        training_twin(keras.Model())
    with (
        tf.distribute.OneDeviceStrategy("/cpu:0").scope(),
        pytest.raises(RequestError, match="distribution strategy"),
    ):
        training_twin(model)
    words = keras.Input((4,), dtype="int32")
    masked = keras.Model(
        words,
        keras.layers.LSTM(2)(keras.layers.Embedding(5, 3, mask_zero=True, name="words")(words)),
    )
    with pytest.raises(RequestError, match="carries no masks, but 'words' makes one"):
        training_twin(masked).predict(np.ones((2, 4), "int32"), verbose=0)
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(RequestError, match="needs Keras on TensorFlow; its backend is 'jax'"):
        training_twin(model)


@pytest.mark.main_path
@pytest.mark.parametrize("recompute", [False, True], ids=["kept", "recomputed"])
def test_losses_see_the_logits_behind_a_saturated_softmax(recompute):
    # From probabilities alone a cross-entropy is at most -log(1e-7) = 16.1, and what is further off gets no gradient.
    results = []
    for runner in (lambda model: model, functools.partial(training_twin, recompute=recompute)):
        model = build("residual")
        head = model.get_layer("head")
        head.kernel.assign(1000 * head.kernel)
        twin = runner(model)
        twin.compile(keras.optimizers.SGD(0.01), "sparse_categorical_crossentropy")
        x, y = data("residual")
        results.append(
            [
                twin.train_on_batch(x, y),
                model.get_layer("stem_conv").get_weights()[0],
                twin.evaluate(x, y, verbose=0),
            ]
        )
    assert results[0][0] > 50
    for found, wanted in zip(*reversed(results), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-3)
