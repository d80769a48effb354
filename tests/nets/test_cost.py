"""Costs by arithmetic against published numbers, and against the models that are built."""

import dataclasses
import itertools
import math
from typing import Any

import keras
import pytest
from hypothesis import HealthCheck, given, settings
from strategies import specs

import reskeras
from reskeras.nets.cost import statistics, trainable_params
from reskeras.nets.graph import record
from reskeras.spec import BasicBlock, Features, NoNorm, PlainBlock, ResNet, UNet

# Trainable parameters: published, counted from keras.applications, torchvision, timm,
# segmentation_models.pytorch or the authors' code; "ours" where the net is reskeras' own or differs
# from the paper's (the preset says in what), then by construction.
PARAMETERS = {
    "resnet18": 11_689_512,
    "resnet34": 21_797_672,
    "resnet50": 25_557_032,
    "resnet101": 44_549_160,
    "resnet152": 60_192_808,
    "resnet50_v1_5": 25_557_032,
    "resnet101_v1_5": 44_549_160,
    "resnet152_v1_5": 60_192_808,
    "resnet50v2": 25_568_360,  # keras.applications
    "resnet101v2": 44_577_896,
    "resnet152v2": 60_236_904,
    "resnet200v2": 64_726_120,  # by construction: V2's rules on ResNet-200's stages
    "resnet18d": 11_708_744,  # resnet18 + 19,232 of the deep stem, as timm's pairs differ
    "resnet34d": 21_816_904,
    "resnet50d": 25_576_264,  # timm
    "resnet101d": 44_568_392,
    "resnet152d": 60_212_040,
    "seresnet50": 28_088_024,  # timm; Table 1 of arXiv 1709.01507 has 28.1 million
    "seresnet101": 49_326_872,
    "seresnet152": 66_821_848,
    "seresnext50_32x4d": 27_559_896,
    "resnet20": 269_722,
    "resnet32": 464_154,
    "resnet44": 658_586,
    "resnet56": 853_018,
    "resnet110": 1_727_962,
    "resnet1202": 19_421_274,
    "plain20": 269_722,
    "plain56": 853_018,
    "preact110": 1_727_962,
    "preact164": 1_703_258,
    "preact1001": 10_327_706,
    "resnet110_stochastic": 1_727_962,
    "wrn_16_8": 10_961_370,
    "wrn_28_10": 36_479_194,
    "wrn_40_4": 8_949_210,  # 8.9 million in the authors' table
    "wide_resnet50_2": 68_883_240,  # torchvision
    "wide_resnet101_2": 126_886_696,
    "resnext50_32x4d": 25_028_904,
    "resnext101_32x8d": 88_791_336,
    "resnext101_64x4d": 83_455_272,
    "resnext29_8x64d": 34_426_698,
    "densenet121": 7_978_856,
    "densenet161": 28_681_000,
    "densenet169": 14_149_480,
    "densenet201": 20_013_928,
    "densenet_40_12": 1_019_722,
    "densenet_100_12": 6_979_642,
    "densenet_100_24": 27_249_082,
    "densenet_bc_100_12": 769_162,
    "densenet_bc_250_24": 15_324_406,
    "densenet_bc_190_40": 25_624_430,
    "unet": 31_030_658,
    "unet_same": 31_037_698,
    "unet_plus_plus": 9_042_177,  # 9.04 million in Table 3
    "unet_plus_plus_ds": 9_042_177 + 3 * 33,
    "attention_unet": 31_037_698
    + sum(w // 2 * (2 * w + 1) + w // 2 + 1 for w in (64, 128, 256, 512)),
    # segmentation_models.pytorch with one class, whose head is 3x3 (16*9 + 1) where ours is 1x1 to
    # two classes.
    "unet_resnet18": 14_328_209 - 145 + 34,
    "unet_resnet34": 24_436_369 - 145 + 34,
    "unet_resnet50": 32_521_105 - 145 + 34,
    "unet_densenet121": 13_607_633 - 145 + 34,
    "hourglass1": 3_426_448,
    "hourglass2": 6_570_400,
    "hourglass8": 3_426_448 + 7 * 3_143_952,  # affine in the stacks
}
OURS = {
    *(
        "digits_plain",
        "digits_basic",
        "digits_bottleneck",
        "digits_dense",
        "mlp_res",
        "mnist1d_res",
    ),
    *("unet_small", "unet3d_small", "resunet", "denseunet", "hourglass_small"),
}

# Billions of multiply-adds, from Table 1 of arXiv 1512.03385 (18 to 152 layers), and from timm's
# results/benchmark-infer-amp-nhwc-pt240-cu124-rtx3090.csv, which also counts norms and poolings.
MACS_OF_THE_PAPER = {
    "resnet18": 1.8,
    "resnet34": 3.6,
    "resnet50": 3.8,
    "resnet101": 7.6,
    "resnet152": 11.3,
}
MACS_OF_TIMM = {
    "resnet18": 1.82,
    "resnet50_v1_5": 4.11,
    "resnet152_v1_5": 11.56,
    "resnet50d": 4.35,
    "resnext50_32x4d": 4.26,
    "densenet121": 2.87,
}


def test_every_preset_has_its_published_number_of_parameters() -> None:
    assert set(reskeras.presets()) == PARAMETERS.keys() | OURS
    assert {name: reskeras.cost(name).trainable_params for name in PARAMETERS} == PARAMETERS


def test_keras_applications_totals_with_batch_norm_statistics() -> None:
    totals = {"resnet50v2": 25_613_800, "resnet101v2": 44_675_560, "resnet152v2": 60_380_648}
    totals |= {"densenet121": 8_062_504, "densenet169": 14_307_880, "densenet201": 20_242_984}
    assert {name: reskeras.cost(name).params for name in totals} == totals
    # Theirs have a bias on every convolution of V1.
    biased = {
        name: dataclasses.replace(reskeras.preset(name), conv_bias="always")
        for name in ("resnet50", "resnet101", "resnet152")
    }
    assert [reskeras.cost(spec).params for spec in biased.values()] == [
        25_636_712,
        44_707_176,
        60_419_944,
    ]


def test_macs_are_the_published_ones() -> None:
    for name, billions in MACS_OF_THE_PAPER.items():
        assert reskeras.cost(name).macs == pytest.approx(1e9 * billions, abs=0.07e9), name
    for name, billions in MACS_OF_TIMM.items():
        assert 0.985 < reskeras.cost(name).macs / (1e9 * billions) < 1, name


def test_receptive_fields_are_those_of_distill() -> None:
    # Araujo, Norris and Sim 2019 (distill.pub/2019/computing-receptive-fields), from TF-slim, whose
    # strides are in the last block.
    fields = {
        name: reskeras.cost(name).receptive_field
        for name in ("resnet50v2", "resnet101v2", "resnet152v2")
    }
    assert fields == {"resnet50v2": 483, "resnet101v2": 1027, "resnet152v2": 1507}


def test_the_depth_is_the_number_in_the_name() -> None:
    names = [
        "resnet18",
        "resnet34",
        "resnet50",
        "resnet152",
        "resnet200v2",
        "resnet20",
        "resnet1202",
        "plain56",
        "preact1001",
    ]
    names += [
        "densenet121",
        "densenet201",
        "densenet_40_12",
        "densenet_bc_190_40",
        "resnext29_8x64d",
    ]
    assert [reskeras.cost(name).depth for name in names] == [
        18,
        34,
        50,
        152,
        200,
        20,
        1202,
        56,
        1001,
        121,
        201,
        40,
        190,
        29,
    ]
    # Wide ResNets count their three projections too, and not the dense layer: 26 + 3 - 1.
    assert reskeras.cost("wrn_28_10").depth == 28 - 3 + 1
    assert reskeras.cost("unet").depth == 23  # "In total the network has 23 convolutional layers"


@pytest.mark.parametrize("family", ["resnet20", "preact164", "densenet_40_12"])
def test_parameters_are_affine_in_the_number_of_blocks_or_quadratic_where_layers_see_all_before(
    family: str,
) -> None:
    spec = reskeras.preset(family)
    counts = []
    for blocks in (2, 3, 4, 5):
        last = dataclasses.replace(spec.stages[-1], blocks=blocks)
        counts.append(
            reskeras.cost(dataclasses.replace(spec, stages=(*spec.stages[:-1], last))).params
        )
    steps = [after - before for before, after in itertools.pairwise(counts)]
    second = {after - before for before, after in itertools.pairwise(steps)}
    # A dense layer's 3x3 convolution sees k more channels than the one before: 9 * k * k more
    # weights, and 4k norm parameters.
    assert second == ({9 * 12 * 12 + 4 * 12} if family == "densenet_40_12" else {0})


def test_memory_of_a_net_worked_out_by_hand() -> None:
    spec = ResNet(
        input_shape=(4, 4, 1),
        stem={"kind": "cifar", "width": 2},
        block=BasicBlock(),
        stages=({"blocks": 1, "width": 2},),
        head={"kind": "classifier", "classes": 3},
    )
    # 32 numbers in each of: stem conv, norm, relu; conv, norm, relu, conv, norm, add, relu; then 2
    # and 3.
    assert reskeras.cost(spec).activation_bytes == 4 * (10 * 32 + 2 + 3)
    # At most three tensors at once: the block's input, and one in and one out on the branch.
    assert reskeras.cost(spec).inference_bytes == 4 * 3 * 32


def test_macs_and_memory_of_a_unet_worked_out_by_hand() -> None:
    spec = UNet(
        input_shape=(4, 4, 1),
        block=PlainBlock(),
        norm=NoNorm(),
        stages=({"width": 2}, {"width": 2}),
        head={"kind": "segmentation", "classes": 2},
    )
    cost = reskeras.cost(spec)
    # The encoder's and the bridge's two 3x3 convolutions, the 2x2 transposed one on the bridge's
    # four positions, the decoder's two 3x3 and the head's 1x1.
    encoder, bridge = 16 * 9 * (1 * 2 + 2 * 2), 4 * 9 * 2 * (2 * 2)
    assert cost.macs == encoder + bridge + 4 * 4 * (2 * 2) + 16 * 9 * (4 * 2 + 2 * 2) + 16 * (2 * 2)
    # 32 numbers in each of: the encoder's conv, relu, conv, relu; the upsampled maps; the decoder's
    # four; the head. 8 in the pooled maps and in each of the bridge's four. 64 in the
    # concatenation.
    assert cost.activation_bytes == 4 * (10 * 32 + 5 * 8 + 64)
    # The most at once: the skip, the upsampled maps, and their concatenation.
    assert cost.inference_bytes == 4 * (32 + 32 + 64)


@settings(max_examples=20, suppress_health_check=list(HealthCheck))
@given(spec=specs)
def test_arithmetic_and_keras_agree_on_every_layer(spec: Any) -> None:
    run = record(spec).nodes
    model = reskeras.build(spec)
    made = {maps.name: maps for maps in run}
    assert len(made) == len(run), "a layer's name is there twice"
    assert made.keys() == {layer.name for layer in model.layers}
    for layer in model.layers:
        assert math.prod(layer.output.shape[1:]) == made[layer.name].elements, layer.name
        node = made[layer.name]
        assert layer.count_params() == trainable_params(node) + statistics(node), layer.name
        assert layer.name.startswith(spec.layer_prefix)
    cost = reskeras.cost(spec)
    assert cost.params == model.count_params()
    assert cost.trainable_params == sum(
        math.prod(weight.shape) for weight in model.trainable_weights
    )
    assert cost.layers == len(model.layers) - 1
    assert cost.inference_bytes <= cost.activation_bytes + 4 * math.prod(spec.input_shape)
    keras.backend.clear_session()


def test_a_network_cut_at_its_endpoints_costs_what_is_left() -> None:
    spec = dataclasses.replace(
        reskeras.preset("resnet20"), head=Features(endpoints=("stem", "stage1"))
    )
    assert (
        reskeras.cost(spec).params
        == reskeras.build(spec).count_params()
        == 16 * 27 + 64 + 6 * (16 * 16 * 9 + 64)
    )
