"""Trained networks by what a person calls them: a file, a folder of a search or a training, a run in MLflow."""

import contextlib
import dataclasses
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console

import reskeras
from reskeras.cli.loading import load_keras, quiet_tensorflow
from reskeras.cli.show import names_a_run
from reskeras.errors import RequestError
from tuning.record.journal import read_header

ABOUT = "data.json"
"""What `reskeras train` leaves beside a model: its data, in the words of a journal's `about.data`."""
_MODELS = ("best.keras", "model.keras")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Found:
    """A trained network on disk."""

    path: Path
    """The `.keras` file."""
    called: str
    """What messages call it."""
    class_names: tuple[str, ...]
    """Empty where they are not known."""


@contextlib.contextmanager
def find_model(word: str, tracking_uri: str | None) -> Iterator[Found]:
    """Finds a `.keras` file, the one in a folder, or the model of a run, which is there until the context ends.

    Raises:
        RequestError: there is none.
    """
    path = Path(word)
    if names_a_run(word):
        from tuning.tracking import tracking_uri as resolve_uri
        from tuning.tracking.runs import Runs

        runs = Runs(resolve_uri(tracking_uri))
        run = runs.find(word)
        with tempfile.TemporaryDirectory() as folder:
            names = runs.class_names(run, Path(folder)) or _names_of_search(
                Path("searches") / run.search, run.search_id
            )
            yield Found(
                path=runs.model(run, Path(folder)), called=run.describe(), class_names=names
            )
        return
    if path.is_dir():
        found = next((path / name for name in _MODELS if (path / name).is_file()), None)
        if found is None:
            raise RequestError(
                f"{path}: has neither {' nor '.join(_MODELS)}; `reskeras tune` and `reskeras train` leave them"
            )
        path = found
    elif not path.is_file():
        raise RequestError(
            f"{word!r} is no model: give a .keras file, a folder such as searches/NAME or trained/NAME, or the id of a run"
        )
    elif path.suffix != ".keras":
        raise RequestError(f"{path}: a trained network is a .keras file")
    names = (
        _names_of_search(path.parent)
        if path.name == "best.keras"
        else _names_of_training(path.parent)
    )
    yield Found(path=path, called=str(path), class_names=names)


def load_model(found: Found) -> Any:
    """The network itself; TensorFlow is loaded for it.

    Raises:
        RequestError: Keras cannot load the file.
    """
    console = Console(stderr=True, markup=False)
    console.print(
        f"reskeras {reskeras.__version__} · loading TensorFlow ...", style="dim", highlight=False
    )
    with quiet_tensorflow():
        load_keras()
        import keras

        from reskeras.models import keras_layers  # noqa: F401  which registers what networks may hold
    try:
        return keras.saving.load_model(found.path, compile=False)
    except Exception as error:
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        raise RequestError(f"{found.called}: not a model that Keras can load: {reason}") from error


def _names_of_search(folder: Path, search_id: str | None = None) -> tuple[str, ...]:
    """From the first line of a search's journal; of that search alone where one is named."""
    header = read_header(folder / "journal.jsonl")
    if header is None or search_id not in (None, header["search_id"]):
        return ()
    return tuple(header["about"]["data"]["class_names"])


def _names_of_training(folder: Path) -> tuple[str, ...]:
    about = folder / ABOUT
    return (
        tuple(_document(about.read_text(encoding="utf-8")).get("class_names", ()))
        if about.is_file()
        else ()
    )


def _document(text: str) -> dict[str, Any]:
    try:
        told = json.loads(text)
    except ValueError:
        return {}  # names are a help, no more
    return told if isinstance(told, dict) else {}
