"""`reskeras train`."""

import dataclasses
import itertools
import os
from pathlib import Path
from typing import Any

import click
from rich.console import Console

import reskeras
from reskeras.cli.loading import load_keras, quiet_tensorflow
from reskeras.cli.specs import is_file
from reskeras.spec import Recipe, fit_to_data, image_shape
from reskeras.textio import dump_recipe, load_recipe
from tuning.report import percent


@click.command()
@click.argument("network")
@click.option("--data", default="digits", show_default=True, help="digits, a TFDS name, a folder of images, or an .npz")
@click.option("--epochs", type=click.IntRange(min=1), help="in place of the file's train.epochs")
@click.option("--seed", type=click.IntRange(min=0), help="in place of the file's train.seed")
@click.option("--out", type=click.Path(path_type=Path), help="folder for model.keras and spec.yaml  [default: trained/NAME]")
def train(network: str, data: str, epochs: int | None, seed: int | None, out: Path | None) -> None:
    """Train NETWORK, a preset's name or a spec file, and score it once on the test split.

    Its input shape and number of classes follow the data. A `train:` section in the file says how it is trained.
    """
    console = Console(stderr=True, markup=False)
    recipe = load_recipe(network) if is_file(network) else Recipe(model=reskeras.preset(network))
    changes: dict[str, Any] = {name: value for name, value in {"epochs": epochs, "seed": seed}.items() if value is not None}
    console.print(f"reskeras {reskeras.__version__} · loading TensorFlow ...", style="dim", highlight=False)
    folder = out or _new_folder(Path("trained"), Path(network).stem)
    if folder.exists() and not folder.is_dir():
        raise reskeras.RequestError(f"--out {folder}: a file is in the way")
    from reskeras.data import open_data

    with quiet_tensorflow():
        images = open_data(data, image_shape(recipe.model))
        recipe = Recipe(model=_fitted(recipe.model, images, console), train=dataclasses.replace(recipe.train, **changes))
        load_keras()
        from reskeras.train import Epoch, build_seeded, evaluate
        from reskeras.train import train as fit

    console.print(images.describe(), highlight=False)
    model: Any = build_seeded(recipe)
    params = reskeras.cost(recipe.model).trainable_params
    console.print(f"{recipe.model.name}: {params:,} parameters, {recipe.train.epochs} epochs", highlight=False)

    def on_epoch(epoch: Epoch) -> None:
        scores = "  ".join(
            f"{name} {percent(name, value)}" for name, value in epoch.metrics.items() if not name.startswith("accuracy")
        )
        console.print(f"epoch {epoch.number:>3} of {recipe.train.epochs}  {scores}  {epoch.seconds:.1f} s", highlight=False)

    try:
        fit(model, images, recipe.train, on_epoch=on_epoch)
    except FloatingPointError as error:
        raise RuntimeError(f"training diverged: {error}; a lower train.learning_rate helps") from error
    folder.mkdir(parents=True, exist_ok=True)
    model.save(folder / ".model.partial.keras")
    os.replace(folder / ".model.partial.keras", folder / "model.keras")
    (folder / "spec.yaml").write_text(dump_recipe(recipe), encoding="utf-8")
    if "test" in images.sizes:
        test = evaluate(model, images, "test")
        click.echo("test split: " + ", ".join(f"{name} {percent(name, value)}" for name, value in test.items()))
    click.echo(f"saved: {folder}/model.keras, {folder}/spec.yaml")


def _new_folder(parent: Path, name: str) -> Path:
    """A folder that is not there yet: what was trained before stays."""
    names = itertools.chain([name], (f"{name}-{number}" for number in itertools.count(2)))
    return next(folder for folder in (parent / name for name in names) if not folder.exists())


def _fitted(model: Any, images: Any, console: Console) -> Any:
    try:
        fitted = fit_to_data(model, images.image_shape, images.classes, images.task)
    except ValueError as error:
        raise reskeras.RequestError(f"the network does not fit the data {images.name!r}: {error}") from error
    if fitted != model:
        shape, old = ("x".join(map(str, m.input_shape)) for m in (fitted, model))
        console.print(
            f"input_shape and classes follow the data: {shape} and {images.classes} (the spec has {old} and {model.head.classes})",
            highlight=False,
            soft_wrap=True,
        )
    return fitted
