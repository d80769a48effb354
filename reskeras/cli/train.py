"""`reskeras train`."""

import dataclasses
import itertools
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import click
from rich.console import Console

import reskeras
from reskeras.cli.loading import load_keras, quiet_tensorflow
from reskeras.cli.models import ABOUT
from reskeras.cli.show import names_a_run
from reskeras.cli.specs import is_file
from reskeras.spec import Recipe, image_shape
from reskeras.spec.text import dump_recipe, load_recipe
from reskeras.tasks import LOSS, write_score
from tuning.tracking import tracking_uri as resolve_uri
from tuning.tracking.runs import Kind, Run, Runs, Status


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Source:
    """What is trained, and where it comes from."""

    recipe: Recipe
    name: str
    """Of the folder for what is trained."""
    data: str = "digits"
    """What --data takes where it is not given; empty where the data cannot be found again."""
    digest: str | None = None
    """Of the data of a run."""
    run: Run | None = None
    """The trial or final training that this repeats."""
    epochs: int = 0
    """After which that run ended."""


@click.command()
@click.argument("network")
@click.option(
    "--data",
    help="digits, a TFDS name, a folder of images, or an .npz  [default: digits, or the run's own data]",
)
@click.option("--epochs", type=click.IntRange(min=1), help="in place of the file's train.epochs")
@click.option("--seed", type=click.IntRange(min=0), help="in place of the file's train.seed")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="folder for model.keras and spec.yaml  [default: trained/NAME]",
)
@click.option(
    "--tracking-uri",
    help="of a run's MLflow store  [default: $MLFLOW_TRACKING_URI, else sqlite:///mlflow.db here]",
)
def train(
    network: str,
    data: str | None,
    epochs: int | None,
    seed: int | None,
    out: Path | None,
    tracking_uri: str | None,
) -> None:
    """Train NETWORK and score it once on the test split.

    NETWORK is a preset's name, a spec file, or the id of a run in MLflow (its first 6 digits may do): a trial is then trained as it
    was, on its data. Input shape and number of classes follow the data. A `train:` section in a file says how it is trained.
    """
    console = Console(stderr=True, markup=False)
    source = _source(network, tracking_uri, console)
    if data is None and not source.data:
        raise reskeras.RequestError(
            f"the data of run {network} were arrays in memory; --data says where they are"
        )
    recipe, data = source.recipe, source.data if data is None else data
    # The same network, seed and number of epochs: then the score must be the run's.
    repeated = source.run if epochs is None and seed is None else None
    changes: dict[str, Any] = {
        name: value for name, value in {"epochs": epochs, "seed": seed}.items() if value is not None
    }
    console.print(
        f"reskeras {reskeras.__version__} · loading TensorFlow ...", style="dim", highlight=False
    )
    folder = out or _new_folder(Path("trained"), source.name)
    if folder.exists() and not folder.is_dir():
        raise reskeras.RequestError(f"--out {folder}: a file is in the way")
    from reskeras.data import open_data

    with quiet_tensorflow():
        images = open_data(data, image_shape(recipe.model))
        recipe = Recipe(
            model=_fitted(recipe.model, images, console),
            train=dataclasses.replace(recipe.train, **changes),
        )
        load_keras()
        from reskeras.training.state import Epoch
        from reskeras.training.train import build_seeded, evaluate
        from reskeras.training.train import train as fit

    console.print(images.describe(), highlight=False)
    if source.digest is not None and source.digest != images.digest:
        console.print(
            f"warning: these are not the data of the run: their digest is {images.digest!r}, the run's {source.digest!r}",
            style="yellow",
            highlight=False,
            soft_wrap=True,
        )
        repeated = None
    last = recipe.train.epochs if repeated is None else min(source.epochs, recipe.train.epochs)
    if last < recipe.train.epochs:
        console.print(
            f"as the run, this ends after epoch {last}; --epochs {recipe.train.epochs} goes on",
            highlight=False,
        )
    model: Any = build_seeded(recipe)
    params = reskeras.cost(recipe.model).trainable_params
    console.print(f"{recipe.model.name}: {params:,} parameters, {last} epochs", highlight=False)

    def on_epoch(epoch: Epoch) -> None:
        scores = "  ".join(
            f"{name} {write_score(name, value)}"
            for name, value in epoch.metrics.items()
            if name == LOSS.name or name.startswith("val_")
        )
        console.print(
            f"epoch {epoch.number:>3} of {last}  {scores}  {epoch.seconds:.1f} s", highlight=False
        )

    try:
        trained = fit(model, images, recipe.train, last_epoch=last, on_epoch=on_epoch)
    except FloatingPointError as error:
        raise RuntimeError(
            f"training diverged: {error}; a lower train.learning_rate helps"
        ) from error
    folder.mkdir(parents=True, exist_ok=True)
    model.save(folder / ".model.partial.keras")
    os.replace(folder / ".model.partial.keras", folder / "model.keras")
    (folder / "spec.yaml").write_text(dump_recipe(recipe), encoding="utf-8")
    about = {
        "name": images.name,
        "source": images.source,
        "class_names": images.class_names,
        "image_shape": images.image_shape,
    }
    (folder / ABOUT).write_text(json.dumps(about), encoding="utf-8")
    if repeated is not None and repeated.score is not None:
        score = trained[-1].metrics[repeated.objective]
        if score == repeated.score:
            console.print(
                f"{repeated.objective}: exactly the run's {score!r}", style="green", highlight=False
            )
        else:
            console.print(
                f"{repeated.objective}: {score!r}, not the run's {repeated.score!r}. On this machine, it may have had fewer "
                "threads, which add up otherwise: TF_NUM_INTRAOP_THREADS sets them (cores / --workers)",
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


def _source(network: str, tracking_uri: str | None, console: Console) -> _Source:
    if is_file(network):
        return _Source(recipe=load_recipe(network), name=Path(network).stem)
    if not names_a_run(network):
        return _Source(recipe=Recipe(model=reskeras.preset(network)), name=Path(network).stem)
    runs = Runs(resolve_uri(tracking_uri))
    asked = run = runs.find(network)
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
            f"warning: it began with the weights of trial {run.grown_from}, and begins anew here: its score will be another",
            style="yellow",
            highlight=False,
            soft_wrap=True,
        )
    epochs = (
        runs.epochs(run)
        if run.status in (Status.FINISHED, Status.STOPPED) and run.kind is not Kind.SEARCH
        else 0
    )
    return _Source(
        recipe=recipe,
        name=search.search
        if asked is search
        else f"{search.search}-{run.tags.get('reskeras.key', run.number)}",
        data=search.params.get("data_source", search.params.get("data", "digits")),
        digest=search.params.get("data_digest"),
        run=run if epochs and run.grown_from is None else None,
        epochs=epochs,
    )


def _new_folder(parent: Path, name: str) -> Path:
    """A folder that is not there yet: what was trained before stays."""
    names = itertools.chain([name], (f"{name}-{number}" for number in itertools.count(2)))
    return next(folder for folder in (parent / name for name in names) if not folder.exists())


def _fitted(model: Any, images: Any, console: Console) -> Any:
    try:
        fitted = images.task.fit(model, images.image_shape, images.classes)
    except ValueError as error:
        raise reskeras.RequestError(
            f"the network does not fit the data {images.name!r}: {error}"
        ) from error
    if fitted != model:
        shape, old = ("x".join(map(str, m.input_shape)) for m in (fitted, model))
        console.print(
            f"input_shape and classes follow the data: {shape} and {images.classes} (the spec has {old} and {model.head.classes})",
            highlight=False,
            soft_wrap=True,
        )
    return fitted
