"""Networks against the literature: parameter counts, the order of layers, functions that must be
equal."""

import dataclasses
import itertools
from typing import Any, get_args

import keras
import numpy as np
import pytest
from nets import images, kinds, numpy, randomize, small

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
    LinearStem,
    NoNorm,
    Norm,
    NormOrder,
    PlainBlock,
    Segmenter,
    ShortcutWord,
    Stage,
    Stem,
    UNet,
)

BLOCKS = kinds("block")


def trainable(model: keras.Model) -> int:
    return sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)


@pytest.mark.parametrize(
    "name",
    ["resnet50", "densenet121", "unet", "attention_unet", "unet_resnet18", "hourglass2", "mlp_res"],
)
def test_presets_build_with_the_parameters_of_their_arithmetic(name: str) -> None:
    # That the arithmetic is the published number: tests/nets/test_cost.py.
    model, cost = reskeras.build(name), reskeras.cost(name)
    assert (trainable(model), model.count_params()) == (cost.trainable_params, cost.params)


def test_option_b_costs_two_projections_more_at_any_depth() -> None:
    for depth in (20, 32):
        spec = reskeras.preset(f"resnet{depth}")
        more = trainable(
            reskeras.build(dataclasses.replace(spec, shortcut="project_on_change"))
        ) - trainable(reskeras.build(spec))
        assert more == 2_752  # 16*32 + 2*32 + 32*64 + 2*64


@pytest.mark.parametrize(
    ("block", "order", "shortcut"),
    [
        *itertools.product(BLOCKS, get_args(NormOrder), ["project_on_change"]),
        *itertools.product([BasicBlock()], get_args(NormOrder), get_args(ShortcutWord)),
    ],
    ids=str,
)
def test_every_combination_builds_in_its_shape(
    block: object, order: NormOrder, shortcut: ShortcutWord
) -> None:
    model = reskeras.build(small(block=block, norm_order=order, shortcut=shortcut))
    assert isinstance(model, keras.Model)
    assert model.output_shape == (None, 3)
    assert model.get_layer(
        "stage1_block1_conv1" if not isinstance(block, DenseBlock) else "stage1_transition_conv1"
    )
    # `width` is the width of what a stage gives, whatever its blocks: the interface that makes
    # block kind searchable.
    assert model.get_layer("head_pool").input.shape == (None, 4, 4, 16)


@pytest.mark.parametrize("stem", kinds("stem"), ids=lambda stem: stem.kind)
@pytest.mark.parametrize("norm", kinds("norm"), ids=lambda norm: norm.kind)
def test_every_stem_builds_with_every_norm(stem: Stem, norm: Norm) -> None:
    shape = (16,) if isinstance(stem, LinearStem) else (16, 16, 1)
    model = reskeras.build(
        small(input_shape=shape, stem=stem, norm=norm, stages=(Stage(blocks=1, width=8),))
    )
    assert model.get_layer("stem").output.shape[-1] == 8
    assert any("norm" in layer.name for layer in model.layers) == (norm.kind != "none")


# He et al. 2016 (arXiv 1603.05027), Fig. 4: the layers of one unit, read from the top; `add` is
# where the shortcut joins.
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
    # Without additions, "BN and ReLU before a convolution" and "after the one before it" are the
    # same places.
    after, before = (
        reskeras.build(small(block=PlainBlock(), norm_order=order))
        for order in ("original", "full_preact")
    )
    assert trainable(after) == trainable(before)
    kind = {"conv": [], "norm": [], "head": []}
    for model in (after, before):
        randomize(model)
        for key, layers in kind.items():
            layers.append([layer for layer in model.layers if key in layer.name and layer.weights])
    for mine, theirs in kind.values():
        for one, other in zip(mine, theirs, strict=True):
            other.set_weights(one.get_weights())
    np.testing.assert_allclose(
        after.predict(images(), verbose=0), before.predict(images(), verbose=0), rtol=1e-5
    )


def test_the_plain_twin_is_the_residual_net_without_its_shortcuts() -> None:
    twin, cut = (
        reskeras.build(small(block=PlainBlock())),
        reskeras.build(small(block=BasicBlock(), shortcut="none")),
    )
    randomize(twin)
    cut.set_weights(twin.get_weights())
    np.testing.assert_array_equal(
        twin.predict(images(), verbose=0), cut.predict(images(), verbose=0)
    )


def test_option_a_subsamples_and_appends_zero_channels() -> None:
    spec = small(
        shortcut="pad", stages=(Stage(blocks=1, width=12, stride=2),), stem=CifarStem(width=8)
    )
    model = reskeras.build(spec)
    addition = model.get_layer("stage1_block1_add")
    stem = model.get_layer("stem_relu").output
    seen = keras.Model(model.input, [stem, addition.input[0]])
    before, after = seen.predict(images(), verbose=0)
    np.testing.assert_array_equal(after[..., :8], before[:, ::2, ::2])
    assert not after[..., 8:].any()


@pytest.mark.parametrize("order", ["relu_only_preact", "full_preact"])
def test_pre_activation_blocks_with_a_zero_last_convolution_are_the_identity(
    order: NormOrder,
) -> None:
    model = reskeras.build(small(norm_order=order))
    randomize(model)
    last = model.get_layer("stage1_block2_conv2")
    last.set_weights([np.zeros(last.kernel.shape)])
    if order == "relu_only_preact":  # here a norm is last on the branch
        norm = model.get_layer("stage1_block2_norm2")
        norm.beta.assign(0 * norm.beta)
        norm.moving_mean.assign(0 * norm.moving_mean)
    ends = keras.Model(
        model.input, [model.get_layer(f"stage1_block{n}_add").output for n in (1, 2)]
    )
    for training in (False, True):
        before, after = ends(images(), training=training)
        np.testing.assert_array_equal(before, after)


@pytest.mark.backend
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
    # 12 = floor(25 / 2)
    assert model.get_layer("stage1_transition_pool").output.shape == (
        None,
        8,
        8,
        12,
    )
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
    np.testing.assert_allclose(
        model.predict(np.zeros((1, 16, 24, 2)), verbose=0).sum(-1), 1, rtol=1e-5
    )


def test_the_unet_of_the_paper_crops_its_skips_to_388_pixels() -> None:
    assert reskeras.build("unet").output_shape == (None, 388, 388, 2)


def test_convolutions_have_a_bias_only_without_normalization() -> None:
    for norm, bias in ((BatchNorm(), False), (NoNorm(), True)):
        convs = [
            layer
            for layer in reskeras.build(small(norm=norm)).layers
            if isinstance(layer, keras.layers.Conv2D)
        ]
        assert convs
        assert {layer.use_bias for layer in convs} == {bias}


@pytest.mark.backend
def test_a_built_model_is_a_functional_keras_model_that_trains_saves_and_reloads(
    tmp_path: object,
) -> None:
    model = reskeras.build(dataclasses.replace(reskeras.preset("resnet20"), input_shape=(8, 8, 3)))
    assert type(model).__name__ == "Functional"
    assert all(type(layer).__module__.startswith("keras.") for layer in model.layers)
    model.compile(optimizer="adam", loss="sparse_categorical_crossentropy")
    x = np.random.default_rng(0).normal(size=(8, 8, 8, 3)).astype("float32")
    model.fit(x, np.arange(8), epochs=1, verbose=0)
    model.save("net.keras")
    again = keras.saving.load_model("net.keras")
    np.testing.assert_array_equal(model.predict(x, verbose=0), again.predict(x, verbose=0))


@pytest.mark.backend
def test_the_head_stays_in_float32_under_mixed_precision() -> None:
    keras.mixed_precision.set_dtype_policy("mixed_float16")
    try:
        model = reskeras.build(small())
        assert model.get_layer("stage1_block1_conv1").compute_dtype == "float16"
        assert model.output.dtype == "float32"
    finally:
        keras.mixed_precision.set_dtype_policy("float32")


def test_build_refuses_what_is_no_spec() -> None:
    with pytest.raises(TypeError, match="expected a spec or a preset's name, not a dict"):
        reskeras.build({"family": "resnet"})


def between(
    model: keras.Model, first: str, last: str, x: np.ndarray, **options: bool
) -> tuple[np.ndarray, np.ndarray]:
    """The outputs of two layers for the same images."""
    found = keras.Model(model.input, [model.get_layer(name).output for name in (first, last)])(
        x, **options
    )
    return numpy(found[0]), numpy(found[1])


@pytest.mark.backend
@pytest.mark.parametrize(
    "order", [order for order in get_args(NormOrder) if order != "relu_before_add"]
)
@pytest.mark.parametrize("block", [BasicBlock(), BottleneckBlock()], ids=lambda block: block.kind)
def test_zero_init_last_starts_every_block_as_its_shortcut(block: object, order: NormOrder) -> None:
    model = reskeras.build(small(block=block, norm_order=order, zero_init_last=True))
    add = "stage1_block2_add"
    branch, shortcut = model.get_layer(add).input[1], model.get_layer(add).input[0]
    seen = keras.Model(model.input, [branch, shortcut, model.get_layer(add).output])
    for training in (False, True):
        zero, before, after = (numpy(tensor) for tensor in seen(images(), training=training))
        assert not zero.any()
        np.testing.assert_array_equal(before, after)


@pytest.mark.parametrize(
    ("scale", "factor"),
    [(0.3, 0.3), ("1/sqrt(2)", 2**-0.5), ("1/sqrt(depth)", 3**-0.5), ("learned", 0.0)],
)
def test_the_residual_scale_multiplies_the_branch(scale: object, factor: float) -> None:
    model = reskeras.build(small(residual_scale=scale))
    norm, add = (model.get_layer(f"stage1_block1_{part}") for part in ("norm2", "add"))
    before, shortcut, branch = (
        numpy(tensor) for tensor in keras.Model(model.input, [norm.output, *add.input])(images())
    )
    np.testing.assert_allclose(branch, factor * before, rtol=1e-6)
    assert shortcut.any()
    assert {weight.shape for weight in model.get_layer("stage1_block1_scale").weights} == (
        {(1, 1)} if scale == "learned" else set()
    )


@pytest.mark.parametrize(("scale", "factor"), [(0.3, 0.3), ("1/sqrt(2)", 2**-0.5)])
@pytest.mark.parametrize("order", ["original", "full_preact"])
def test_the_sum_scale_multiplies_what_shortcut_and_branch_add_up_to(
    scale: Any, factor: float, order: NormOrder
) -> None:
    model = reskeras.build(small(sum_scale=scale, norm_order=order))
    plain = reskeras.build(small(norm_order=order))
    plain.set_weights(model.get_weights())
    add, scaled = (model.get_layer(f"stage1_block1_{part}") for part in ("add", "sum_scale"))
    before, after = keras.Model(model.input, [add.output, scaled.output])(images())
    unscaled = keras.Model(plain.input, plain.get_layer("stage1_block1_add").output)(images())
    np.testing.assert_allclose(numpy(before), numpy(unscaled), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(numpy(after), factor * numpy(before), rtol=1e-6)
    assert reskeras.cost(small(sum_scale=scale)).params == reskeras.cost(small()).params


@pytest.mark.backend
def test_gates_share_what_passes_between_shortcut_and_branch() -> None:
    # With g = 1/2 (zero weights) an exclusive gate halves both, a shortcut-only gate only the
    # shortcut.
    for kind, share in (("exclusive", 0.5), ("shortcut_only", 1.0)):
        model = reskeras.build(small(shortcut={"kind": "gated", "gate": kind, "bias": 0}))
        gate = model.get_layer("stage1_block2_shortcut_gate")
        gate.kernel.assign(0 * gate.kernel)
        inputs = keras.Model(
            model.input,
            [
                model.get_layer("stage1_block1_out_relu").output,
                model.get_layer("stage1_block2_norm2").output,
            ],
        )
        merged = keras.Model(model.input, model.get_layer("stage1_block2_add").output)
        x, branch = (numpy(tensor) for tensor in inputs(images()))
        np.testing.assert_allclose(
            numpy(merged(images())), 0.5 * x + share * branch, rtol=1e-5, atol=1e-6
        )
    start = reskeras.build(small(shortcut="gated")).get_layer("stage1_block1_shortcut_gate").bias
    np.testing.assert_array_equal(numpy(start), -6)


@pytest.mark.backend
def test_squeeze_and_excitation_by_hand() -> None:
    model = reskeras.build(small(squeeze_excite=4))
    randomize(model)
    block = "stage1_block1"
    x, y = between(model, f"{block}_norm2", f"{block}_se", images())
    squeeze, excite = (model.get_layer(f"{block}_se_{part}") for part in ("squeeze", "excite"))
    hidden = np.maximum(x.mean((1, 2)) @ numpy(squeeze.kernel)[0, 0] + numpy(squeeze.bias), 0)
    gate = 1 / (1 + np.exp(-(hidden @ numpy(excite.kernel)[0, 0] + numpy(excite.bias))))
    assert hidden.shape == (4, 2)
    np.testing.assert_allclose(y, x * gate[:, None, None], rtol=1e-4, atol=1e-6)


@pytest.mark.backend
def test_drop_path_drops_whole_branches_and_grows_linearly_with_depth() -> None:
    model = reskeras.build(small(drop_path_rate=0.6))
    layers = [layer for layer in model.layers if layer.name.endswith("_drop_path")]
    np.testing.assert_allclose([layer.rate for layer in layers], [0.2, 0.4, 0.6])
    before, after = between(
        model, "stage2_block1_norm2", "stage2_block1_drop_path", images(n=64), training=True
    )
    dropped = ~after.any(axis=(1, 2, 3))
    assert 0 < dropped.sum() < 64
    np.testing.assert_allclose(after[~dropped], before[~dropped] / 0.4, rtol=1e-5)


@pytest.mark.parametrize(
    ("block", "names"), [(BasicBlock(), ["dropout"]), (DenseBlock(), ["dropout1", "dropout2"])]
)
def test_dropout_stands_where_the_papers_have_it(block: object, names: list[str]) -> None:
    model = reskeras.build(small(block=block, dropout=0.5))
    found = [
        layer.name.removeprefix("stage1_block1_")
        for layer in model.layers
        if layer.name.startswith("stage1_block1_dropout")
    ]
    assert found == names
    if names == ["dropout"]:
        # Between the convolutions, after the activation (arXiv 1605.07146, Fig. 1d)
        assert (
            model.get_layer("stage1_block1_conv2").input
            is model.get_layer("stage1_block1_dropout").output
        )
        assert (
            model.get_layer("stage1_block1_dropout").input
            is model.get_layer("stage1_block1_relu1").output
        )


@pytest.mark.parametrize(
    ("stride_at", "block", "strided"),
    [
        ("1x1", BottleneckBlock(), "stage2_block1_conv1"),
        ("3x3", BottleneckBlock(), "stage2_block1_conv2"),
        ("last_block", BottleneckBlock(), "stage2_block2_conv2"),
        ("3x3", BasicBlock(), "stage2_block1_conv1"),
        ("last_block", BasicBlock(), "stage2_block2_conv1"),
    ],
)
def test_the_stride_stands_where_it_is_asked_for(
    stride_at: str, block: object, strided: str
) -> None:
    stages = (Stage(blocks=2, width=8), Stage(blocks=2, width=16, stride=2))
    model = reskeras.build(small(stride_at=stride_at, block=block, stages=stages))
    found = [
        layer.name
        for layer in model.layers
        if isinstance(layer, keras.layers.Conv2D) and layer.strides == (2, 2)
    ]
    assert [name for name in found if "shortcut" not in name] == [strided]
    assert model.get_layer("stage2").output.shape == (None, 4, 4, 16)


@pytest.mark.backend
def test_average_pooling_before_the_projection_sees_every_pixel() -> None:
    # ResNet-D (arXiv 1812.01187): a strided 1x1 convolution would ignore three quarters of its
    # input.
    model = reskeras.build(small(shortcut="avgpool_project"))
    before, after = between(model, "stage1", "stage2_block1_shortcut_pool", images())
    np.testing.assert_allclose(
        after, before.reshape(4, 4, 2, 4, 2, 8).mean((2, 4)), rtol=1e-5, atol=1e-6
    )
    assert model.get_layer("stage2_block1_shortcut_conv").strides == (1, 1)


@pytest.mark.parametrize(
    "norm", [{"kind": "layer"}, {"kind": "group", "groups": 32}, {"kind": "group", "groups": 4}]
)
def test_norms_without_batch_statistics_are_the_same_in_both_modes(norm: dict[str, object]) -> None:
    model = reskeras.build(small(norm=norm))
    np.testing.assert_array_equal(
        numpy(model(images(), training=True)), numpy(model(images(), training=False))
    )
    if norm["kind"] == "group":
        assert model.get_layer("stem_norm").groups == min(norm["groups"], 8)


@pytest.mark.parametrize(
    ("shape", "conv"),
    [
        ((12,), keras.layers.Dense),
        ((8, 2), keras.layers.Conv1D),
        ((4, 4, 4, 1), keras.layers.Conv3D),
    ],
)
def test_the_number_of_dimensions_follows_from_the_input(
    shape: tuple[int, ...], conv: type
) -> None:
    stages = (
        Stage(blocks=1, width=8),
        Stage(blocks=1, width=12, stride=1 if len(shape) == 1 else 2),
    )
    model = reskeras.build(small(input_shape=shape, stages=stages, shortcut="pad"))
    assert {type(layer) for layer in model.layers if "_conv" in layer.name and layer.weights} == {
        conv
    }
    assert model(images(*shape)).shape == (4, 3)


@pytest.mark.backend
def test_the_padding_of_strided_convolutions_is_the_same_on_both_edges() -> None:
    # Keras' own "same" pads at the far edge alone; mirrored weights on a mirrored image then give
    # another function.
    model = reskeras.build(small())
    randomize(model)
    mirrored = keras.models.clone_model(model)
    mirrored.set_weights(
        [weight[::-1, ::-1] if weight.ndim == 4 else weight for weight in model.get_weights()]
    )
    x = images(7, 7, 1)
    spec = small(input_shape=(7, 7, 1))
    one, two = reskeras.build(spec), reskeras.build(spec)
    one.set_weights(model.get_weights())
    two.set_weights(mirrored.get_weights())
    np.testing.assert_allclose(numpy(two(x[:, ::-1, ::-1])), numpy(one(x)), rtol=1e-4)


@pytest.mark.backend
@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.kind)
def test_channels_first_is_the_same_network(block: object) -> None:
    last, first = (
        reskeras.build(
            small(block=block, shortcut="pad", squeeze_excite=2, data_format=f"channels_{end}")
        )
        for end in ("last", "first")
    )
    assert first.input_shape == (None, 1, 8, 8)
    assert [layer.name for layer in first.layers] == [layer.name for layer in last.layers]
    for theirs, ours in zip(last.layers, first.layers, strict=True):
        assert [tuple(weight.shape) for weight in theirs.weights] == [
            tuple(weight.shape) for weight in ours.weights
        ]
        if len(theirs.output.shape) == 4 and "shortcut_pad" not in theirs.name:
            batch, height, width, channels = theirs.output.shape
            assert ours.output.shape == (batch, channels, height, width)
    if keras.backend.backend() == "tensorflow":
        return  # whose CPU has no such convolutions
    randomize(last)
    first.set_weights(last.get_weights())
    x = images()
    np.testing.assert_allclose(
        numpy(first(x.transpose(0, 3, 1, 2))), numpy(last(x)), rtol=1e-4, atol=1e-6
    )


@pytest.mark.backend
@pytest.mark.parametrize("size", [(21, 30), (16, 17), (33, 8)])
def test_a_padding_unet_takes_any_size(size: tuple[int, int]) -> None:
    spec = UNet(
        input_shape=(*size, 1),
        sizes="pad",
        stages=(Level(width=4), Level(width=4), Level(width=8)),
        head=Segmenter(classes=2),
    )
    model = reskeras.build(spec)
    assert model.output_shape == (None, *size, 2)
    # It computes what the net for the padded size does inside.
    whole = reskeras.build(
        dataclasses.replace(spec, input_shape=(*(-(-side // 4) * 4 for side in size), 1))
    )
    whole.set_weights(model.get_weights())
    rims = [((-side % 4) // 2, -side % 4 - (-side % 4) // 2) for side in size]
    x = images(*size, 1)
    expected = numpy(whole(np.pad(x, [(0, 0), *rims, (0, 0)])))
    inside = tuple(
        slice(before, before + side) for (before, _), side in zip(rims, size, strict=True)
    )
    np.testing.assert_allclose(
        numpy(model(x)), expected[:, inside[0], inside[1]], rtol=1e-5, atol=1e-6
    )


def test_a_padding_unet_of_volumes_predicts_what_it_computes() -> None:
    # TensorFlow 2.21 compiles a padding before a 3-D convolution wrongly.
    spec = UNet(
        input_shape=(7, 8, 8, 1),
        sizes="pad",
        stages=(Level(width=4), Level(width=4)),
        head=Segmenter(classes=2),
    )
    model = reskeras.build(spec)
    x = images(7, 8, 8, 1, n=2)
    np.testing.assert_allclose(model.predict(x, verbose=0), numpy(model(x)), rtol=1e-4, atol=1e-6)


def test_deep_supervision_names_its_outputs() -> None:
    spec = dataclasses.replace(
        reskeras.preset("unet_small"), deep_supervision=True, stages=(Level(width=4),) * 4
    )
    plain, nested = (
        reskeras.build(spec),
        reskeras.build(dataclasses.replace(spec, decoder="nested")),
    )
    assert {name: y.shape[1:3] for name, y in plain.output.items()} == {
        "head": (32, 32),
        "head2": (16, 16),
        "head3": (8, 8),
    }
    assert {name: y.shape[1:3] for name, y in nested.output.items()} == {
        f"head{n}": (32, 32) for n in ("", 2, 3)
    }


@pytest.mark.backend
def test_stacked_hourglasses_name_the_output_of_each_stack() -> None:
    model = reskeras.build("hourglass_small")
    assert {name: y.shape for name, y in model.output.items()} == {
        "stack1_head": (None, 8, 8, 2),
        "head": (None, 8, 8, 2),
    }
    # The second stack sees what the first made of it: its input, its features and its guess.
    assert [tensor.shape[-1] for tensor in model.get_layer("stack1_remap_add").input] == [
        32,
        32,
        32,
    ]


@pytest.mark.backend
def test_attention_gates_multiply_each_skip_by_one_map() -> None:
    model = reskeras.build(dataclasses.replace(reskeras.preset("unet_small"), skip="attention"))
    x = images(32, 32, 1)
    before, after = between(model, "encoder1", "decoder1_gate", x)
    (gate, _) = between(model, "decoder1_gate_map", "decoder1_gate", x)
    assert gate.shape == (4, 32, 32, 1)
    assert 0 <= gate.min() < gate.max() <= 1
    np.testing.assert_allclose(after, before * gate, rtol=1e-6)


def test_a_regressor_learns_the_residual_to_its_input() -> None:
    spec = UNet(
        input_shape=(16, 16, 3),
        stages=(Level(width=4), Level(width=4)),
        head={"kind": "regression", "channels": 3},
    )
    model = reskeras.build(spec)
    layer = model.get_layer("head_residual")
    layer.set_weights([0 * weight for weight in layer.get_weights()])
    x = images(16, 16, 3)
    np.testing.assert_array_equal(numpy(model(x)), x)


@pytest.mark.backend
@pytest.mark.parametrize(
    ("init", "deviation"),
    [
        ("he_normal", np.sqrt(2 / (9 * 64))),
        ("lecun_normal", np.sqrt(1 / (9 * 64))),
        ("glorot_normal", np.sqrt(2 / (9 * 64 + 9 * 64))),
        ("he_uniform", np.sqrt(2 / (9 * 64))),
        ("glorot_uniform", np.sqrt(2 / (9 * 64 + 9 * 64))),
    ],
)
def test_initial_weights_have_the_variance_of_their_paper(init: str, deviation: float) -> None:
    keras.utils.set_random_seed(0)
    model = reskeras.build(
        small(init=init, stem=CifarStem(width=64), stages=(Stage(blocks=2, width=64),))
    )
    kernels = [numpy(model.get_layer(f"stage1_block{block}_conv1").kernel) for block in (1, 2)]
    assert not np.array_equal(*kernels)
    for kernel in kernels:
        assert kernel.std() == pytest.approx(deviation, rel=0.02)
        # A uniform distribution ends at sqrt(3) deviations, a normal one does not end.
        assert (np.abs(kernel).max() > 3.5 * deviation) == init.endswith("normal")


@pytest.mark.backend
def test_freezing_an_encoder_freezes_its_statistics() -> None:
    spec = UNet(
        input_shape=(16, 16, 1),
        encoder=small(input_shape=(16, 16, 1)),
        stages=[Level(width=4)],
        head=Segmenter(classes=2),
    )
    model = reskeras.build(spec)
    assert reskeras.freeze(model, "encoder_*") > 10
    model.compile(optimizer="sgd", loss="sparse_categorical_crossentropy")
    before = {weight.path: numpy(weight).copy() for weight in model.weights}
    model.fit(images(16, 16, 1), np.zeros((4, 16, 16), "int32"), epochs=1, verbose=0)
    assert reskeras.recalibrate(model, images(16, 16, 1)) == 4
    changed = {
        weight.path
        for weight in model.weights
        if not np.array_equal(numpy(weight), before[weight.path])
    }
    assert changed
    assert not [path for path in changed if path.startswith("encoder_")]
    assert [path for path in changed if path.endswith("moving_mean")]
    with pytest.raises(reskeras.RequestError, match=r"no layer with weights is called 'encodr_\*'"):
        reskeras.freeze(model, "encodr_*")
