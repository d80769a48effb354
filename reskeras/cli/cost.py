"""`reskeras cost`, without TensorFlow."""

import dataclasses
import json

import click

import reskeras
from reskeras.cli import options
from reskeras.cli.networks import NetworkKind, recipe, resolve
from reskeras.cli.tables import print_columns
from reskeras.words import compact, in_bytes


@click.command()
@click.argument("network")
@options.as_json
def cost(network: str, as_json: bool) -> None:
    """NETWORK is a preset's name or a spec file.

    This prints its parameters, multiply-adds, memory, receptive field, and depth.
    """
    found_recipe = recipe(resolve(network, NetworkKind.PRESET, NetworkKind.SPEC))
    spec, trained = found_recipe.spec, found_recipe.train
    found = reskeras.cost(spec)
    if as_json:
        click.echo(json.dumps(dataclasses.asdict(found), indent=2))
        return
    image = "x".join(map(str, spec.input_shape))
    rows = [(spec.name, "", ""), ("parameters", f"{found.trainable_params:,}", "trainable")]
    if found.params != found.trainable_params:
        rows.append(("", f"{found.params:,}", "with batch-norm statistics"))
    rows += [
        (
            "MACs",
            compact(found.macs),
            f"multiply-adds of convolutions and dense layers, one image {image}",
        ),
        (
            "memory",
            in_bytes(found.activation_bytes),
            "activations of one image in training, float32",
        ),
        ("", in_bytes(found.inference_bytes), "activations of one image in inference, float32"),
        (
            "",
            in_bytes(found.training_bytes(trained.batch_size)),
            f"training with Adam and scoring, batches of {trained.batch_size}",
        ),
        ("receptive field", str(found.receptive_field), "pixels, before global pooling"),
        ("depth", str(found.depth), "convolutions and dense layers on the longest path"),
        ("layers", str(found.layers), "Keras layers"),
    ]
    print_columns(rows, right=(1,))
