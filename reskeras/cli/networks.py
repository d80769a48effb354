"""Resolves a word on the command line: a preset, a spec file, a trained network, or a run."""

from __future__ import annotations

import dataclasses
import enum
from pathlib import Path
from typing import TYPE_CHECKING

import reskeras
from reskeras.errors import RequestError, did_you_mean
from reskeras.spec import Recipe
from reskeras.spec.text import load_recipe

if TYPE_CHECKING:
    from tuning.tracking.runs import Run, Runs

_MODELS = ("best.keras", "model.keras")
"""The trained network in a folder, as `reskeras tune` and `reskeras train` call it."""
_SPECS = (".yaml", ".yml", ".json")


class NetworkKind(enum.Enum):
    """What a word can name, and how messages describe it."""

    PRESET = "a preset"
    SPEC = "a spec file (.yaml, .json)"
    MODEL = "a .keras file or a folder with one (searches/NAME, trained/NAME)"
    RUN = "the id of an MLflow run"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Network:
    """A network and the word that names it."""

    kind: NetworkKind
    word: str
    path: Path
    """The path of a spec file or `.keras` file; otherwise the word."""

    @property
    def name(self) -> str:
        """The base name of files that are made from it."""
        return self.word if self.kind is NetworkKind.PRESET else self.path.stem


def resolve(word: str, *wanted: NetworkKind) -> Network:
    """Resolves a word to one of the wanted kinds. Loads MLflow only for a run's id.

    A preset takes precedence over a file of its name, and a file over a run.

    Raises:
        RequestError: the word names none of them; the message says what was found and what to give.
    """
    if not word:  # an unset variable of the shell, and no current folder
        raise RequestError("the name of the network is empty")
    path = Path(word)
    kind = _kind(word, path)
    if kind is NetworkKind.MODEL and kind in wanted and path.is_dir():
        path = _in_folder(path)
    if kind in wanted:
        return Network(kind=kind, word=word, path=path)
    give = " or ".join([", ".join(each.value for each in wanted[:-1]), wanted[-1].value])
    if kind is not None:
        raise RequestError(
            f"{word!r} is {'a folder' if path.is_dir() else _FOUND[kind]}; give {give}"
        )
    if path.exists():
        raise RequestError(f"{word!r} is not {give}")
    near = did_you_mean(word, reskeras.presets()) if NetworkKind.PRESET in wanted else ""
    listed = " (`reskeras presets` lists them)" if NetworkKind.PRESET in wanted else ""
    raise RequestError(f"{word!r} is not {give.replace('a preset', f'a preset{listed}')}{near}")


def recipe(network: Network) -> Recipe:
    """The recipe of a preset or a spec file.

    Raises:
        RequestError: the file cannot be read, or one line for every mistake in it.
    """
    if network.kind is NetworkKind.SPEC:
        return load_recipe(network.path)
    return Recipe(spec=reskeras.preset(network.word))


def find_run(word: str, uri: str | None) -> tuple[Runs, Run]:
    """Finds a run by its id or the start of it; returns it and the runs of its store.

    Raises:
        RequestError: there is no such store or run, or there are several.
        RuntimeError: the store cannot be read.
    """
    from tuning.tracking import tracking_uri
    from tuning.tracking.runs import Runs

    runs = Runs(tracking_uri(uri))
    return runs, runs.find(word)


_FOUND = {
    NetworkKind.PRESET: "a preset",
    NetworkKind.SPEC: "a spec file",
    NetworkKind.MODEL: "a trained network",
    NetworkKind.RUN: "the id of a run",
}


def _kind(word: str, path: Path) -> NetworkKind | None:
    if word in reskeras.presets():
        return NetworkKind.PRESET
    if path.suffix in _SPECS:
        return NetworkKind.SPEC
    if path.is_dir() or (path.suffix == ".keras" and path.is_file()):
        return NetworkKind.MODEL
    if path.exists():
        return None
    from tuning.tracking.runs import is_run_id

    return NetworkKind.RUN if is_run_id(word) else None


def _in_folder(folder: Path) -> Path:
    for name in _MODELS:
        if (folder / name).is_file():
            return folder / name
    raise RequestError(
        f"{folder}: has neither {' nor '.join(_MODELS)}, which `reskeras tune` and `reskeras "
        "train` write"
    )
