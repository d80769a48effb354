"""Layer names are an interface: weights, endpoints and users' code refer to them.

`UPDATE_GOLDEN=1 pytest tests/models/test_layer_names.py` rewrites the files after a change that is
meant.
"""

import dataclasses
import os
from pathlib import Path

import keras
import pytest
from nets import images, numpy, randomize, small

import reskeras
from reskeras.nets.assemble import assemble
from reskeras.nets.graph import Recorder
from reskeras.spec import DeepStem, Features, NormOrder

GOLDEN = Path(__file__).parent / "golden"
NETS = {
    name: reskeras.preset(name)
    for name in ("digits_plain", "digits_dense", "resnet20", "resnet50", "resnet50v2")
}
NETS |= {
    name: reskeras.preset(name)
    for name in ("densenet_40_12", "unet", "unet_small", "unet_resnet18", "hourglass_small")
}
NETS["options"] = small(
    stem=DeepStem(width=8),
    shortcut="gated",
    residual_scale="learned",
    squeeze_excite=4,
    dropout=0.1,
    drop_path_rate=0.1,
    activation="gelu",
    layer_prefix="mine_",
)
NETS["nested"] = dataclasses.replace(
    reskeras.preset("unet_small"), decoder="nested", skip="attention", deep_supervision=True
)


@pytest.mark.parametrize("name", NETS)
def test_layer_names_are_those_of_the_golden_file(name: str) -> None:
    layers = Recorder()
    assemble(NETS[name], layers)
    found = "".join(
        f"{maps.name} {'x'.join(map(str, (*maps.sides, maps.channels)))}\n" for maps in layers.nodes
    )
    golden = GOLDEN / f"layers_{name}.txt"
    if os.environ.get("UPDATE_GOLDEN"):
        GOLDEN.mkdir(exist_ok=True)
        golden.write_text(found)
    assert found == golden.read_text(), (
        "layer names changed; if that is meant, UPDATE_GOLDEN=1 rewrites this file"
    )


@pytest.mark.parametrize("name", reskeras.presets())
def test_no_name_is_there_twice_and_all_have_the_prefix(name: str) -> None:
    layers = Recorder()
    assemble(dataclasses.replace(reskeras.preset(name), layer_prefix="a_"), layers)
    names = [maps.name for maps in layers.nodes]
    assert len(set(names)) == len(names)
    assert all(layer.startswith("a_") for layer in names)
    assert names[0] == "a_image"


@pytest.mark.backend
def test_features_are_the_outputs_of_the_layers_of_their_names() -> None:
    model = reskeras.build(small())
    randomize(model)
    asked = ["stem", "stage1", "stage2"]
    features = reskeras.build(small(), features=asked)
    assert features.get_layer("stage2")
    features.set_weights(
        [
            weight
            for layer in features.layers
            if layer.weights
            for weight in model.get_layer(layer.name).get_weights()
        ]
    )
    found = features(images())
    seen = keras.Model(model.input, [model.get_layer(name).output for name in asked])(images())
    assert list(found) == asked
    assert [tuple(found[name].shape) for name in asked] == [
        (4, 8, 8, 8),
        (4, 8, 8, 8),
        (4, 4, 4, 16),
    ]
    for name, tensor in zip(asked, seen, strict=True):
        assert (numpy(found[name]) == numpy(tensor)).all()


@pytest.mark.parametrize(
    ("name", "endpoints"),
    [
        ("resnet18", ["stem", "stage1", "stage4"]),
        ("preact110", ["stage3", "final"]),
        ("densenet121", ["stage4", "final"]),
        ("unet_small", ["encoder1", "bridge", "decoder2"]),
        ("unet_resnet18", ["encoder2", "encoder5", "bridge", "decoder1"]),
        ("hourglass_small", ["stem", "stack1", "stack2"]),
    ],
)
def test_every_family_has_endpoints(name: str, endpoints: list[str]) -> None:
    layers = Recorder()
    _, outputs = assemble(
        dataclasses.replace(reskeras.preset(name), head=Features(endpoints=tuple(endpoints))),
        layers,
    )
    assert [(name, maps.name) for name, maps in outputs.items()] == [
        (name, name) for name in endpoints
    ]


def test_an_unknown_endpoint_is_refused_with_those_there_are() -> None:
    for wrong in ("stage1", []):
        with pytest.raises(reskeras.RequestError, match="features is a list of endpoints' names"):
            reskeras.build(small(), features=wrong)
    with pytest.raises(
        reskeras.RequestError, match="no endpoint 'stage9'; this network has stem, stage1, stage2"
    ):
        reskeras.build(small(), features=["stage9"])


@pytest.mark.parametrize("order", ["original", "full_preact"])
def test_a_prefix_lets_two_networks_share_a_model(order: NormOrder) -> None:
    one, two = (
        reskeras.build(small(name=f"{prefix}net", layer_prefix=prefix, norm_order=order))
        for prefix in ("a_", "b_")
    )
    both = keras.Model(
        one.input, keras.layers.Average(name="mean")([one(one.input), two(one.input)])
    )
    assert both.output_shape == (None, 3)
    flat = keras.Model([one.input, two.input], [one.output, two.output])
    assert (
        len({layer.name for layer in flat.layers})
        == len(flat.layers)
        == len(one.layers) + len(two.layers)
    )
