"""`reskeras lab`."""

from pathlib import Path
from typing import Any

import click
from rich.console import Console

import reskeras
from reskeras.cli import options, reading
from reskeras.cli.loading import load_keras_on_tensorflow, quiet_tensorflow
from reskeras.cli.networks import NetworkKind, recipe, resolve
from reskeras.cli.tables import print_columns
from reskeras.cli.train import fitted
from reskeras.data.options import DataOptions
from reskeras.drawing.plot import check_picture, save
from reskeras.errors import RequestError, did_you_mean
from reskeras.files import check_free, replacing
from reskeras.spec import AnySpec, image_shape
from reskeras.words import three_digits

_IMAGES = 64
"""Training images that an experiment gets, a random sample."""


@click.command()
@click.argument("name", required=False)
@click.argument("spec", required=False)
@options.data(show_default="independent normal numbers")
@reading.how
@click.option(
    "--seeds", type=click.IntRange(min=2), default=8, show_default=True,
    help="How often a network is initialized.",
)  # fmt: skip
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True,
              help="What initializations follow from.")  # fmt: skip
@click.option(
    "-o", "--output", metavar="FILE", type=options.file_path,
    help="Draw the figure into this .svg or .png file.",
)  # fmt: skip
@click.option(
    "--csv", "table", metavar="FILE", type=options.file_path, help="Write the table as CSV."
)
@options.tracking_uri
@click.option("--no-mlflow", is_flag=True, help="Do not keep the result in MLflow.")
@options.as_json
def lab(
    name: str | None,
    spec: str | None,
    data: str | None,
    how: DataOptions,
    seeds: int,
    seed: int,
    output: Path | None,
    table: Path | None,
    tracking_uri: str | None,
    no_mlflow: bool,
    as_json: bool,
) -> None:
    """NAME is an experiment; without one, they are listed.

    SPEC is a preset's name or a spec file; without one, the experiment takes small networks of its
    own. Each claim gets a verdict: pass, fail, or no theory, if what the claim assumes does not
    hold for the network. A claim that fails is a finding, not an error: the exit status is 0.
    """
    from reskeras.lab import EXPERIMENTS

    if name is None:
        rows = [(each.name, each.measures) for each in EXPERIMENTS.values()]
        print_columns(rows, right=())
        return
    if name not in EXPERIMENTS:
        near = did_you_mean(name, list(EXPERIMENTS))
        raise RequestError(f"no experiment is called {name!r} (`reskeras lab` lists them){near}")
    if output is not None:
        check_picture(output)
    if table is not None:
        check_free(table, force=True)
    network = None
    if spec is not None:
        network = recipe(resolve(spec, NetworkKind.PRESET, NetworkKind.SPEC)).spec
    uri = None
    if not no_mlflow:
        from tuning.tracking import tracking_uri as resolve_uri

        uri = resolve_uri(tracking_uri)
    console = Console(stderr=True, markup=False)
    console.print(
        f"reskeras {reskeras.__version__} · loading TensorFlow ...", style="dim", highlight=False
    )
    with quiet_tensorflow():
        load_keras_on_tensorflow()
    images = None
    if data is not None:
        network, images = _sample(data, network, how, console)
    found = EXPERIMENTS[name].run(network, images=images, seeds=seeds, seed=seed)
    if output is not None:
        save(output, lambda: found.figure)
    if table is not None:
        with replacing(table) as partial:
            partial.write_text(found.table.csv(), encoding="utf-8")
    if uri is not None:
        from tuning.tracking.experiment import log_result

        log_result(uri, found, data)
    if as_json:
        click.echo(found.json())
        return
    _print(found)
    for path in (output, table):
        if path is not None:
            click.echo(f"saved: {path}")


def _sample(
    data: str, network: AnySpec | None, how: DataOptions, console: Console
) -> tuple[AnySpec, Any]:
    """The network fitted to the data, and a random sample of training images [N,*sides,C].

    Raises:
        RequestError: there is no network for these images, or they cannot be read.
    """
    if network is None:
        raise RequestError("--data needs a SPEC: the experiment's own networks take no images")
    from reskeras.data import load
    from reskeras.data.pixels import scaled

    with quiet_tensorflow():
        images = load(data, image_shape(network), how)
        network = fitted(network, images, console)
        sample = scaled(images.sampled(_IMAGES), images.peak)
    return network, sample.reshape(len(sample), *network.input_shape)


def _print(found: Any) -> None:
    """Prints a result for people."""
    rows = [("claim", "theory", "measured", "verdict")]
    for check in found.checks:
        expected = "-"
        if check.expected is not None:
            expected = f"{three_digits(check.expected)} ± {check.tolerance:.2g}"
        verdict = check.verdict.value + (f": {check.why_not}" if check.why_not else "")
        rows.append((check.claim, expected, three_digits(check.measured), verdict))
    print_columns(rows, right=(1, 2))
    click.echo(f"\n{found.text}")
    sources = list(dict.fromkeys(check.source for check in found.checks))
    click.echo("\nsources: " + "\n         ".join(sources))
