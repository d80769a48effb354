"""`reskeras lr`."""

import dataclasses
import json
from pathlib import Path

import click
from rich.console import Console

import reskeras
from reskeras.cli import options, reading
from reskeras.cli.initial import with_initial
from reskeras.cli.loading import load_keras, quiet_tensorflow
from reskeras.cli.networks import NetworkKind, resolve
from reskeras.cli.networks import recipe as read_recipe
from reskeras.cli.tables import keep_decoded, tell_data
from reskeras.cli.train import fitted
from reskeras.data.options import Cache, DataOptions
from reskeras.drawing.plot import check_picture
from reskeras.drawing.rates import rates_plot
from reskeras.spec import Recipe, image_shape
from reskeras.spec.recipes import by_recipe, training_recipe
from reskeras.words import three_digits


@click.command()
@click.argument("spec", required=False)
@options.data("digits")
@reading.how
@reading.cache
@click.option("--seed", type=click.IntRange(min=0), help="Use this seed, not the spec's.")
@options.recipe("Train by this recipe (`reskeras presets --recipes`), not by the spec's.")
@click.option(
    "--steps",
    type=click.IntRange(min=20),
    show_default="an epoch, but 100 to 200",
    help="Test this many rates, one for each batch.",
)
@click.option(
    "-o", "--output", metavar="FILE", type=options.file_path,
    help="Draw loss over learning rate into this .svg or .png file.",
)  # fmt: skip
@options.tracking_uri
@options.as_json
def lr(
    spec: str | None,
    data: str,
    how: DataOptions,
    cache: Cache,
    seed: int | None,
    by: str | None,
    steps: int | None,
    output: Path | None,
    tracking_uri: str | None,
    as_json: bool,
) -> None:
    """The rate grows from 1e-6 to 10 while the network trains; the loss says which rates train it.

    SPEC is a preset's name or a spec file; without one, the default network for the data is tested.
    The suggested range starts where the loss falls fastest and ends where it stops falling. Nothing
    is kept of the training. `reskeras tune --lr auto` searches the suggested range.
    """
    console = Console(stderr=True, markup=False)
    if output is not None:
        check_picture(output)
    given = None
    if spec is not None:
        given = read_recipe(resolve(spec, NetworkKind.PRESET, NetworkKind.SPEC))
        if by is not None:
            given = dataclasses.replace(given, train=by_recipe(by, given.train))
    console.print(
        f"reskeras {reskeras.__version__} · loading TensorFlow ...", style="dim", highlight=False
    )
    from reskeras.data import load

    how = dataclasses.replace(how, cache=cache)
    with quiet_tensorflow():
        if given is None:
            if by is not None:
                how = dataclasses.replace(how, resize=training_recipe(by).resize)
            images = load(data, None, how)
            recipe, _ = images.task.default_space(images.facts)
            if by is not None:
                recipe = dataclasses.replace(recipe, train=by_recipe(by, recipe.train))
        else:
            if given.train.resize is not None:
                how = dataclasses.replace(how, resize=given.train.resize)
            images = load(data, image_shape(given.spec), how)
            recipe = Recipe(spec=fitted(given.spec, images, console), train=given.train)
        load_keras()
        from reskeras.training.rates import range_test

    if seed is not None:
        recipe = dataclasses.replace(recipe, train=dataclasses.replace(recipe.train, seed=seed))
    recipe = with_initial(recipe, tracking_uri)
    tell_data(images, console)
    found = range_test(recipe, keep_decoded(images, console), steps=steps)
    if output is not None:
        rates_plot(found.rates, found.losses, found.smoothed, (found.low, found.high), output)
    if as_json:
        click.echo(json.dumps(dataclasses.asdict(found)))
        return
    end = "diverged at the last" if found.diverged else "did not diverge"
    click.echo(
        f"tested: {len(found.rates)} rates, {_written(found.rates[0])} to "
        f"{_written(found.rates[-1])}; the loss {end}"
    )
    click.echo(f"range: {_written(found.low)} to {_written(found.high)}")
    click.echo(f"one rate: {_written(found.suggested)}")
    if output is not None:
        click.echo(f"saved: {output}")


def _written(rate: float) -> str:
    """As people write it: 1e-6, 0.0031, 10."""
    return three_digits(float(f"{rate:.3g}")).replace("e-0", "e-")
