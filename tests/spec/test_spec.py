"""Specs as values, and as text."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from strategies import specs

import reskeras
from reskeras.spec import (
    UNIONS,
    BasicBlock,
    BatchNorm,
    BottleneckBlock,
    DenseBlock,
    Features,
    GatedShortcut,
    Hourglass,
    ImagenetStem,
    Level,
    LinearStem,
    PlainBlock,
    Regressor,
    ScaledShortcut,
    Segmenter,
    Stage,
    StopEarly,
    TrainSpec,
    UNet,
    output_size,
)
from reskeras.spec.recipes import by_recipe, training_recipe, training_recipes
from reskeras.spec.text import dump_recipe, load_recipe, schema
from reskeras.tasks import Facts, task_called

CLASSIFICATION = task_called("classification")
SEGMENTATION = task_called("segmentation")

counts = st.integers(1, 64)


@given(
    spec=specs,
    train=st.builds(
        TrainSpec,
        epochs=counts,
        learning_rate=st.floats(1e-6, 10),
        stop_early=st.none() | st.builds(StopEarly, patience=counts),
    ),
)
def test_any_recipe_survives_its_yaml(
    tmp_path_factory: pytest.TempPathFactory, spec: object, train: TrainSpec
) -> None:
    path = tmp_path_factory.mktemp("yaml") / "spec.yaml"
    path.write_text(dump_recipe(reskeras.spec.Recipe(spec=spec, train=train)))
    recipe = load_recipe(path)
    assert (recipe.spec, recipe.train) == (spec, train)
    path.write_text(reskeras.dump_spec(spec))
    assert reskeras.load_spec(path) == spec


@pytest.mark.parametrize("name", reskeras.presets())
def test_every_preset_survives_its_yaml_and_carries_its_name(name: str, tmp_path: Path) -> None:
    (tmp_path / "spec.yaml").write_text(reskeras.dump_spec(reskeras.preset(name)))
    assert reskeras.load_spec(tmp_path / "spec.yaml") == reskeras.preset(name)
    assert reskeras.preset(name).name == name


def test_a_spec_is_checked_wherever_it_is_made() -> None:
    spec = reskeras.preset("resnet20")
    with pytest.raises(dataclasses.FrozenInstanceError):
        spec.name = "other"
    with pytest.raises(ValidationError, match="norm_order"):
        dataclasses.replace(spec, norm_order="preact")
    with pytest.raises(ValidationError, match="greater than 0"):
        Stage(blocks=0, width=3)
    with pytest.raises(ValidationError, match="valid integer"):
        Stage(blocks=True, width=3)
    assert TrainSpec(learning_rate="1e-3").learning_rate == 1e-3  # what PyYAML makes of 1e-3


def test_all_mistakes_of_a_file_are_named_at_once(tmp_path: Path) -> None:
    (tmp_path / "net.yaml").write_text(
        """family: resnet
input_shape: [8, 8, True]
stem: {kind: cifr}
block: {kind: botleneck}
shortcut: padd
stages: [{blocks: 0, width: -3, strid: 2}]
head: {kind: classifier}
train: {epocs: 3, learning_rate: x}
"""
    )
    with pytest.raises(reskeras.RequestError) as error:
        reskeras.load_spec("net.yaml")
    assert str(error.value).splitlines() == [
        "net.yaml: input_shape.2: input should be a valid integer (got True)",
        "net.yaml: stem: unknown kind 'cifr'; did you mean 'cifar'? known: cifar, imagenet, "
        "deep, linear",
        "net.yaml: block: unknown kind 'botleneck'; did you mean 'bottleneck'? known: plain, "
        "basic, bottleneck, dense",
        "net.yaml: shortcut: unknown value; did you mean 'pad'? (got 'padd'); known: pad, "
        "project_on_change, project_always, "
        "avgpool_project, maxpool, conv1x1, none, scaled, gated, dropout",
        "net.yaml: stages.0.blocks: input should be greater than 0 (got 0)",
        "net.yaml: stages.0.width: input should be greater than 0 (got -3)",
        "net.yaml: stages.0.strid: unknown key; did you mean 'stride'? (got 2)",
        "net.yaml: head.classes: this key is missing",
        "net.yaml: train.epocs: unknown key; did you mean 'epochs'? (got 3)",
        "net.yaml: train.learning_rate: input should be a valid number, unable to parse string "
        "as a number (got 'x')",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"a: [1, 2", "bad.yaml:1:9: not YAML"),
        (b"", "this is an empty file"),
        (b"- 1\n- 2\n", "this is a list"),
        (b"\xff\xfe\x00", "not a text file"),
        (b"a: 1\na: 2\n", "bad.yaml:2: the key 'a' is there twice"),
        (b"a: " + b"[" * 60 + b"]" * 60, "nested more than 40 deep"),
        (
            b"a: &a [x, x, x, x, x, x, x, x, x, x]\n"
            + b"".join(
                f"{n}: &{n} [{', '.join(['*' + p] * 10)}]\n".encode()
                for p, n in zip("abcdefg", "bcdefgh", strict=True)
            ),
            "once its aliases are expanded",
        ),
        (b"a: &a [*a]\n", "nested more than 40 deep"),
        (b"? [a]\n: b\n", "bad.yaml:1: a key is a word"),
        (b"#" * 1_000_001, "larger than 1,000,000 bytes"),
        (b"a: !!python/object/apply:os.system [ls]\n", "not YAML"),
        (b"family: resnot\n", "unknown family 'resnot'; did you mean 'resnet'?"),
        (b"name: x\n", "the key 'family' is missing"),
    ],
)
def test_what_is_no_spec_is_refused_in_a_line(text: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_bytes(text)
    with pytest.raises(reskeras.RequestError) as error:
        reskeras.load_spec("bad.yaml")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_file_is_named() -> None:
    with pytest.raises(reskeras.RequestError, match=r"none\.yaml: No such file"):
        reskeras.load_spec("none.yaml")


FLAT = {
    "input_shape": (12,),
    "stem": LinearStem(),
    "stages": (Stage(blocks=1, width=16),),
    "shortcut": "project_on_change",
}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"block": BottleneckBlock(cardinality=3)},
            "inner width 4, which must be a multiple of cardinality 3",
        ),
        ({"stages": (Stage(blocks=1, width=8),)}, "stages.0 goes from width 16 to 8"),
        ({"block": DenseBlock(compression=0.5)}, "only the family 'densenet' has transitions"),
        (
            {"stride_at": "1x1"},
            "stride_at '1x1' means the first convolution of block kind 'bottleneck'; 'basic' "
            "has '3x3'",
        ),
        (
            {"block": PlainBlock(), "residual_scale": 0.5},
            "residual_scale applies to a branch .* block kind 'plain' has no shortcut",
        ),
        (
            {"block": DenseBlock(), "drop_path_rate": 0.1},
            "drop_path_rate applies to a branch .* block kind 'dense' has no shortcut",
        ),
        (
            {"shortcut": "none", "zero_init_last": True},
            "zero_init_last applies to a branch .* shortcut is 'none'",
        ),
        (
            {"norm_order": "relu_before_add", "zero_init_last": True},
            "zero_init_last: .* passes no gradient",
        ),
        (
            {"zero_init_last": True, "residual_scale": "learned"},
            "behind two zeros nothing gets a gradient",
        ),
        (
            {"stages": (Stage(blocks=10_000, width=16), {"blocks": 10_001, "width": 16})},
            "less than or equal to 10000",
        ),
        ({"norm": BatchNorm, "residual_scale": float("inf")}, "finite number"),
        (
            FLAT | {"stages": (Stage(blocks=1, width=16, stride=2),)},
            "no size for a stage's stride to divide",
        ),
        (FLAT | {"stem": ImagenetStem()}, "'imagenet' divides an image's sides"),
        (FLAT | {"block": BottleneckBlock(cardinality=2)}, "convolutions have groups"),
        (
            {"head": Regressor(channels=3)},
            "maps of the image's size, but the stem or a stage has a stride",
        ),
        (
            {"head": Regressor(channels=2), "stages": (Stage(blocks=1, width=16),)},
            "2 maps cannot be added to an input of 3 channels",
        ),
    ],
)
def test_combinations_that_make_no_sense_are_refused(
    changes: dict[str, object], message: str
) -> None:
    with pytest.raises(ValidationError, match=message):
        dataclasses.replace(reskeras.preset("resnet20"), **changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"input_shape": (32,)}, "has no resolution to halve"),
        ({"padding": "valid"}, "padding 'valid' needs block kind 'plain'"),
        (
            {"padding": "valid", "block": PlainBlock(), "decoder": "nested"},
            "trims maps, which a nested decoder",
        ),
        ({"shortcut": "pad"}, "only adds channels, but a decoder has fewer"),
        ({"skip": "add", "up": "nearest"}, "skip 'add' needs maps of one width"),
        (
            {"encoder": {"preset": "resnet18"}, "decoder": "nested"},
            "decoder 'nested' needs an encoder of the same blocks",
        ),
        (
            {"encoder": {"preset": "resnet18"}, "down": "stride"},
            "a separate encoder has its own way down",
        ),
        ({"encoder": {"prset": "resnet18"}}, "an encoder is {preset: NAME}"),
        (
            {"deep_supervision": True, "head": Features(endpoints=("bridge",))},
            "deep_supervision adds heads",
        ),
        (
            {"deep_supervision": True, "sizes": "pad", "input_shape": (30, 32, 1)},
            "deep_supervision .* padded",
        ),
        (
            {
                "deep_supervision": True,
                "padding": "valid",
                "block": PlainBlock(),
                "input_shape": (44, 44, 1),
            },
            "padding 'valid' trims each by a different margin",
        ),
        ({"head": Segmenter(classes=2), "stages": (Level(width=8),)}, "stages: at least 2"),
        (
            {"input_shape": (32, 2), "up": "nearest", "data_format": "channels_first"},
            "channels_last",
        ),
    ],
)
def test_unets_that_make_no_sense_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        dataclasses.replace(reskeras.preset("unet_small"), **changes)


def test_an_encoder_is_checked_when_its_network_is_put_together() -> None:
    unet = reskeras.preset("unet_resnet34")
    with pytest.raises(
        reskeras.RequestError, match="'resnet20' halves its images 2 times, so there are 2 levels"
    ):
        reskeras.cost(dataclasses.replace(unet, encoder={"preset": "resnet20"}))
    with pytest.raises(
        reskeras.RequestError, match="unknown preset 'resnet43'; did you mean 'resnet"
    ):
        reskeras.cost(dataclasses.replace(unet, encoder={"preset": "resnet43"}))
    with pytest.raises(reskeras.RequestError, match="unet is of the family 'unet'"):
        reskeras.cost(dataclasses.replace(unet, encoder={"preset": "unet"}))
    for encoder, message in (
        (
            dataclasses.replace(reskeras.preset("resnet18"), input_shape=(224, 3)),
            "works in 1 dimensions, the U-Net in 2",
        ),
        (
            dataclasses.replace(reskeras.preset("resnet18"), data_format="channels_first"),
            "but the U-Net's is 'channels_last'",
        ),
    ):
        with pytest.raises(reskeras.RequestError, match=message):
            reskeras.cost(dataclasses.replace(unet, encoder=encoder))
    with pytest.raises(
        ValueError,
        match=r"input_shape\.0: 100 cannot be halved 5 times; the nearest sizes that work: "
        "96 and 128",
    ):
        reskeras.cost(dataclasses.replace(unet, input_shape=(100, 96, 3)))


def test_hourglasses_that_make_no_sense_are_refused() -> None:
    with pytest.raises(
        ValidationError, match=r"input_shape\.0: 48 cannot be halved 5 times; .* 32 and 64"
    ):
        dataclasses.replace(
            reskeras.preset("hourglass_small"), input_shape=(48, 32, 1), depth=3, stacks=1
        )
    with pytest.raises(ValidationError, match="a quarter of the input's size"):
        Hourglass(input_shape=(64, 64, 3), depth=2, head=Regressor(channels=3))


def test_a_word_stands_for_a_shortcut_with_its_usual_values(tmp_path: Path) -> None:
    spec = dataclasses.replace(reskeras.preset("resnet20"), shortcut="gated")
    assert spec.shortcut == GatedShortcut()
    assert dataclasses.replace(
        spec, shortcut={"kind": "scaled", "factor": 2}
    ).shortcut == ScaledShortcut(factor=2)
    # What PyYAML makes of 5e-1
    assert dataclasses.replace(spec, residual_scale="0.5").residual_scale == 0.5
    text = reskeras.dump_spec(spec)
    (tmp_path / "net.yaml").write_text(
        text.replace("bias: -6.0", "bias: x")
        .replace("activation: relu", "activation: rleu")
        .replace("residual_scale: 1.0", "residual_scale: 1/sqrt(deep)")
    )
    with pytest.raises(reskeras.RequestError) as error:
        reskeras.load_spec("net.yaml")
    assert str(error.value).splitlines() == [
        "net.yaml: activation: unknown value; did you mean 'relu'? (got 'rleu'); known: relu, "
        "leaky_relu, elu, gelu, silu",
        "net.yaml: shortcut.bias: input should be a valid number, unable to parse string as a "
        "number (got 'x')",
        "net.yaml: residual_scale: unknown value; did you mean '1/sqrt(depth)'? (got "
        "'1/sqrt(deep)'); "
        "known: 1/sqrt(2), 1/sqrt(depth), learned",
    ]


def test_a_network_is_fitted_to_data_in_its_own_dimensions() -> None:
    flat = CLASSIFICATION.fit(reskeras.preset("mlp_res"), Facts((8, 8, 1), 7))
    assert (flat.input_shape, flat.head.classes) == ((64,), 7)
    with pytest.raises(ValueError, match="images have 2 dimensions, but the network works in 1"):
        CLASSIFICATION.fit(reskeras.preset("mnist1d_res"), Facts((8, 8, 1), 7))
    with pytest.raises(ValueError, match="have labels, one for each image"):
        CLASSIFICATION.fit(reskeras.preset("hourglass_small"), Facts((32, 32, 1), 7))
    binary = dataclasses.replace(
        reskeras.preset("unet_small"), head=Segmenter(classes=1, activation="sigmoid")
    )
    assert SEGMENTATION.fit(binary, Facts((32, 32, 1), 2)).head.classes == 1


def test_a_unet_says_which_sizes_it_takes() -> None:
    unet = reskeras.preset("unet")
    assert output_size(572, (4,) * 5) == 388  # Fig. 1 of the paper
    with pytest.raises(
        ValidationError,
        match="570 cannot be halved 4 times with valid padding; the nearest sizes that work: "
        "556 and 572",
    ):
        dataclasses.replace(unet, input_shape=(570, 572, 1))
    with pytest.raises(
        ValidationError, match=r"input_shape\.1: 30 cannot be halved 2 times; .* 28 and 32"
    ):
        dataclasses.replace(reskeras.preset("unet_small"), input_shape=(32, 30, 1))
    with pytest.raises(ValidationError, match="padding 'valid' needs block kind 'plain'"):
        dataclasses.replace(unet, block=BasicBlock())


def test_a_unet_that_no_image_fits_says_so_soon() -> None:
    with pytest.raises(ValidationError, match="the nearest sizes that work: none up to 16384"):
        UNet(
            input_shape=(64, 64, 1),
            padding="valid",
            stages=(Level(blocks=9000, width=4), Level(width=8)),
            head=Segmenter(classes=2),
        )


def test_an_unknown_preset_is_told_its_nearest() -> None:
    with pytest.raises(
        reskeras.RequestError, match="unknown preset 'resnet21'; did you mean 'resnet"
    ):
        reskeras.preset("resnet21")
    assert reskeras.presets("plain*") == ["plain20", "plain56"]


def test_a_recipe_leaves_how_masks_are_weighed_and_images_are_read_unless_it_sets_it() -> None:
    own = TrainSpec(border_weight=10, resize="patch", class_weight="balanced", batch_size=7)
    found = by_recipe("unet_2015", own)
    assert (found.border_weight, found.resize, found.class_weight) == (10, "patch", "balanced")
    assert (found.momentum, found.batch_size) == (0.99, 1)
    assert by_recipe("he2015_imagenet", own).resize == "crop"


@pytest.mark.parametrize("name", training_recipes())
def test_a_training_recipe_sets_what_is_not_given(name: str, tmp_path: Path) -> None:
    spec, path, recipe = reskeras.preset("resnet20"), tmp_path / "net.yaml", training_recipe(name)

    def read(train: str) -> TrainSpec:
        path.write_text(f"{reskeras.dump_spec(spec)}train: {train}\n")
        return load_recipe(path).train

    assert read(name) == read(f"{{recipe: {name}}}") == recipe
    own = read(f"{{epochs: 3, recipe: {name}, learning_rate: 0.02}}")
    assert own == dataclasses.replace(recipe, epochs=3, learning_rate=0.02)
    path.write_text(dump_recipe(reskeras.spec.Recipe(spec=spec, train=recipe)))
    assert load_recipe(path).train == recipe


def test_the_schema_knows_every_kind_and_forbids_the_rest() -> None:
    text = json.dumps(schema())
    for classes in UNIONS.values():
        for cls in classes:
            assert cls.__name__ in text
    assert schema()["$defs"]["ResNet"]["additionalProperties"] is False
    section, recipe = schema()["$defs"]["ResNet"]["properties"]["train"]["anyOf"]
    assert section == {"$ref": "#/$defs/TrainSpec"}
    assert "fast" in recipe["enum"]
    train = schema()["$defs"]["TrainSpec"]["properties"]
    assert train["recipe"] == recipe
    assert schema()["$defs"]["StopEarly"]["properties"]["patience"]["default"] == 10


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["--version"],
        ["presets"],
        ["presets", "--recipes"],
        ["show", "resnet50"],
        ["schema"],
        ["cost", "resnet50"],
        ["tune", "--help"],
        ["train", "--help"],
        ["runs", "--help"],
        ["predict", "--help"],
        ["export", "--help"],
    ],
)
def test_commands_on_specs_import_no_framework(arguments: list[str]) -> None:
    code = (
        "import sys; from reskeras.cli import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "heavy = {'tensorflow', 'keras', 'keras_tuner', 'mlflow', 'tensorflow_datasets'} & "
        "set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_long_signals_are_no_problem_for_a_unet() -> None:
    spec = UNet(
        input_shape=(1 << 17, 1), stages=(Level(width=4), Level(width=8)), head=Segmenter(classes=2)
    )
    assert reskeras.cost(spec).macs > 0
    padded = dataclasses.replace(spec, input_shape=(44_101, 1), sizes="pad")
    assert reskeras.cost(padded).params == reskeras.cost(spec).params
    with pytest.raises(
        ValidationError, match=r"input_shape\.0: 44101 cannot be halved 1 times; .* 44100 and 44102"
    ):
        dataclasses.replace(padded, sizes="refuse")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            "block: {kind: bottleneck, groups: 4}",
            "block.groups: unknown key; known here: bottleneck_ratio, cardinality (got 4)",
        ),
        (
            "norm: {kind: group, momentum: 0.9}",
            "norm.momentum: unknown key; known here: groups, epsilon (got 0.9)",
        ),
        (
            "stages: [{block: 3, width: 16}]",
            "stages.0.block: unknown key; did you mean 'blocks'? (got 3)",
        ),
        ("train: {epoch: 3}", "train.epoch: unknown key; did you mean 'epochs'? (got 3)"),
        (
            "train: {recipe: wrn_cifar, epoch: 3}",
            "train.epoch: unknown key; did you mean 'epochs'? (got 3)",
        ),
        (
            "train: {stop_early: {patient: 3}}",
            "train.stop_early.patient: unknown key; did you mean 'patience'? (got 3)",
        ),
        (
            "train: wrn_cifa",
            "train.recipe: unknown training recipe 'wrn_cifa'; did you mean 'wrn_cifar'? known: "
            "he2015_cifar, he2016_cifar, densenet_cifar, wrn_cifar, unet_2015, he2015_imagenet, "
            "fast",
        ),
        ("strideat: 3x3", "strideat: unknown key; did you mean 'stride_at'? (got '3x3')"),
    ],
)
def test_an_unknown_key_is_told_what_is_known_where_it_stands(
    changed: str, message: str, tmp_path: Path
) -> None:
    text = reskeras.dump_spec(reskeras.preset("resnet20"))
    key = changed.partition(":")[0].replace("strideat", "stride_at")
    kept = [
        line
        for line in text.splitlines()
        if not line.startswith((f"{key}:", "  -") if key == "stages" else f"{key}:")
    ]
    (tmp_path / "net.yaml").write_text("\n".join([*kept, changed]))
    with pytest.raises(reskeras.RequestError) as error:
        reskeras.load_spec("net.yaml")
    assert f"net.yaml: {message}" in str(error.value).splitlines()


def test_every_field_and_value_of_a_spec_is_explained() -> None:
    page = (Path(__file__).parents[2] / "docs" / "spec.md").read_text()
    words = set()
    for name, definition in schema()["$defs"].items():
        if name != "PresetEncoder":
            words |= definition.get("properties", {}).keys()
            for field in definition.get("properties", {}).values():
                words |= set(field.get("enum", [field.get("const", "")]))
    missing = sorted(word for word in words if word and f"`{word}`" not in page)
    assert not missing
