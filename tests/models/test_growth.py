"""Grown networks compute what the trained ones did, in both modes, and can learn."""

import dataclasses
import itertools
import re
from typing import Any, get_args

import hypothesis
import keras
import numpy as np
import pytest
import strategies
from nets import images, kinds, numpy, randomize, small

import reskeras
from reskeras.data import load
from reskeras.models.growth import graph_of
from reskeras.nets.graph import record
from reskeras.nets.growth import why_not_grow
from reskeras.spec import (
    BasicBlock,
    BottleneckBlock,
    CifarStem,
    Classifier,
    DenseBlock,
    DenseNet,
    Heatmaps,
    Hourglass,
    LayerNorm,
    Level,
    NoNorm,
    NormOrder,
    PlainBlock,
    Segmenter,
    Stage,
    TrainSpec,
    UNet,
)
from reskeras.training.train import train

DEEP = (Stage(blocks=4, width=8), Stage(blocks=2, width=16, stride=2))
WIDE = {
    "stem": CifarStem(width=12),
    "stages": (Stage(blocks=3, width=12), Stage(blocks=2, width=20, stride=2)),
}
BLOCKS = {block.kind: block for block in kinds("block")}
NORMS = {norm.kind: norm for norm in kinds("norm")}
replace = dataclasses.replace


def same_reason(foretold: str) -> str:
    """A pattern of the reason, whichever of the layers that it holds for is named."""
    return re.escape(foretold.rpartition(": ")[2])


def grown(shallow: Any, deep: Any) -> tuple[keras.Model, keras.Model]:
    keras.utils.set_random_seed(0)
    model = reskeras.build(shallow)
    randomize(model)
    before = model.get_weights()
    # Every pair of specs in these tests also asks what tells the outcome without building anything.
    foretold = why_not_grow(shallow, deep)
    if foretold is not None:
        with pytest.raises(reskeras.RequestError, match=same_reason(foretold)) as refused:
            reskeras.grow(model, deep)
        raise refused.value
    deeper = reskeras.grow(model, deep)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)  # the trained network is left as it is
    return model, deeper


def assert_same_function(model: keras.Model, deeper: keras.Model) -> None:
    x = images(*model.input.shape[1:])
    for training in (False, True):
        outputs = (keras.tree.flatten(net(x, training=training)) for net in (model, deeper))
        for old, new in zip(*outputs, strict=True):
            np.testing.assert_allclose(
                numpy(new), numpy(old), rtol=1e-5, atol=2e-6 * np.abs(numpy(old)).max()
            )


def assert_new_weights_learn(model: keras.Model, deeper: keras.Model) -> None:
    old = {weight.path for weight in model.trainable_weights}
    new = [weight for weight in deeper.trainable_weights if weight.path not in old]
    assert new
    before = [numpy(weight).copy() for weight in new]
    x = images(*model.input.shape[1:], n=8)
    outputs = deeper.output if isinstance(deeper.output, dict) else {"head": deeper.output}
    # What is behind a zero is reached in the second step. Adam moves a weight by its rate however
    # small its gradient is.
    trainer = keras.Model(deeper.input, outputs["head"])
    targets = np.random.default_rng(5).normal(size=(8, *outputs["head"].shape[1:]))
    trainer.compile(optimizer=keras.optimizers.Adam(1e-3, epsilon=1e-12), loss="mse")
    trainer.fit(x, targets, batch_size=8, epochs=3, verbose=0)
    dead = [
        weight.path
        for weight, value in zip(new, before, strict=True)
        if np.array_equal(numpy(weight), value)
    ]
    assert not dead


REFUSED = {
    **{
        ("plain", norm, order): "a norm"
        for norm, order in itertools.product(("batch", "layer", "group"), get_args(NormOrder))
    },
    **{
        (block, norm, "norm_after_add"): "normalizes the sum"
        for block, norm in itertools.product(BLOCKS, ("batch", "layer", "group"))
    },
    **{
        (block, norm, "relu_before_add"): "ends in a ReLU"
        for block, norm in itertools.product(("basic", "bottleneck"), NORMS)
    },
    ("plain", "none", "relu_only_preact"): "cuts off negative values",
    ("plain", "none", "full_preact"): "cuts off negative values",
    **{
        ("dense", norm, "full_preact"): "Normalization mixes channels"
        for norm in ("layer", "group")
    },
}


@pytest.mark.parametrize(
    ("block", "norm", "order"), [*itertools.product(BLOCKS, NORMS, get_args(NormOrder))]
)
def test_deeper_is_the_same_function_for_every_order_and_kind_or_is_refused(
    block: str, norm: str, order: NormOrder
) -> None:
    shallow = small(block=BLOCKS[block], norm=NORMS[norm], norm_order=order)
    if (block, norm, order) in REFUSED:
        with pytest.raises(reskeras.RequestError, match=REFUSED[block, norm, order]):
            grown(shallow, replace(shallow, stages=DEEP))
        return
    assert_same_function(*grown(shallow, replace(shallow, stages=DEEP)))


@pytest.mark.parametrize(
    ("block", "order"),
    [
        ("basic", "original"),
        ("basic", "relu_only_preact"),
        ("bottleneck", "full_preact"),
        ("dense", "full_preact"),
    ],
)
def test_new_weights_receive_gradients(block: str, order: NormOrder) -> None:
    shallow = small(block=BLOCKS[block], norm_order=order)
    assert_new_weights_learn(*grown(shallow, replace(shallow, stages=DEEP)))


SHORTCUTS = {
    "pad": None,
    "project_on_change": None,
    "avgpool_project": None,
    "maxpool": None,
    "conv1x1": None,
    "project_always": "normalizes what passes",
    "scaled": "'scaled' multiplies what passes",
    "gated": "a gate, which is less than one",
    "dropout": "drops what passes in training",
    "none": "without a shortcut everything passes a norm",
}


@pytest.mark.backend
@pytest.mark.parametrize("shortcut", SHORTCUTS)
def test_shortcuts_that_are_the_identity_grow(shortcut: str) -> None:
    shallow = small(shortcut=shortcut)
    if SHORTCUTS[shortcut]:
        with pytest.raises(
            reskeras.RequestError,
            match=f"stage1_block3 cannot start as the identity: .*{SHORTCUTS[shortcut]}",
        ):
            grown(shallow, replace(shallow, stages=DEEP))
    else:
        assert_same_function(*grown(shallow, replace(shallow, stages=DEEP)))


def test_projections_without_norm_become_the_identity() -> None:
    for options in ({"norm": NoNorm()}, {"norm_order": "full_preact"}):
        shallow = small(shortcut="project_always", **options)
        assert_same_function(*grown(shallow, replace(shallow, stages=DEEP)))


@pytest.mark.parametrize("order", ["original", "relu_only_preact", "full_preact"])
def test_a_scale_that_falls_with_depth_is_made_up_for(order: NormOrder) -> None:
    shallow = small(norm_order=order, residual_scale="1/sqrt(depth)")
    model, deeper = grown(shallow, replace(shallow, stages=DEEP))
    assert_same_function(model, deeper)
    assert deeper.get_layer("stage1_block1_scale").scale == pytest.approx(1 / np.sqrt(6))


@pytest.mark.parametrize("order", ["original", "full_preact"])
def test_wider_is_the_same_function(order: NormOrder) -> None:
    shallow = small(norm_order=order, block=BottleneckBlock(bottleneck_ratio=0.5), squeeze_excite=1)
    model, deeper = grown(shallow, replace(shallow, **WIDE))
    assert_same_function(model, deeper)
    assert_new_weights_learn(model, deeper)


NETS: dict[str, tuple[Any, dict[str, Any]]] = {
    "learned scale": (
        small(residual_scale="learned", norm_order="relu_before_add"),
        {"stages": DEEP},
    ),
    "gelu before the branch": (
        small(activation="gelu", norm_order="full_preact"),
        {"stages": DEEP},
    ),
    "1-D": (small(input_shape=(16, 2)), {"stages": DEEP}),
    "3-D": (small(input_shape=(4, 4, 4, 1)), {"stages": DEEP}),
    "fully connected": (
        small(input_shape=(12,), stages=(Stage(blocks=1, width=8),), norm_order="full_preact"),
        {"stages": (Stage(blocks=3, width=12),), "stem": CifarStem(width=12)},
    ),
    "option A, wider behind": (
        small(shortcut="pad"),
        {"stages": (Stage(blocks=2, width=8), Stage(blocks=2, width=20, stride=2))},
    ),
    "stride in the last block": (
        small(
            stride_at="last_block",
            norm_order="full_preact",
            shortcut="maxpool",
            stages=[Stage(blocks=2, width=8, stride=2)],
        ),
        {"stages": [Stage(blocks=4, width=8, stride=2)]},
    ),
    "densenet": (
        DenseNet(
            input_shape=(8, 8, 1),
            stem=CifarStem(width=6),
            block=DenseBlock(growth_rate=4, compression=0.5),
            stages=[{"blocks": 2}, {"blocks": 1}],
            head=Classifier(classes=3),
        ),
        {"stages": [{"blocks": 3}, {"blocks": 3}]},
    ),
    "hourglass": (
        Hourglass(input_shape=(16, 16, 1), depth=1, stacks=2, width=16, head=Heatmaps(keypoints=2)),
        {"blocks": 2},
    ),
}
UNET = UNet(
    input_shape=(8, 8, 1),
    block=BasicBlock(),
    stages=[Level(width=4), Level(width=8), Level(width=12)],
    head=Segmenter(classes=3),
)
LEVELS = {"stages": [Level(width=4, blocks=2), Level(width=8), Level(width=12, blocks=3)]}
NETS |= {
    f"unet, {skip}": (replace(UNET, skip=skip), LEVELS) for skip in ("concat", "add", "attention")
}
NETS |= {
    f"unet of {block}": (replace(UNET, block=BLOCKS[block]), LEVELS)
    for block in ("bottleneck", "dense")
}
NETS |= {
    "plain unet without norm": (replace(UNET, block=PlainBlock(), norm=NoNorm()), LEVELS),
    "nested unet": (replace(UNET, decoder="nested", deep_supervision=True), LEVELS),
    "wider unet": (UNET, {"stages": [Level(width=6), Level(width=10), Level(width=16)]}),
    "unet on an encoder": (
        UNet(
            input_shape=(8, 8, 1),
            encoder=small(layer_prefix="e_"),
            stages=[Level(width=8)],
            head=Segmenter(classes=2),
            norm=NoNorm(),
        ),
        {"encoder": small(layer_prefix="e_", stages=DEEP), "stages": [Level(width=8, blocks=2)]},
    ),
}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.backend] * (name in ("densenet", "wider unet")))
        for name in NETS
    ],
)
def test_every_family_grows(name: str) -> None:
    spec, changes = NETS[name]
    assert_same_function(*grown(spec, replace(spec, **changes)))


@pytest.mark.parametrize(
    ("shallow", "deep", "message"),
    [
        (
            small(),
            small(stages=[Stage(blocks=1, width=8), DEEP[1]]),
            "the trained network has a layer stage1_block2_conv1, which the new one lacks",
        ),
        (
            small(),
            small(input_shape=(16, 16, 1)),
            r"image: images are \[16, 16, 1\] here, \[8, 8, 1\] in the trained network",
        ),
        (
            small(),
            small(head=Classifier(classes=4)),
            r"the output is \[4\], the trained network's is \[3\]",
        ),
        (
            small(),
            small(stem=CifarStem(width=6)),
            r"stem_conv: its kernel is \[3, 3, 1, 6\], which does not contain .*\[3, 3, 1, 8\]",
        ),
        (
            small(),
            small(stages=WIDE["stages"]),
            "stage1_block1_shortcut_conv: .* it is in no new block.*widen that too",
        ),
        (
            small(shortcut="pad"),
            small(shortcut="pad", **WIDE),
            "stage2_block1_add: the old channels on the two sides of this layer would not match",
        ),
        (
            small(norm=LayerNorm()),
            small(norm=LayerNorm(), **WIDE),
            "stem_norm: a LayerNormalization mixes channels",
        ),
        (
            small(activation="gelu"),
            small(activation="gelu", stages=DEEP),
            "applied twice to what passes",
        ),
        (
            small(block=PlainBlock(), norm=NoNorm(), dropout=0.1),
            small(block=PlainBlock(), norm=NoNorm(), dropout=0.1, stages=DEEP),
            "passes dropout in training",
        ),
        (
            Hourglass(
                input_shape=(16, 16, 1),
                depth=1,
                width=8,
                norm=NoNorm(),
                block=DenseBlock(),
                head=Heatmaps(),
            ),
            Hourglass(
                input_shape=(16, 16, 1),
                depth=1,
                width=8,
                blocks=2,
                norm=NoNorm(),
                block=DenseBlock(),
                head=Heatmaps(),
            ),
            "end in a convolution to a width",
        ),
        (
            small(block=BottleneckBlock(bottleneck_ratio=1, cardinality=2)),
            small(block=BottleneckBlock(bottleneck_ratio=1, cardinality=2), **WIDE),
            "groups of a grouped convolution cannot grow",
        ),
        (
            small(stride_at="last_block", stages=[Stage(blocks=1, width=8, stride=2)]),
            small(stride_at="last_block", stages=[Stage(blocks=2, width=8, stride=2)]),
            "a layer stage1_block1_conv1_pad, which the new one lacks",
        ),
        (
            small(sum_scale=0.5),
            small(sum_scale=0.5, stages=DEEP),
            "sum_scale multiplies what passes",
        ),
        (
            small(residual_scale="1/sqrt(depth)", squeeze_excite=2),
            small(residual_scale="1/sqrt(depth)", squeeze_excite=2, stages=DEEP),
            "its factor would change by",
        ),
        (
            UNet(
                input_shape=(20, 20, 1),
                padding="valid",
                norm=NoNorm(),
                stages=[Level(width=4)] * 2,
                head=Segmenter(classes=2),
            ),
            UNet(
                input_shape=(20, 20, 1),
                padding="valid",
                norm=NoNorm(),
                stages=[Level(width=4), Level(width=4)],
                head=Segmenter(classes=3),
            ),
            "the output is",
        ),
    ],
)
def test_what_cannot_grow_is_refused_with_the_reason(shallow: Any, deep: Any, message: str) -> None:
    with pytest.raises(reskeras.RequestError, match=message):
        grown(shallow, deep)


@pytest.mark.parametrize("name", ["basic", "unet", "densenet"])
def test_nothing_is_built_to_tell_whether_a_network_can_grow(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs = {"basic": (small(), small(stages=DEEP)), "unet": (UNET, replace(UNET, **LEVELS))}
    shallow, changes = NETS["densenet"]
    pairs["densenet"] = shallow, replace(shallow, **changes)
    monkeypatch.setattr(
        "keras.layers.Layer.__init__", lambda *_, **__: pytest.fail("a layer was made")
    )
    assert why_not_grow(*pairs[name]) is None


def _deeper(spec: Any) -> Any:
    if isinstance(spec, Hourglass):
        return replace(spec, blocks=spec.blocks + 1)
    return replace(
        spec, stages=tuple(replace(stage, blocks=stage.blocks + 1) for stage in spec.stages)
    )


@hypothesis.settings(
    max_examples=10,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(hypothesis.HealthCheck),
)
@hypothesis.given(
    spec=strategies.resnets | strategies.densenets | strategies.hourglasses | strategies.unets
)
def test_what_is_foretold_comes_true(spec: Any) -> None:
    model = reskeras.build(spec)
    foretold = why_not_grow(spec, _deeper(spec))
    if foretold is None:
        reskeras.grow(model, _deeper(spec))
    else:
        with pytest.raises(reskeras.RequestError, match=same_reason(foretold)):
            reskeras.grow(model, _deeper(spec))
    nodes = {node.name: node for node in record(spec).nodes}
    built = {node.name: node for node in graph_of(model, spec).nodes}
    assert nodes.keys() == built.keys()
    for name, node in nodes.items():
        assert node.kernel == built[name].kernel
        assert [x.name for x in node.inputs] == [x.name for x in built[name].inputs]
        assert node.elements == built[name].elements, name
        if not name.endswith("_split") and f"{name}_split" not in nodes:  # reshaped in Keras
            assert node.shape == built[name].shape, name


def test_frozen_layers_stay_frozen() -> None:
    model = reskeras.build(small())
    reskeras.freeze(model, "stem_*")
    assert not reskeras.grow(model, small(stages=DEEP)).get_layer("stem_norm").trainable


def test_what_is_no_model_is_refused() -> None:
    with pytest.raises(TypeError, match="grow takes a built model, not a str"):
        reskeras.grow("digits_basic", "digits_basic")


def test_grown_blocks_learn_on() -> None:
    """Three epochs after growing, hardly a channel of the new blocks is silent for all images."""
    data = load("digits", (8, 8, 1))
    deep = {"stages": [Stage(blocks=2, width=16), Stage(blocks=2, width=16, stride=2)]}
    for options in ({}, {"norm_order": "relu_before_add", "residual_scale": "learned"}):
        shallow = small(
            **options,
            head=Classifier(classes=10),
            stages=[Stage(blocks=1, width=16), Stage(blocks=1, width=16, stride=2)],
        )
        keras.utils.set_random_seed(0)
        model = reskeras.build(shallow)
        train(model, data, TrainSpec(epochs=1, learning_rate=3e-3))
        deeper = reskeras.grow(model, replace(shallow, **deep))
        train(deeper, data, TrainSpec(epochs=2, learning_rate=3e-3))
        x = np.stack([image for image, _ in data.split("val").as_numpy_iterator()])
        active = [
            numpy(
                keras.Model(deeper.input, deeper.get_layer(f"stage{stage}_block2_relu1").output)(x)
            )
            for stage in (1, 2)
        ]
        assert np.mean([(maps > 0).any(axis=(0, 1, 2)).mean() for maps in active]) > 0.9
