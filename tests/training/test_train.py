"""Training, and batch-norm statistics that are the population's."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

import reskeras
from reskeras.data import DataOptions, from_arrays, load
from reskeras.data.augment import augmented, augmenter_of
from reskeras.models.recalibration import recalibrate
from reskeras.spec import (
    AUGMENTATIONS,
    NO_AUGMENTATION,
    Augmentation,
    CifarStem,
    Classifier,
    Hourglass,
    Level,
    Regressor,
    ResNet,
    Segmenter,
    Stage,
    TrainSpec,
    UNet,
)
from reskeras.tasks import task_called
from reskeras.training.feed import Feed
from reskeras.training.targets import Targets
from reskeras.training.train import evaluate, train

SEGMENTATION = task_called("segmentation")
IMAGES = Regressor(channels=1, add_input=False)


def norm_inputs(model: keras.Model) -> tuple[list[keras.layers.Layer], keras.Model]:
    norms = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    return norms, keras.Model(model.input, [layer.input for layer in norms])


def small(momentum: float = 0.9) -> ResNet:
    return ResNet(
        input_shape=(8, 8, 1),
        stem=CifarStem(width=8),
        block={"kind": "basic"},
        norm_order="full_preact",
        norm={"kind": "batch", "momentum": momentum},
        stages=(Stage(blocks=1, width=8), Stage(blocks=1, width=16, stride=2)),
        head=Classifier(classes=3),
    )


def test_recalibrated_statistics_are_those_of_the_inputs_in_inference() -> None:
    model = reskeras.build(small())
    x = np.random.default_rng(0).normal(1.0, 2.0, (300, 8, 8, 1)).astype("float32")
    assert recalibrate(model, x) == 300
    norms, inputs = norm_inputs(model)
    for layer, given in zip(norms, inputs.predict(x, verbose=0), strict=True):
        np.testing.assert_allclose(
            layer.moving_mean, given.mean((0, 1, 2), dtype="float64"), rtol=1e-3, atol=1e-4
        )
        np.testing.assert_allclose(
            layer.moving_variance, given.var((0, 1, 2), dtype="float64"), rtol=1e-3
        )
        assert layer.momentum == 0.9


def test_recalibration_in_several_batches_pools_their_moments(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The first norm sees the stem's convolution, which has no statistics before it: pooling must be
    # exact there.
    monkeypatch.setattr("reskeras.models.recalibration.PASS_BYTES", 0)  # batches of 32
    model = reskeras.build(small())
    x = np.random.default_rng(0).normal(1.0, 2.0, (75, 8, 8, 1)).astype("float32")
    assert recalibrate(model, x, max_images=70) == 70
    norms, inputs = norm_inputs(model)
    given = inputs.predict(x[:70], verbose=0)[0].astype("float64")
    np.testing.assert_allclose(norms[0].moving_mean, given.mean((0, 1, 2)), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(norms[0].moving_variance, given.var((0, 1, 2)), rtol=1e-4)


def test_a_model_without_batch_norm_is_left_alone() -> None:
    model = reskeras.build(dataclasses.replace(small(), norm={"kind": "none"}))
    assert recalibrate(model, np.zeros((4, 8, 8, 1), "float32")) == 0


def test_a_short_training_is_scored_on_the_network_not_on_lagging_averages() -> None:
    """Keras' default momentum of 0.99 after two epochs: by the moving averages most digits are
    taken for others."""
    data = load("digits", (8, 8, 1))
    spec = dataclasses.replace(
        reskeras.preset("digits_basic"),
        norm={"kind": "batch", "momentum": 0.99},
        stages=(Stage(blocks=1, width=32), Stage(blocks=1, width=64, stride=2)),
    )
    how = TrainSpec(epochs=2, learning_rate=3e-3, batch_size=32, schedule="constant")
    model = reskeras.build(spec)
    ours = train(model, data, how)[-1].metrics["val_accuracy"]

    plain = reskeras.build(spec)
    plain.compile(
        keras.optimizers.Adam(how.learning_rate),
        "sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    images, labels = next(data.split("train").batch(2000).as_numpy_iterator())
    plain.fit(images, labels, epochs=how.epochs, batch_size=how.batch_size, verbose=0)
    x, y = next(data.split("val").batch(2000).as_numpy_iterator())
    lagging = plain.evaluate(x, y, verbose=0, return_dict=True)["accuracy"]
    recalibrate(plain, images)
    recalibrated = plain.evaluate(x, y, verbose=0, return_dict=True)["accuracy"]

    assert ours > 0.93
    assert recalibrated > 0.93
    assert lagging < recalibrated - 0.1
    # What was scored is what is saved.
    model.save("net.keras")
    assert evaluate(keras.saving.load_model("net.keras"), data, "val")["accuracy"] == pytest.approx(
        ours
    )


def test_a_seed_repeats_a_training_to_the_last_bit(blobs: dict[str, np.ndarray]) -> None:
    data = from_arrays(blobs)
    losses = []
    for seed in (3, 3, 4):
        keras.utils.set_random_seed(seed)
        model = reskeras.build(small())
        spec = TrainSpec(epochs=2, seed=seed, augment="shift", batch_size=16)
        losses.append([epoch.metrics["loss"] for epoch in train(model, data, spec)])
    assert losses[0] == losses[1]
    assert losses[0] != losses[2]


def test_cosine_decay_ends_at_zero_and_weight_decay_spares_norms(
    blobs: dict[str, np.ndarray],
) -> None:
    data = from_arrays(blobs)
    model = reskeras.build(small())
    train(
        model,
        data,
        TrainSpec(
            epochs=1,
            batch_size=96,
            optimizer="sgd",
            learning_rate=1e-9,
            weight_decay=0.5,
            schedule="constant",
        ),
    )
    gamma = model.get_layer("final_norm").gamma
    np.testing.assert_allclose(gamma, 1, atol=1e-6)
    model = reskeras.build(small())
    train(model, data, TrainSpec(epochs=2, batch_size=32, learning_rate=0.01))
    schedule = model.optimizer._learning_rate
    assert float(schedule(6)) == pytest.approx(0, abs=1e-9)  # 2 epochs of 3 steps
    assert float(schedule(3)) == pytest.approx(0.005)


def test_training_ends_when_the_loss_is_not_finite(blobs: dict[str, np.ndarray]) -> None:
    arrays = {key: value * 1e30 if key.startswith("x") else value for key, value in blobs.items()}
    model = reskeras.build(dataclasses.replace(small(), norm={"kind": "none"}))
    with pytest.raises(FloatingPointError, match=r"loss is (nan|inf) (in|after) epoch \d"):
        train(model, from_arrays(arrays), TrainSpec(epochs=3, learning_rate=50))


def test_masks_are_trained_and_scored_by_their_mean_iou() -> None:
    random = np.random.default_rng(0)
    arrays = {}
    for split, n in (("train", 24), ("val", 8)):
        x = random.normal(0, 0.1, (n, 16, 16, 1)).astype("float32")
        y = np.zeros((n, 16, 16), "int32")
        y[:, :, 8:] = 1
        arrays |= {f"x_{split}": x + y[..., None], f"y_{split}": y}
    data = from_arrays(arrays)
    assert data.task == SEGMENTATION
    spec = data.task.fit(reskeras.preset("unet_small"), data.facts)
    last = train(reskeras.build(spec), data, TrainSpec(epochs=4, batch_size=8, learning_rate=1e-2))[
        -1
    ].metrics
    assert last["val_mean_iou"] > 0.9
    assert last["val_accuracy"] > 0.9


def test_shifted_images_keep_their_pixels_and_masks_move_along() -> None:
    y = np.arange(256).reshape(1, 16, 16).repeat(20, 0) // 2
    x = y[..., None].astype("uint8")
    data = from_arrays({"x_train": x, "y_train": y, "x_val": x, "y_val": y})
    moved = set()
    augmenter = augmenter_of(AUGMENTATIONS["shift_flip"], data)
    for image, mask in augmented(data.split("train"), augmenter, seed=1).as_numpy_iterator():
        np.testing.assert_array_equal(np.rint(255 * image[..., 0]), mask)
        # Shifts are of at most an eighth: two pixels.
        assert len(set(image.ravel())) >= 14 * 14 / 2
        moved.add(int(mask[8, 8]))
    assert len(moved) > 5
    assert augmented(data, augmenter_of(NO_AUGMENTATION, data), seed=1) is data


def test_masks_are_cropped_for_valid_padding_and_thinned_for_coarser_heads() -> None:
    x = np.random.default_rng(0).normal(size=(4, 32, 32, 1)).astype("float32")
    masks = (np.arange(4 * 32 * 32).reshape(4, 32, 32) % 7 % 2).astype("int64")
    data = from_arrays({"x_train": x, "y_train": masks, "x_val": x, "y_val": masks})
    valid = UNet(
        input_shape=(32, 32, 1),
        padding="valid",
        stages=[Level(width=4)] * 2,
        head=Segmenter(classes=2),
    )
    ((_, found),) = (
        Targets(reskeras.build(valid), data)
        .prepared(data.split("train").take(1))
        .as_numpy_iterator()
    )
    np.testing.assert_array_equal(found, masks[0, 8:24, 8:24])  # 32 -> 28 -> 14 -> 10 -> 20 -> 16
    deep = UNet(
        input_shape=(32, 32, 1),
        deep_supervision=True,
        stages=[Level(width=4)] * 4,
        head=Segmenter(classes=2),
    )
    ((_, found),) = (
        Targets(reskeras.build(deep), data)
        .prepared(data.split("train").take(1))
        .as_numpy_iterator()
    )
    np.testing.assert_array_equal(found["head"], masks[0])
    np.testing.assert_array_equal(found["head2"], masks[0, 1::2, 1::2])
    np.testing.assert_array_equal(found["head3"], masks[0, 2::4, 2::4])
    coarse = Hourglass(
        input_shape=(32, 32, 1), stacks=2, depth=1, width=4, head=Segmenter(classes=2)
    )
    targets = Targets(reskeras.build(coarse), data)
    assert targets.crop is None
    ((_, found),) = targets.prepared(data.split("train").take(1)).as_numpy_iterator()
    for head in ("head", "stack1_head"):  # at a quarter of the resolution, of all of the image
        np.testing.assert_array_equal(found[head], masks[0, 2::4, 2::4])


@pytest.mark.parametrize(
    ("head", "options"),
    [
        (Segmenter(classes=2), {"deep_supervision": True}),
        (Segmenter(classes=2), {"deep_supervision": True, "decoder": "nested"}),
        (Segmenter(classes=2, activation="sigmoid"), {"layer_prefix": "a_"}),
        (Segmenter(classes=1, activation="sigmoid"), {}),
        (Segmenter(classes=1, activation="none"), {}),
        (Segmenter(classes=2, activation="none"), {}),
    ],
)
def test_every_head_learns_masks(head: Segmenter, options: dict[str, object]) -> None:
    x = np.random.default_rng(0).normal(size=(24, 8, 8, 1)).astype("float32")
    y = (x[..., 0] > 0).astype("int64")
    data = from_arrays({"x_train": x, "y_train": y, "x_val": x, "y_val": y})
    spec = UNet(
        input_shape=(8, 8, 1),
        block={"kind": "basic"},
        stages=[Level(width=8)] * 3,
        head=head,
        **options,
    )
    epochs = train(
        reskeras.build(spec), data, TrainSpec(epochs=6, batch_size=4, learning_rate=1e-2)
    )
    names = [f"val_{metric.name}" for metric in SEGMENTATION.metrics]
    assert sorted(epochs[-1].metrics) == sorted(["accuracy", "loss", *names])
    assert epochs[-1].metrics["val_accuracy"] > 0.85
    assert epochs[-1].metrics["val_mean_iou"] > 0.7


def test_a_flat_network_and_one_with_sigmoids_learn_labels(blobs: dict[str, np.ndarray]) -> None:
    data = from_arrays(blobs)
    flat = data.task.fit(reskeras.preset("mlp_res"), data.facts)
    for spec in (
        flat,
        dataclasses.replace(small(), head=Classifier(classes=3, activation="sigmoid")),
    ):
        model = reskeras.build(spec)
        epochs = train(model, data, TrainSpec(epochs=4, batch_size=16))
        assert epochs[-1].metrics["val_accuracy"] > 0.9
        assert evaluate(model, data, "test")["accuracy"] > 0.9


def test_recomputed_activations_train_to_the_same_weights(blobs: dict[str, np.ndarray]) -> None:
    weights = []
    for recompute in (False, True):
        keras.utils.set_random_seed(0)
        model = reskeras.build(small())
        train(
            model,
            from_arrays(blobs),
            TrainSpec(
                epochs=2, batch_size=32, optimizer="sgd", learning_rate=0.01, recompute=recompute
            ),
        )
        weights.append(model.get_weights())
    for one, other in zip(*weights, strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-3, atol=1e-4)


def test_no_images_leave_the_statistics_as_they_are() -> None:
    model = reskeras.build(small())
    before = model.get_weights()
    with pytest.raises(reskeras.RequestError, match="no images"):
        reskeras.recalibrate(model, np.zeros((0, 8, 8, 1), "float32"))
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize("mix", [{"mixup": 0.4}, {"cutmix": 1.0}, {"mixup": 0.4, "cutmix": 1.0}])
def test_mixed_batches_train_on_shares_of_classes(
    mix: dict[str, float], blobs: dict[str, np.ndarray]
) -> None:
    """Equal in both epochs of two trainings; the loss is that of SciPy for the mixed targets."""
    data, spec = from_arrays(blobs), TrainSpec(batch_size=32, augment=Augmentation(**mix))
    model = reskeras.build(small())
    feed, again = Feed(Targets(model, data, spec)), Feed(Targets(model, data, spec))
    changed = 0
    for (images, targets), (same, _) in zip(
        feed.training(spec, 1), again.training(spec, 1), strict=True
    ):
        np.testing.assert_array_equal(images, same)
        np.testing.assert_allclose(targets.numpy().sum(-1), 1, rtol=1e-5)
        changed += int((targets.numpy().max(-1) < 0.999).sum())
        shares = model.predict(images, verbose=0)
        wanted = -(targets.numpy() * np.log(shares)).sum(-1).mean()
        loss = Targets(model, data, spec).losses()["head"](targets, tf.constant(shares))
        assert float(loss) == pytest.approx(wanted, rel=1e-4)
    assert changed > 20
    epochs = train(model, data, dataclasses.replace(spec, epochs=3, learning_rate=5e-3))
    assert epochs[-1].metrics["val_accuracy"] > 0.6


@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize("masks", [True, False])
def test_mixup_and_cutmix_together_train_on_targets_with_sides(masks: bool, deep: bool) -> None:
    """Targets that are their images stay so when both are mixed."""
    random = np.random.default_rng(0)
    x = np.where(random.random((24, 8, 8, 1)) < 0.5, 255, 0).astype("uint8")
    y, head = (x[..., 0] // 255, Segmenter(classes=2)) if masks else (x, IMAGES)
    task = "segmentation" if masks else "restoration"
    arrays = {"x_train": x, "y_train": y, "x_val": x, "y_val": y}
    data = from_arrays(arrays, options=DataOptions(task=task))
    net = UNet(input_shape=(8, 8, 1), stages=[Level(width=4)] * 3, head=head, deep_supervision=deep)
    model = reskeras.build(net)
    spec = TrainSpec(epochs=2, batch_size=4, augment=Augmentation(mixup=1.0, cutmix=1.0))
    mixed = 0
    for images, targets in Feed(Targets(model, data, spec)).training(spec, 1):
        found = targets["head"] if deep else targets
        np.testing.assert_allclose(found[..., -1:], images, atol=1e-6)
        mixed += int(((images.numpy() > 0) & (images.numpy() < 1)).any())
    assert 0 < mixed < 6  # mixup leaves values between, cutmix none
    assert all(np.isfinite(epoch.metrics["loss"]) for epoch in train(model, data, spec))
