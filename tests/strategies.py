"""Hypothesis strategies for specs of every family and option."""

from typing import Any, get_args

from hypothesis import strategies as st
from pydantic import ValidationError

from reskeras.spec import (
    UNIONS,
    Activation,
    BasicBlock,
    BatchNorm,
    BottleneckBlock,
    CifarStem,
    Classifier,
    ConvBias,
    DenseBlock,
    DenseNet,
    DenseStage,
    DropoutShortcut,
    Features,
    GatedShortcut,
    GroupNorm,
    Heatmaps,
    Hourglass,
    Init,
    LayerNorm,
    Level,
    LinearStem,
    NoNorm,
    NormOrder,
    PlainBlock,
    PresetEncoder,
    Regressor,
    ResNet,
    ScaledShortcut,
    Segmenter,
    ShortcutWord,
    Stage,
    StrideAt,
    UNet,
)

widths = st.sampled_from([4, 6, 8, 12])
few = st.integers(1, 3)
norms = st.one_of(
    st.just(NoNorm()),
    st.builds(BatchNorm, momentum=st.floats(0, 0.999), epsilon=st.floats(1e-9, 1e-2)),
    st.builds(LayerNorm, epsilon=st.floats(1e-9, 1e-2)),
    st.builds(GroupNorm, groups=st.integers(1, 32)),
)
stems = st.one_of(*(st.builds(stem, width=widths) for stem in UNIONS["stem"]))
dense = st.builds(DenseBlock, growth_rate=few, bottleneck=st.booleans())
residual = st.sampled_from(
    [
        BasicBlock(),
        BottleneckBlock(bottleneck_ratio=0.5),
        BottleneckBlock(bottleneck_ratio=1, cardinality=2),
    ]
)
blocks = st.one_of(st.just(PlainBlock()), residual, dense)
shortcuts: Any = st.one_of(
    st.sampled_from(get_args(ShortcutWord)),
    st.builds(ScaledShortcut, factor=st.floats(0.1, 2)),
    st.builds(
        GatedShortcut, gate=st.sampled_from(["exclusive", "shortcut_only"]), bias=st.floats(-9, 9)
    ),
    st.builds(DropoutShortcut, rate=st.floats(0.1, 0.9)),
)
options: dict[str, Any] = {
    "norm_order": st.sampled_from(get_args(NormOrder)),
    "norm": norms,
    "activation": st.sampled_from(get_args(Activation)),
    "init": st.sampled_from(get_args(Init)),
    "conv_bias": st.sampled_from(get_args(ConvBias)),
    "dropout": st.sampled_from([0.0, 0.3]),
    "squeeze_excite": st.sampled_from([None, 2, 16]),
    "data_format": st.sampled_from(["channels_last", "channels_first"]),
    "layer_prefix": st.sampled_from(["", "a_"]),
}
residual_options: dict[str, Any] = options | {
    "shortcut": shortcuts,
    "residual_scale": st.sampled_from([1.0, 0.5, "1/sqrt(2)", "1/sqrt(depth)", "learned"]),
    "sum_scale": st.sampled_from([1.0, 0.5, "1/sqrt(2)"]),
    "zero_init_last": st.booleans(),
    "drop_path_rate": st.sampled_from([0.0, 0.2]),
}


@st.composite
def _valid(draw: Any, make: Any, **fields: Any) -> Any:
    """A spec of these fields; where they contradict each other, what is refused is left at its
    default."""
    chosen = {name: draw(field) for name, field in fields.items()}
    for dropped in (
        (),
        ("residual_scale", "sum_scale", "zero_init_last", "drop_path_rate"),
        (
            "residual_scale",
            "sum_scale",
            "zero_init_last",
            "drop_path_rate",
            "shortcut",
            "stride_at",
            "skip",
            "decoder",
            "down",
            "data_format",
        ),
    ):
        try:
            return make(**{name: value for name, value in chosen.items() if name not in dropped})
        except ValidationError:
            continue
    raise AssertionError(f"no valid spec: {chosen}")


shapes_2d = st.tuples(st.integers(8, 24), st.integers(8, 24), st.integers(1, 3))
shapes = st.one_of(
    shapes_2d, st.tuples(st.integers(8, 24), st.integers(1, 3)), st.just((8, 9, 10, 1))
)
classifiers = st.one_of(
    st.builds(
        Classifier,
        classes=st.integers(2, 9),
        activation=st.sampled_from(["softmax", "sigmoid", "none"]),
    ),
    st.just(Features(endpoints=("stem", "stage1"))),
)
segmenters = st.builds(
    Segmenter, classes=st.integers(2, 9), activation=st.sampled_from(["softmax", "sigmoid", "none"])
)
resnets = _valid(
    ResNet,
    input_shape=shapes,
    stem=stems,
    block=blocks,
    stride_at=st.sampled_from(get_args(StrideAt)),
    stages=st.lists(
        st.builds(Stage, blocks=few, width=widths, stride=st.integers(1, 3)), min_size=1, max_size=3
    ).map(tuple),
    head=classifiers,
    **residual_options,
)
flat_resnets = _valid(
    ResNet,
    input_shape=st.tuples(st.integers(1, 30)),
    stem=st.one_of(st.builds(CifarStem, width=widths), st.builds(LinearStem, width=widths)),
    block=st.sampled_from([PlainBlock(), BasicBlock(), DenseBlock(growth_rate=3)]),
    stages=st.lists(st.builds(Stage, blocks=few, width=widths), min_size=1, max_size=3).map(tuple),
    head=classifiers,
    **residual_options,
)
densenets = _valid(
    DenseNet,
    input_shape=shapes,
    stem=stems,
    block=st.builds(DenseBlock, growth_rate=few, compression=st.none() | st.floats(0.1, 1)),
    stages=st.lists(st.builds(DenseStage, blocks=few), min_size=1, max_size=3).map(tuple),
    head=classifiers,
    **options,
)
unets = _valid(
    UNet,
    input_shape=st.one_of(shapes_2d, st.just((17, 2)), st.just((8, 9, 10, 1))),
    block=blocks,
    sizes=st.just("pad"),
    down=st.sampled_from(["maxpool", "stride"]),
    up=st.sampled_from(["transpose", "nearest"]),
    skip=st.sampled_from(["concat", "add", "attention"]),
    decoder=st.sampled_from(["plain", "nested"]),
    stages=st.lists(st.builds(Level, blocks=few, width=widths), min_size=2, max_size=3).map(tuple),
    head=segmenters
    | st.builds(Heatmaps, keypoints=few)
    | st.builds(Regressor, channels=few, add_input=st.just(False)),
    **residual_options,
)
supervised_unets = _valid(
    UNet,
    input_shape=st.just((16, 24, 2)),
    block=blocks,
    deep_supervision=st.just(True),
    decoder=st.sampled_from(["plain", "nested"]),
    stages=st.lists(st.builds(Level, blocks=few, width=widths), min_size=2, max_size=3).map(tuple),
    head=segmenters,
    **residual_options,
)
encoder_unets = _valid(
    UNet,
    input_shape=st.just((32, 64, 3)),
    encoder=st.sampled_from(["resnet18", "resnet18d", "resnet50v2", "densenet121"]).map(
        lambda name: PresetEncoder(preset=name)
    ),
    block=blocks,
    up=st.sampled_from(["transpose", "nearest"]),
    stages=st.lists(st.builds(Level, blocks=few, width=widths), min_size=5, max_size=5).map(tuple),
    head=segmenters,
)
hourglasses = _valid(
    Hourglass,
    input_shape=st.just((16, 32, 1)),
    block=blocks,
    stacks=few,
    depth=st.integers(1, 2),
    blocks=st.integers(1, 2),
    width=st.sampled_from([8, 16]),
    head=st.builds(Heatmaps, keypoints=few) | segmenters,
    **residual_options,
)
specs: Any = st.one_of(
    resnets, flat_resnets, densenets, unets, supervised_unets, encoder_unets, hourglasses
)
