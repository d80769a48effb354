"""Trained networks: their files, and the names of their classes."""

import contextlib
import dataclasses
import json
import math
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

from rich.console import Console

import reskeras
from reskeras.cli.loading import load_keras_on_tensorflow, quiet_tensorflow
from reskeras.cli.networks import NetworkKind, find_run, resolve
from reskeras.errors import RequestError
from reskeras.spec import Pixels, Resize
from tuning.record.journal import read_header

ABOUT = "data.json"
"""Written by `reskeras train` beside a model: its data, like `about.data` of a journal."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Found:
    """A trained network on disk."""

    path: Path
    """The `.keras` file."""
    called: str
    """How messages refer to it."""
    data: Mapping[str, Any]
    """The facts of its data, like `about.data` of a journal; empty if they are not known."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """Empty if they are not known."""
        return tuple(self.data.get("class_names", ()))


@contextlib.contextmanager
def find_model(word: str, tracking_uri: str | None) -> Iterator[Found]:
    """Finds a `.keras` file, the one in a folder, or the model of a run.

    A run's model exists until the context ends.

    Raises:
        RequestError: there is none.
    """
    network = resolve(word, NetworkKind.MODEL, NetworkKind.RUN)
    if network.kind is NetworkKind.RUN:
        runs, run = find_run(word, tracking_uri)
        with tempfile.TemporaryDirectory() as folder:
            data = runs.data(run, Path(folder)) or _data_of_search(
                Path("searches") / run.search, run.search_id
            )
            yield Found(path=runs.model(run, Path(folder)), called=run.describe(), data=data)
        return
    path = network.path
    data = (
        _data_of_search(path.parent)
        if path.name == "best.keras"
        else _data_of_training(path.parent)
    )
    yield Found(path=path, called=str(path), data=data)


def load_model(found: Found) -> Any:
    """Loads TensorFlow and the network.

    Raises:
        RequestError: the file is damaged, Keras cannot load it, or its data are another network's.
    """
    console = Console(stderr=True, markup=False)
    console.print(
        f"reskeras {reskeras.__version__} · loading TensorFlow ...", style="dim", highlight=False
    )
    with quiet_tensorflow():
        load_keras_on_tensorflow()
        from reskeras.models.outputs import check_record
        from reskeras.models.saved import load_saved
    network = load_saved(found.path, found.called)
    check_record(network, found.data, found.called)
    return network


def _data_of_search(folder: Path, search_id: str | None = None) -> dict[str, Any]:
    """The data in the first line of a search's journal; empty if it is another search's."""
    header = read_header(folder / "journal.jsonl")
    if header is None or search_id not in (None, header["search_id"]):
        return {}
    return dict(header["about"]["data"])


def _data_of_training(folder: Path) -> dict[str, Any]:
    about = folder / ABOUT
    return _document(about) if about.is_file() else {}


def _document(about: Path) -> dict[str, Any]:
    """What `reskeras train` has written about the data of a network.

    Raises:
        RequestError: it is damaged: images would be scaled in another way than in training.
    """
    try:
        found = json.loads(about.read_text(encoding="utf-8"))
        peak, names = found.get("peak"), found.get("class_names", [])
        is_whole = (
            (peak is None or (type(peak) in (int, float) and 0 < peak < math.inf))
            and found.get("resize", "stretch") in get_args(Resize)
            and found.get("pixels", "bytes") in get_args(Pixels)
            and isinstance(names, list)
            and all(isinstance(name, str) for name in names)
        )
    except (ValueError, AttributeError):
        is_whole = False
    if not is_whole:
        raise RequestError(
            f"{about}: damaged; it says how images were scaled in training: train again, or delete "
            "it if they were bytes, stretched to the network's input"
        )
    return dict(found)
