"""`reskeras doctor`."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import click
from rich.console import Console

import reskeras
from reskeras.cli import options, reading
from reskeras.cli.loading import load_keras_on_tensorflow, quiet_tensorflow
from reskeras.cli.networks import NetworkKind, resolve
from reskeras.cli.networks import recipe as read_recipe
from reskeras.cli.tables import keep_decoded, tell_data
from reskeras.cli.train import fitted
from reskeras.cli.values import COUNT
from reskeras.data.options import Cache, DataOptions
from reskeras.files import check_free, replacing
from reskeras.spec import Recipe, image_shape
from reskeras.spec.text import dump_recipe


@click.command()
@click.argument("spec", required=False)
@options.data("digits")
@reading.how
@reading.cache
@click.option(
    "--fix", metavar="FILE", type=options.file_path,
    help="Write the spec with changes that heal what was found into this .yaml file.",
)  # fmt: skip
@click.option(
    "--max-memory", type=COUNT, show_default="what is safe on this machine",
    help="Bytes that training may need, such as 4G.",
)  # fmt: skip
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True,
              help="What weights and samples follow from.")  # fmt: skip
@options.as_json
def doctor(
    spec: str | None,
    data: str,
    how: DataOptions,
    cache: Cache,
    fix: Path | None,
    max_memory: int | None,
    seed: int,
    as_json: bool,
) -> None:
    """Each sign has a number, and the limit beyond which trainings tend to fail.

    SPEC is a preset's name or a spec file; without one, the default network for the data is
    examined. It looks at memory, batches, classes, the receptive field, the scale of activations
    and gradients, dead units, and the learning rate; and by short trainings at whether the network
    can learn 64 images by heart, and whether labels belong to their images. What it finds is no
    error: the exit status is 0.
    """
    if fix is not None:
        check_free(fix, hint="choose another name")
    given = None
    if spec is not None:
        given = read_recipe(resolve(spec, NetworkKind.PRESET, NetworkKind.SPEC))
    console = Console(stderr=True, markup=False)
    console.print(
        f"reskeras {reskeras.__version__} · loading TensorFlow ...", style="dim", highlight=False
    )
    from reskeras.data import load

    resize = None if given is None else given.train.resize
    how = dataclasses.replace(how, cache=cache, resize=resize)
    with quiet_tensorflow():
        if given is None:
            images = load(data, None, how)
            recipe, _ = images.task.default_space(images.facts)
        else:
            images = load(data, image_shape(given.spec), how)
            recipe = Recipe(spec=fitted(given.spec, images, console), train=given.train)
        load_keras_on_tensorflow()
    tell_data(images, console)

    from reskeras.lab.doctor import Case, examine, heal
    from tuning.running.machine import safe_memory

    memory = safe_memory(1) if max_memory is None else max_memory
    case = Case(recipe=recipe, data=keep_decoded(images, console), memory=memory, seed=seed)
    findings = []
    with quiet_tensorflow():
        for finding in examine(case):
            findings.append(finding)
            if not as_json:
                _print(finding)
    healed, left = case, [finding for finding in findings if not finding.healthy]
    changes: list[str] = []
    if fix is not None and left:
        with quiet_tensorflow():
            healed, left = heal(case, findings, changes.append)
        if healed is not case:
            with replacing(fix) as partial:
                partial.write_text(dump_recipe(healed.recipe), encoding="utf-8")
    if as_json:
        document: dict[str, Any] = {
            "network": recipe.spec.name,
            "data": images.name,
            "findings": [finding.document() for finding in findings],
            "changes": changes,
            "left": [finding.sign for finding in left],
        }
        click.echo(json.dumps(document, indent=2))
        return
    for line in changes:
        click.echo(line)
    if healed is not case:
        click.echo(f"saved: {fix}")
    elif fix is not None:
        click.echo(f"{fix} is not written: there is nothing to change")


def _print(finding: Any) -> None:
    """Prints a finding for people; what is unhealthy with its source and what to change."""
    mark = "ok " if finding.healthy else "BAD"
    click.echo(f"{mark} {finding.sign}: {finding.says} ({finding.told_limit})")
    if not finding.healthy:
        click.echo(f"    limit: {finding.source}\n    change: {finding.advice}")
