"""`reskeras lab`."""

import json
import time
from pathlib import Path
from typing import Any

import click
from rich import box
from rich.console import Console
from rich.table import Table as RichTable

import reskeras
from reskeras.cli import options, reading
from reskeras.cli.loading import load_keras_on_tensorflow, quiet_tensorflow
from reskeras.cli.networks import NetworkKind, recipe, resolve
from reskeras.cli.tables import output_console, print_columns
from reskeras.cli.train import fitted
from reskeras.data.options import DataOptions
from reskeras.drawing.plot import check_picture, save
from reskeras.errors import RequestError, did_you_mean
from reskeras.files import check_free, replacing
from reskeras.spec import AnySpec, image_shape
from reskeras.words import three_digits

_IMAGES = 64
"""Training images that an experiment gets, a random sample."""
_ALL = "all"
_COLUMNS = "theory", "measured", "verdict"


@click.command()
@click.argument("name", required=False)
@click.argument("spec", required=False)
@options.data(show_default="independent normal numbers, or digits to train on")
@reading.how
@click.option(
    "--seeds", type=click.IntRange(2, 1000), show_default="what the experiment needs",
    help="How often a network is initialized, or trained.",
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
    seeds: int | None,
    seed: int,
    output: Path | None,
    table: Path | None,
    tracking_uri: str | None,
    no_mlflow: bool,
    as_json: bool,
) -> None:
    """NAME is an experiment, or `all`; without one, they are listed.

    SPEC is a preset's name or a spec file; without one, the experiment takes small networks of its
    own. Each claim gets a verdict: pass, fail, or no theory, if what the claim assumes does not
    hold for the network. A claim that fails is a finding, not an error: the exit status is 0.
    """
    from reskeras.lab import EXPERIMENTS

    if name is None:
        if output is not None or table is not None or as_json:
            raise RequestError(
                "-o, --csv and --json need an experiment (`reskeras lab` lists them)"
            )
        rows = [(each.name, each.measures) for each in EXPERIMENTS.values()]
        print_columns(rows, right=())
        return
    if name == _ALL:
        if spec is not None or data is not None or output is not None:
            raise RequestError(
                "`reskeras lab all` takes no SPEC, --data or -o: it runs each experiment as it is "
                "by default"
            )
    elif name not in EXPERIMENTS:
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
    given: dict[str, Any] = {"seed": seed}
    if seeds is not None:
        given["seeds"] = seeds
    if name == _ALL:
        _run_all(given, table, uri, console, as_json=as_json)
        return
    experiment = EXPERIMENTS[name]
    if data is not None:
        network, given[experiment.takes.value] = _input(
            data, network, how, experiment.takes, console
        )
    with quiet_tensorflow():
        found = experiment.run(network, **given)
    if output is not None:
        save(output, lambda: found.figure)
    if table is not None:
        _write(table, found.table)
    _keep(uri, found, data or experiment.default_data)
    if as_json:
        click.echo(found.json())
        return
    _print(found)
    for path in (output, table):
        if path is not None:
            click.echo(f"saved: {path}")


def _run_all(
    given: dict[str, Any], path: Path | None, uri: str | None, console: Console, *, as_json: bool
) -> None:
    """Runs all experiments as they are by default, and prints one table of their claims."""
    from reskeras.lab import EXPERIMENTS, Table

    documents, rows = [], []
    for each in EXPERIMENTS.values():
        console.print(
            f"{each.name}: {each.measures} ...", style="dim", highlight=False, soft_wrap=True
        )
        start = time.perf_counter()
        with quiet_tensorflow():
            found = each.run(None, **given)
        seconds = time.perf_counter() - start
        _keep(uri, found, each.default_data)
        documents.append(found.document() | {"seconds": seconds})
        rows += [
            (each.name, check.claim, check.source, *_numbers(check), round(seconds))
            for check in found.checks
        ]
    columns = ("experiment", "claim", "source", *_COLUMNS, "seconds")
    all_claims = Table(columns=columns, rows=tuple(rows))
    if path is not None:
        _write(path, all_claims)
    if as_json:
        click.echo(json.dumps(documents, indent=2))
        return
    shown = RichTable(*columns, box=box.SIMPLE_HEAD, show_lines=False)
    for row in rows:
        shown.add_row(*map(str, row))
    output_console().print(shown)


def _write(path: Path, table: Any) -> None:
    with replacing(path) as partial:
        partial.write_text(table.csv(), encoding="utf-8")


def _keep(uri: str | None, found: Any, data: str) -> None:
    """Keeps a result in MLflow, unless it is not to be kept."""
    if uri is None:
        return
    from tuning.tracking.experiment import log_result

    log_result(uri, found, data)


def _input(
    data: str, network: AnySpec | None, how: DataOptions, takes: Any, console: Console
) -> tuple[AnySpec | None, Any]:
    """The network fitted to the data, and what the experiment takes of them.

    Raises:
        RequestError: there is no network for these images, or they cannot be read.
    """
    from reskeras.lab import Input

    if network is None and takes is Input.IMAGES:
        raise RequestError("--data needs a SPEC: the experiment's own networks take no images")
    from reskeras.data import load

    with quiet_tensorflow():
        images = load(data, None if network is None else image_shape(network), how)
        if network is not None:
            network = fitted(network, images, console)
        if takes is Input.DATA:
            return network, images
        assert network is not None
        from reskeras.lab.probe import training_images

        return network, training_images(network, images, _IMAGES)


def _print(found: Any) -> None:
    """Prints a result for people."""
    rows = [("claim", *_COLUMNS)]
    rows += [(check.claim, *_numbers(check)) for check in found.checks]
    print_columns(rows, right=(1, 2))
    click.echo(f"\n{found.text}")
    sources = list(dict.fromkeys(check.source for check in found.checks))
    click.echo("\nsources: " + "\n         ".join(sources))


def _numbers(check: Any) -> tuple[str, str, str]:
    """What theory expects, what is measured, and the verdict."""
    from reskeras.lab import Bound

    expected = "-"
    if check.expected is not None:
        number = three_digits(check.expected)
        if check.bound is Bound.EQUAL:
            expected = f"{number} ± {check.tolerance:.2g}"
        else:
            # Beyond the bound by what chance explains.
            sign = -1 if check.bound is Bound.AT_LEAST else 1
            limit = check.expected + sign * check.tolerance
            expected = f"{check.bound.value} {three_digits(limit)}"
    verdict = check.verdict.value + (f": {check.why_not}" if check.why_not else "")
    return expected, three_digits(check.measured), verdict
