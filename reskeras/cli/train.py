"""`reskeras train`."""

import dataclasses
import itertools
import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
from rich.console import Console

import reskeras
from reskeras.cli import options, reading
from reskeras.cli.initial import with_initial
from reskeras.cli.loading import load_keras, quiet_tensorflow
from reskeras.cli.models import ABOUT
from reskeras.cli.networks import NetworkKind, find_run, resolve
from reskeras.cli.networks import recipe as read_recipe
from reskeras.cli.tables import keep_decoded, tell_data
from reskeras.data.options import Cache, DataOptions
from reskeras.files import replacing, try_folder, write_text
from reskeras.spec import Recipe, image_shape
from reskeras.spec.recipes import by_recipe
from reskeras.spec.text import dump_recipe
from reskeras.tasks import LOSS, objective_of, write_score
from tuning.tracking.runs import Kind, Run, Status


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Asked:
    """A recipe and its origin."""

    recipe: Recipe
    name: str
    """Name of the folder for the trained network."""
    data: str = "digits"
    """The default of --data; empty if the data cannot be opened again."""
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """`DataOptions` of the run's data, as a document."""
    digest: str | None = None
    """Digest of the run's data."""
    run: Run | None = None
    """The trial or final training to repeat."""
    epochs: int = 0
    """How many epochs that run was trained for."""


@click.command()
@click.argument("network")
@options.data(show_default="digits, or the data of the run")
@reading.how
@reading.cache
@click.option(
    "--epochs", type=click.IntRange(min=1), help="Train for this many epochs, not the spec's."
)
@click.option("--seed", type=click.IntRange(min=0), help="Use this seed, not the spec's.")
@options.recipe("Train by this recipe (`reskeras presets --recipes`), not by the spec's.")
@click.option(
    "--init",
    metavar="WEIGHTS",
    show_default="the spec's, or none",
    help="Start from imagenet, a .keras file, a folder with one, or the model of a run.",
)
@options.out("The folder for model.keras and spec.yaml.", show_default="trained/NAME")
@options.tracking_uri
def train(
    network: str,
    data: str | None,
    how: DataOptions,
    cache: Cache,
    epochs: int | None,
    seed: int | None,
    by: str | None,
    init: str | None,
    out: Path | None,
    tracking_uri: str | None,
) -> None:
    """The network is scored once on the test split.

    NETWORK is a preset's name, a spec file, or the id of a run in MLflow, of which the first 6
    digits are enough: a trial is then trained as it was, on its data. The input shape and the
    number of classes follow the data. The `train:` section of a spec file sets how the network is
    trained.
    """
    console = Console(stderr=True, markup=False)
    source = _source(network, tracking_uri, console)
    if data is None and not source.data:
        raise reskeras.RequestError(
            f"the data of run {network} were arrays in memory; pass data with --data"
        )
    recipe, data = source.recipe, source.data if data is None else data
    if by is not None:
        recipe = dataclasses.replace(recipe, train=by_recipe(by, recipe.train))
    # The same network, seed and number of epochs: the score must be the run's.
    repeated = source.run if (epochs, seed, by, init) == (None,) * 4 else None
    changes: dict[str, Any] = {
        name: value for name, value in {"epochs": epochs, "seed": seed}.items() if value is not None
    }
    recipe = with_initial(recipe, tracking_uri, init)
    # A run's options belong to its data.
    options = how.over(source.options) if data == source.data else how
    options = dataclasses.replace(options, cache=cache)
    if recipe.train.resize is not None:
        options = dataclasses.replace(options, resize=recipe.train.resize)
    console.print(
        f"reskeras {reskeras.__version__} · loading TensorFlow ...", style="dim", highlight=False
    )
    folder = out or _new_folder(Path("trained"), source.name)
    try_folder(folder)
    from reskeras.data import load

    with quiet_tensorflow():
        images = load(data, image_shape(recipe.spec), options)
        recipe = Recipe(
            spec=fitted(recipe.spec, images, console),
            train=dataclasses.replace(recipe.train, **changes),
        )
        load_keras()
        from reskeras.training.state import Epoch
        from reskeras.training.train import build_initial, evaluate
        from reskeras.training.train import train as fit

    tell_data(images, console)
    images = keep_decoded(images, console)
    if source.digest is not None and source.digest != images.digest:
        console.print(
            f"warning: this is not the data of the run: its digest is {images.digest!r}, the "
            f"run's is {source.digest!r}",
            style="yellow",
            highlight=False,
            soft_wrap=True,
        )
        repeated = None
    last = recipe.train.epochs if repeated is None else min(source.epochs, recipe.train.epochs)
    if last < recipe.train.epochs:
        console.print(
            f"like the run, this ends after epoch {last}; to train longer, pass --epochs "
            f"{recipe.train.epochs}",
            highlight=False,
        )
    model, taken = build_initial(recipe)
    params = reskeras.cost(recipe.spec).trainable_params
    console.print(f"{recipe.spec.name}: {params:,} parameters, {last} epochs", highlight=False)
    if taken.layers:
        console.print(taken.told(), highlight=False, soft_wrap=True)

    # A line of the terminal has no room for all of them.
    shown = (LOSS.name, f"val_{LOSS.name}", objective_of(images.task, None))

    def on_epoch(epoch: Epoch) -> None:
        scores = "  ".join(f"{name} {write_score(name, epoch.metrics[name])}" for name in shown)
        console.print(
            f"epoch {epoch.number:>3} of {last}  {scores}  {epoch.seconds:.1f} s", highlight=False
        )

    try:
        trained = fit(
            model, images, recipe.train, last_epoch=last, on_epoch=on_epoch, taken=taken.layers
        )
    except FloatingPointError as error:
        raise RuntimeError(
            f"training diverged: {error}; try a lower train.learning_rate"
        ) from error
    if trained[-1].ends or trained[-1].kept is not None:
        console.print(_about_end(trained), highlight=False, soft_wrap=True)
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(folder / "model.keras") as partial:
        model.save(partial)
    write_text(folder / "spec.yaml", dump_recipe(recipe))
    write_text(folder / ABOUT, json.dumps(images.about()))
    if repeated is not None and repeated.score is not None:
        score = trained[-1].scores[repeated.objective]
        if score == repeated.score:
            console.print(
                f"{repeated.objective}: exactly the run's {score!r}", style="green", highlight=False
            )
        else:
            console.print(
                f"{repeated.objective}: {score!r}, not the run's {repeated.score!r}. If it ran "
                "on this machine, it may have used "
                "fewer threads, which sum in another order: set TF_NUM_INTRAOP_THREADS to cores "
                "/ --workers",
                style="yellow",
                highlight=False,
                soft_wrap=True,
            )
    if "test" in images.sizes:
        test = evaluate(model, images, "test")
        click.echo(
            "test split: "
            + ", ".join(f"{name} {write_score(name, value)}" for name, value in test.items())
        )
    click.echo(f"saved: {folder}/model.keras, {folder}/spec.yaml")


def _about_end(trained: Sequence[Any]) -> str:
    """Says why a training ended early, and which epoch's weights are kept."""
    last = trained[-1]
    kept = next(epoch for epoch in trained if epoch.metrics == last.scores)
    parts = [f"ended after epoch {last.number}: no longer better"] if last.ends else []
    parts += [f"kept: the weights of epoch {kept.number}"] if kept is not last else []
    return "; ".join(parts)


def _source(network: str, tracking_uri: str | None, console: Console) -> _Asked:
    named = resolve(network, NetworkKind.PRESET, NetworkKind.SPEC, NetworkKind.RUN)
    if named.kind is not NetworkKind.RUN:
        return _Asked(recipe=read_recipe(named), name=named.name)
    runs, asked = find_run(network, tracking_uri)
    run = asked
    search = runs.search_of(run)
    with tempfile.TemporaryDirectory() as folder:
        recipe = runs.recipe(run, Path(folder))
    if run.kind is Kind.SEARCH and (winner := runs.winner(run)) is not None:
        with tempfile.TemporaryDirectory() as folder:
            if runs.recipe(winner, Path(folder)) == recipe:
                run = winner
    console.print(f"training {run.describe()} again", highlight=False)
    if run.grown_from is not None:
        console.print(
            f"warning: it started from the weights of trial {run.grown_from}, but starts over "
            "here, so its score will differ",
            style="yellow",
            highlight=False,
            soft_wrap=True,
        )
    epochs = (
        runs.epochs(run)
        if run.status in (Status.FINISHED, Status.STOPPED) and run.kind is not Kind.SEARCH
        else 0
    )
    return _Asked(
        recipe=recipe,
        name=search.search
        if asked is search
        else f"{search.search}-{run.tags.get('reskeras.key', run.number)}",
        data=search.params.get("data_source", search.params.get("data", "digits")),
        options=json.loads(search.params.get("data_options", "{}")),
        digest=search.params.get("data_digest"),
        run=run if epochs and run.grown_from is None else None,
        epochs=epochs,
    )


def _new_folder(parent: Path, name: str) -> Path:
    """A folder that does not exist yet, so nothing is overwritten."""
    names = itertools.chain([name], (f"{name}-{number}" for number in itertools.count(2)))
    return next(folder for folder in (parent / name for name in names) if not folder.exists())


def fitted(model: Any, images: Any, console: Console) -> Any:
    """A network fitted to the data; says what changes.

    Raises:
        RequestError: it does not fit them.
    """
    try:
        fitted = images.task.fit(model, images.facts)
    except ValueError as error:
        raise reskeras.RequestError(
            f"the network does not fit the data {images.name!r}: {error}"
        ) from error
    if fitted != model:
        shape, old = ("x".join(map(str, m.input_shape)) for m in (fitted, model))
        changes = [f"input_shape {shape} (the spec has {old})"] if shape != old else []
        changes += [
            f"head.{field} {value} (the spec has {getattr(model.head, field, None)})"
            for field, value in dataclasses.asdict(fitted.head).items()
            if value != getattr(model.head, field, None)
        ]
        console.print(
            f"follows the data: {', '.join(changes)}",
            highlight=False,
            soft_wrap=True,
        )
    return fitted
