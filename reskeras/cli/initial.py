"""`train.init` on the command line: what it names becomes a file or a word of the library."""

import dataclasses
import shutil
import tempfile
from pathlib import Path

from reskeras.cli.networks import NetworkKind, find_run, resolve
from reskeras.files import replacing
from reskeras.spec import Recipe
from reskeras.spec.training import IMAGENET, SCRATCH
from tuning.space import Space

_FOLDER = Path("initial")
"""Where the models of runs are kept: a recipe names them, and is to work again."""
_PATH = "train.init"


def with_initial(recipe: Recipe, uri: str | None, word: str | None = None) -> Recipe:
    """A recipe whose `train.init` the library understands, in any folder.

    Args:
        recipe: the recipe.
        uri: the MLflow store.
        word: what to start from instead of the recipe's own; None for that.

    Raises:
        RequestError: there is no such file, folder or run.
    """
    init = _found(recipe.train.init if word is None else word, uri)
    return dataclasses.replace(recipe, train=dataclasses.replace(recipe.train, init=init))


def space_with_initial(space: Space, uri: str | None) -> Space:
    """A space whose every `train.init` the library understands; see `with_initial`."""
    vary = dict(space.vary)
    start = [dict(point) for point in space.start]
    if isinstance(words := vary.get(_PATH), tuple):
        vary[_PATH] = tuple(_found(str(word), uri) for word in words)
        for point in start:
            if _PATH in point:
                point[_PATH] = _found(str(point[_PATH]), uri)
    return Space(with_initial(space.base, uri), vary, start=start)


def _found(word: str, uri: str | None) -> str:
    if word in (SCRATCH, IMAGENET):
        return word
    network = resolve(word, NetworkKind.MODEL, NetworkKind.RUN)
    if network.kind is NetworkKind.MODEL:
        return str(network.path.resolve())
    runs, run = find_run(word, uri)
    kept = _FOLDER / f"{run.run_id}.keras"
    if not kept.exists():
        _FOLDER.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory() as folder, replacing(kept) as partial:
            shutil.copyfile(runs.model(run, Path(folder)), partial)
    return str(kept.resolve())
