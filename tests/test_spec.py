"""Specs as values, and as text."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

import reskeras
from reskeras.spec import (
    UNIONS,
    BasicBlock,
    BatchNorm,
    BottleneckBlock,
    CifarStem,
    Classifier,
    DenseBlock,
    DenseNet,
    DenseStage,
    ImagenetStem,
    Level,
    NoNorm,
    NormOrder,
    PlainBlock,
    ResNet,
    Segmenter,
    Stage,
    TrainSpec,
    UNet,
    output_size,
)
from reskeras.textio import dump_recipe, load_recipe, schema

counts = st.integers(1, 64)
norms = st.one_of(st.just(NoNorm()), st.builds(BatchNorm, momentum=st.floats(0, 0.999), epsilon=st.floats(1e-9, 1e-2)))
orders = st.sampled_from(get_args(NormOrder))
stems = st.one_of(st.builds(CifarStem, width=counts), st.builds(ImagenetStem, width=counts))
shapes = st.tuples(st.integers(8, 64), st.integers(8, 64), st.integers(1, 4))
blocks = st.one_of(
    st.just(PlainBlock()),
    st.just(BasicBlock()),
    st.builds(BottleneckBlock, bottleneck_ratio=st.just(1.0)),
    st.builds(DenseBlock, growth_rate=counts, bottleneck=st.booleans()),
)
specs = st.one_of(
    st.builds(
        ResNet,
        input_shape=shapes,
        stem=stems,
        block=blocks,
        norm_order=orders,
        norm=norms,
        shortcut=st.sampled_from(["project_on_change", "none"]),
        stages=st.lists(st.builds(Stage, blocks=counts, width=counts, stride=st.integers(1, 3)), min_size=1, max_size=4).map(tuple),
        head=st.builds(Classifier, classes=st.integers(2, 9)),
    ),
    st.builds(
        DenseNet,
        input_shape=shapes,
        stem=stems,
        block=st.builds(DenseBlock, growth_rate=counts, compression=st.none() | st.floats(0.1, 1)),
        norm_order=orders,
        norm=norms,
        stages=st.lists(st.builds(DenseStage, blocks=counts), min_size=1, max_size=4).map(tuple),
        head=st.builds(Classifier, classes=st.integers(2, 9)),
    ),
    st.builds(
        UNet,
        input_shape=st.just((32, 48, 1)),
        block=blocks,
        norm_order=orders,
        norm=norms,
        stages=st.lists(st.builds(Level, blocks=counts, width=counts), min_size=2, max_size=4).map(tuple),
        head=st.builds(Segmenter, classes=st.integers(2, 9), activation=st.sampled_from(["softmax", "none"])),
    ),
)


@given(spec=specs, train=st.builds(TrainSpec, epochs=counts, learning_rate=st.floats(1e-6, 10)))
def test_any_recipe_survives_its_yaml(tmp_path_factory: pytest.TempPathFactory, spec: object, train: TrainSpec) -> None:
    path = tmp_path_factory.mktemp("yaml") / "spec.yaml"
    path.write_text(dump_recipe(reskeras.spec.Recipe(model=spec, train=train)))
    recipe = load_recipe(path)
    assert (recipe.model, recipe.train) == (spec, train)
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
        "net.yaml: stem: unknown kind 'cifr'; did you mean 'cifar'? known: cifar, imagenet, deep, linear",
        "net.yaml: block: unknown kind 'botleneck'; did you mean 'bottleneck'? known: plain, basic, bottleneck, dense",
        "net.yaml: shortcut: unknown value; did you mean 'pad'? (got 'padd'); known: pad, project_on_change, project_always, "
        "avgpool_project, maxpool, conv1x1, none, scaled, gated, dropout",
        "net.yaml: stages.0.blocks: input should be greater than 0 (got 0)",
        "net.yaml: stages.0.width: input should be greater than 0 (got -3)",
        "net.yaml: stages.0.strid: unknown key; did you mean 'stride'? (got 2)",
        "net.yaml: head.classes: this key is missing",
        "net.yaml: train.learning_rate: input should be a valid number, unable to parse string as a number (got 'x')",
        "net.yaml: train.epocs: unknown key; did you mean 'epochs'? (got 3)",
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
            + b"".join(f"{n}: &{n} [{', '.join(['*' + p] * 10)}]\n".encode() for p, n in zip("abcdefg", "bcdefgh", strict=True)),
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


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"block": BottleneckBlock(cardinality=3)}, "inner width 4, which must be a multiple of cardinality 3"),
        ({"stages": (Stage(blocks=1, width=8),)}, "stages.0 goes from width 16 to 8"),
        ({"block": DenseBlock(compression=0.5)}, "only the family 'densenet' has transitions"),
    ],
)
def test_combinations_that_make_no_sense_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        dataclasses.replace(reskeras.preset("resnet20"), **changes)


def test_a_unet_says_which_sizes_it_takes() -> None:
    unet = reskeras.preset("unet")
    assert output_size(572, (4,) * 5) == 388  # Fig. 1 of the paper
    with pytest.raises(
        ValidationError, match="570 cannot be halved 4 times with valid padding; the nearest sizes that can: 556 and 572"
    ):
        dataclasses.replace(unet, input_shape=(570, 572, 1))
    with pytest.raises(ValidationError, match=r"input_shape\.1: 30 cannot be halved 2 times; .* 28 and 32"):
        dataclasses.replace(reskeras.preset("unet_small"), input_shape=(32, 30, 1))
    with pytest.raises(ValidationError, match="padding 'valid' needs block kind 'plain'"):
        dataclasses.replace(unet, block=BasicBlock())


def test_a_unet_that_no_image_fits_says_so_soon() -> None:
    with pytest.raises(ValidationError, match="the nearest sizes that can: none up to 16384"):
        UNet(
            input_shape=(64, 64, 1),
            padding="valid",
            stages=(Level(blocks=9000, width=4), Level(width=8)),
            head=Segmenter(classes=2),
        )


def test_an_unknown_preset_is_told_its_nearest() -> None:
    with pytest.raises(reskeras.RequestError, match="unknown preset 'resnet21'; did you mean 'resnet"):
        reskeras.preset("resnet21")
    assert reskeras.presets("plain*") == ["plain20", "plain56"]


def test_the_schema_knows_every_kind_and_forbids_the_rest() -> None:
    text = json.dumps(schema())
    for classes in UNIONS.values():
        for cls in classes:
            assert cls.__name__ in text
    assert schema()["$defs"]["ResNet"]["additionalProperties"] is False
    assert schema()["$defs"]["ResNet"]["properties"]["train"] == {"$ref": "#/$defs/TrainSpec"}


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--version"], ["presets"], ["show", "resnet50"], ["schema"], ["tune", "--help"], ["train", "--help"]]
)
def test_commands_on_specs_import_no_framework(arguments: list[str]) -> None:
    code = (
        "import sys; from reskeras.cli import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "heavy = {'tensorflow', 'keras', 'keras_tuner', 'mlflow', 'tensorflow_datasets'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout
