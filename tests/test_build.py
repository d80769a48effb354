"""Networks against the literature: parameter counts, the order of layers, functions that must be equal."""

import dataclasses
import itertools
from typing import get_args

import keras
import numpy as np
import pytest

import reskeras
from reskeras.spec import (
    BasicBlock,
    BatchNorm,
    BottleneckBlock,
    CifarStem,
    Classifier,
    DenseBlock,
    DenseNet,
    DenseStage,
    Level,
    NoNorm,
    NormOrder,
    PlainBlock,
    ResNet,
    Segmenter,
    ShortcutWord,
    Stage,
    UNet,
)

# Published, or counted by independent implementations (keras.applications, torchvision, the authors' code).
TRAINABLE = {
    "resnet18": 11_689_512,
    "resnet34": 21_797_672,
    "resnet50": 25_557_032,
    "resnext50_32x4d": 25_028_904,
    "resnet20": 269_722,
    "resnet32": 464_154,
    "resnet56": 853_018,
    "plain20": 269_722,
    "resnet110": 1_727_962,
    "preact110": 1_727_962,
    "preact164": 1_703_258,
    "wrn_16_8": 10_961_370,
    "wrn_28_10": 36_479_194,
    "resnext29_8x64d": 34_426_698,
    "densenet121": 7_978_856,
    "densenet_40_12": 1_019_722,
    "densenet_bc_100_12": 769_162,
    "unet": 31_030_658,
}
TOTAL = {"resnet18": 11_699_112, "resnet50": 25_610_152, "densenet121": 8_062_504}
BLOCKS = [PlainBlock(), BasicBlock(), BottleneckBlock(), DenseBlock(growth_rate=4)]


def small(**changes: object) -> ResNet:
    spec = ResNet(
        input_shape=(8, 8, 1),
        stem=CifarStem(width=8),
        block=BasicBlock(),
        stages=(Stage(blocks=2, width=8), Stage(blocks=1, width=16, stride=2)),
        head=Classifier(classes=3),
    )
    return dataclasses.replace(spec, **changes)


def randomise(model: keras.Model, seed: int = 0) -> None:
    """Random weights and statistics, so that a norm in the wrong place shows."""
    random = np.random.default_rng(seed)
    for weight in model.weights:
        low, high = (0.5, 1.5) if "gamma" in weight.path or "variance" in weight.path else (-0.5, 0.5)
        weight.assign(random.uniform(low, high, weight.shape))


def images(n: int = 4) -> np.ndarray:
    return np.random.default_rng(3).normal(size=(n, 8, 8, 1)).astype("float32")


def trainable(model: keras.Model) -> int:
    return sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)


@pytest.mark.parametrize("name", TRAINABLE)
def test_presets_have_the_published_number_of_parameters(name: str) -> None:
    model = reskeras.build(name)
    assert trainable(model) == TRAINABLE[name]
    assert model.count_params() == TOTAL.get(name, model.count_params())


def test_option_b_costs_two_projections_more_at_any_depth() -> None:
    for depth in (20, 32):
        spec = reskeras.preset(f"resnet{depth}")
        more = trainable(reskeras.build(dataclasses.replace(spec, shortcut="project_on_change"))) - trainable(reskeras.build(spec))
        assert more == 2_752  # 16*32 + 2*32 + 32*64 + 2*64


@pytest.mark.parametrize(
    ("block", "order", "shortcut"),
    [
        *itertools.product(BLOCKS, get_args(NormOrder), ["project_on_change"]),
        *itertools.product([BLOCKS[1]], get_args(NormOrder), get_args(ShortcutWord)),
    ],
    ids=str,
)
def test_every_combination_builds_in_its_shape(block: object, order: NormOrder, shortcut: ShortcutWord) -> None:
    model = reskeras.build(small(block=block, norm_order=order, shortcut=shortcut))
    assert isinstance(model, keras.Model)
    assert model.output_shape == (None, 3)
    assert model.get_layer("stage1_block1_conv1" if not isinstance(block, DenseBlock) else "stage1_transition_conv1")
    # `width` is the width of what a stage gives, whatever its blocks: the interface that makes block kind searchable.
    assert model.get_layer("head_pool").input.shape == (None, 4, 4, 16)


# He et al. 2016 (arXiv 1603.05027), Fig. 4: the layers of one unit, read from the top; `add` is where the shortcut joins.
FIG_4 = {
    "original": ["conv1", "norm1", "relu1", "conv2", "norm2", "add", "out_relu"],
    "norm_after_add": ["conv1", "norm1", "relu1", "conv2", "add", "out_norm", "out_relu"],
    "relu_before_add": ["conv1", "norm1", "relu1", "conv2", "norm2", "relu2", "add"],
    "relu_only_preact": ["relu1", "conv1", "norm1", "relu2", "conv2", "norm2", "add"],
    "full_preact": ["norm1", "relu1", "conv1", "norm2", "relu2", "conv2", "add"],
}


@pytest.mark.parametrize("order", get_args(NormOrder))
def test_a_unit_has_the_layers_of_figure_4(order: NormOrder) -> None:
    model = reskeras.build(small(norm_order=order))
    prefix = "stage1_block2_"
    found, tensor = [], model.get_layer(f"{prefix}{FIG_4[order][-1]}").output
    while True:  # walk up the branch, the second input of the addition
        layer = tensor._keras_history.operation
        if not layer.name.startswith(prefix):
            break
        found.append(layer.name.removeprefix(prefix))
        tensor = layer.input[1] if isinstance(layer.input, list) else layer.input
    assert found[::-1] == FIG_4[order]


def test_a_plain_net_computes_the_same_wherever_its_norms_are_counted() -> None:
    # Without additions, "BN and ReLU before a convolution" and "after the one before it" are the same places.
    after, before = (reskeras.build(small(block=PlainBlock(), norm_order=order)) for order in ("original", "full_preact"))
    assert trainable(after) == trainable(before)
    kind = {"conv": [], "norm": [], "head": []}
    for model in (after, before):
        randomise(model)
        for key, layers in kind.items():
            layers.append([layer for layer in model.layers if key in layer.name and layer.weights])
    for mine, theirs in kind.values():
        for one, other in zip(mine, theirs, strict=True):
            other.set_weights(one.get_weights())
    np.testing.assert_allclose(after.predict(images(), verbose=0), before.predict(images(), verbose=0), rtol=1e-5)


def test_the_plain_twin_is_the_residual_net_without_its_shortcuts() -> None:
    twin, cut = reskeras.build(small(block=PlainBlock())), reskeras.build(small(block=BasicBlock(), shortcut="none"))
    randomise(twin)
    cut.set_weights(twin.get_weights())
    np.testing.assert_array_equal(twin.predict(images(), verbose=0), cut.predict(images(), verbose=0))


def test_option_a_subsamples_and_appends_zero_channels() -> None:
    spec = small(shortcut="pad", stages=(Stage(blocks=1, width=12, stride=2),), stem=CifarStem(width=8))
    model = reskeras.build(spec)
    addition = model.get_layer("stage1_block1_add")
    stem = model.get_layer("stem_relu").output
    seen = keras.Model(model.input, [stem, addition.input[0]])
    before, after = seen.predict(images(), verbose=0)
    np.testing.assert_array_equal(after[..., :8], before[:, ::2, ::2])
    assert not after[..., 8:].any()


@pytest.mark.parametrize("order", ["relu_only_preact", "full_preact"])
def test_pre_activation_blocks_with_a_zero_last_convolution_are_the_identity(order: NormOrder) -> None:
    model = reskeras.build(small(norm_order=order))
    randomise(model)
    last = model.get_layer("stage1_block2_conv2")
    last.set_weights([np.zeros(last.kernel.shape)])
    if order == "relu_only_preact":  # here a norm is last on the branch
        norm = model.get_layer("stage1_block2_norm2")
        norm.beta.assign(0 * norm.beta)
        norm.moving_mean.assign(0 * norm.moving_mean)
    ends = keras.Model(model.input, [model.get_layer(f"stage1_block{n}_add").output for n in (1, 2)])
    for training in (False, True):
        before, after = ends(images(), training=training)
        np.testing.assert_array_equal(before, after)


def test_dense_layers_add_their_growth_rate_and_transitions_compress() -> None:
    spec = DenseNet(
        input_shape=(16, 16, 3),
        stem=CifarStem(width=10),
        block=DenseBlock(growth_rate=5, compression=0.5),
        stages=(DenseStage(blocks=3), DenseStage(blocks=2)),
        head=Classifier(classes=4),
    )
    model = reskeras.build(spec)
    assert model.get_layer("stage1_block3_concat").output.shape == (None, 16, 16, 10 + 3 * 5)
    assert model.get_layer("stage1_transition_pool").output.shape == (None, 8, 8, 12)  # floor(25 / 2)
    assert model.get_layer("final_relu").output.shape == (None, 8, 8, 12 + 2 * 5)
    # The new maps stand behind the old ones.
    assert model.get_layer("stage1_block1_concat").input[0] is model.get_layer("stem").output


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.kind)
@pytest.mark.parametrize("order", ["original", "full_preact"])
def test_unets_of_every_block_give_masks_of_the_image_size(block: object, order: NormOrder) -> None:
    spec = UNet(
        input_shape=(16, 24, 2),
        block=block,
        norm_order=order,
        stages=(Level(width=4), Level(width=8), Level(width=16, blocks=2)),
        head=Segmenter(classes=3),
    )
    model = reskeras.build(spec)
    assert model.output_shape == (None, 16, 24, 3)
    np.testing.assert_allclose(model.predict(np.zeros((1, 16, 24, 2)), verbose=0).sum(-1), 1, rtol=1e-5)


def test_the_unet_of_the_paper_crops_its_skips_to_388_pixels() -> None:
    assert reskeras.build("unet").output_shape == (None, 388, 388, 2)


def test_convolutions_have_a_bias_only_without_normalisation() -> None:
    for norm, bias in ((BatchNorm(), False), (NoNorm(), True)):
        convs = [layer for layer in reskeras.build(small(norm=norm)).layers if isinstance(layer, keras.layers.Conv2D)]
        assert convs
        assert {layer.use_bias for layer in convs} == {bias}


def test_a_built_model_is_a_functional_keras_model_that_trains_saves_and_reloads(tmp_path: object) -> None:
    model = reskeras.build(dataclasses.replace(reskeras.preset("resnet20"), input_shape=(8, 8, 3)))
    assert type(model).__name__ == "Functional"
    assert all(type(layer).__module__.startswith("keras.") for layer in model.layers)
    model.compile(optimizer="adam", loss="sparse_categorical_crossentropy")
    x = np.random.default_rng(0).normal(size=(8, 8, 8, 3)).astype("float32")
    model.fit(x, np.arange(8), epochs=1, verbose=0)
    model.save("net.keras")
    again = keras.saving.load_model("net.keras")
    np.testing.assert_array_equal(model.predict(x, verbose=0), again.predict(x, verbose=0))


def test_the_head_stays_in_float32_under_mixed_precision() -> None:
    keras.mixed_precision.set_dtype_policy("mixed_float16")
    try:
        model = reskeras.build(small())
        assert model.get_layer("stage1_block1_conv1").compute_dtype == "float16"
        assert model.output.dtype == "float32"
    finally:
        keras.mixed_precision.set_dtype_policy("float32")


def test_build_refuses_what_is_no_spec() -> None:
    with pytest.raises(TypeError, match="a spec or a preset's name is needed, not a dict"):
        reskeras.build({"family": "resnet"})
