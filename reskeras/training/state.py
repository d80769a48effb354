"""A training's state on disk: all that is needed to continue it in another process."""

import dataclasses
import hashlib
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from reskeras.files import replacing

_MAGIC = b"reskeras training 2\n"
"""Starts the file; then comes the SHA-256 of the rest, which is an .npz."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Epoch:
    """The result of one epoch of training."""

    number: int
    """Epochs trained in all, counted from 1."""
    metrics: Mapping[str, float]
    """`loss` and the task's metrics; those of the validation split start with `val_`."""
    seconds: float
    """Wall time of the epoch, including recalibration and validation."""
    kept: Mapping[str, float] | None = None
    """The metrics of the best epoch so far, if a training that ends here keeps the weights of an
    earlier one; otherwise None, and the weights are this epoch's."""
    ends: bool = False
    """Whether the training ends here because it no longer improves."""

    @property
    def scores(self) -> Mapping[str, float]:
        """The metrics of the weights that a training that ends here keeps."""
        return self.metrics if self.kept is None else self.kept


@dataclasses.dataclass(frozen=True, kw_only=True)
class State:
    """The contents of the file."""

    first: int
    """Epochs that the weights had been trained for when the training started."""
    epoch: int
    """Epochs trained in all."""
    epochs: Sequence[Epoch]
    values: Sequence[Any]
    """Values of the model's variables, then of the optimizer's."""
    start: int
    """The step of the whole training at which the optimizer started to count."""
    best: Sequence[Any]
    """Values of the model's variables after the best epoch; empty if the last epoch's are kept."""


def write_state(path: Path, state: State) -> None:
    """Writes a state atomically and returns once it is on disk."""
    arrays = {f"variable{n}": value for n, value in enumerate(state.values)}
    arrays |= {f"best{n}": value for n, value in enumerate(state.best)}
    epochs = json.dumps([dataclasses.asdict(epoch) for epoch in state.epochs])
    buffer = io.BytesIO()
    np.savez(
        buffer,
        first=np.array(state.first),
        epoch=np.array(state.epoch),
        epochs=np.array(epochs),
        start=np.array(state.start),
        **arrays,
    )
    with replacing(path, durable=True) as partial, open(partial, "wb") as file:
        file.write(_MAGIC + hashlib.sha256(buffer.getbuffer()).digest())
        file.write(buffer.getbuffer())


def read_state(path: Path) -> State | None:
    """Reads a state; None where there is no file, or one that is damaged or something else."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    header = len(_MAGIC) + hashlib.sha256().digest_size
    body = content[header:]
    if content[:header] != _MAGIC + hashlib.sha256(body).digest():
        return None
    with np.load(io.BytesIO(body)) as file:
        saved = dict(file)
    first, epoch, start = (int(saved.pop(name)) for name in ("first", "epoch", "start"))
    epochs = [Epoch(**epoch) for epoch in json.loads(str(saved.pop("epochs")))]
    values, best = (
        [saved[f"{name}{n}"] for n in range(sum(key.startswith(name) for key in saved))]
        for name in ("variable", "best")
    )
    return State(first=first, epoch=epoch, epochs=epochs, values=values, start=start, best=best)


def values_of(variables: Iterable[Any]) -> list[Any]:
    """The values of variables, as a state holds them."""
    return [keras.ops.convert_to_numpy(variable) for variable in variables]


def assign(variables: Sequence[Any], values: Sequence[Any]) -> bool:
    """Gives variables their values; False, and nothing is changed, where they do not fit."""
    found = [(value.shape, str(value.dtype)) for value in values]
    if found != [(tuple(variable.shape), str(variable.dtype)) for variable in variables]:
        return False
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)
    return True


def restore_weights(model: Any, path: Path) -> bool:
    """Gives a model the weights that the training of a saved state keeps.

    False, and nothing is changed, where the state cannot be read or does not fit.
    """
    saved = read_state(path)
    return saved is not None and assign(
        model.variables, saved.best or saved.values[: len(model.variables)]
    )
