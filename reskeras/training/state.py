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

_MAGIC = b"reskeras training 1\n"
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


def write_state(path: Path, state: State) -> None:
    """Writes a state atomically and returns once it is on disk."""
    arrays = {f"variable{n}": value for n, value in enumerate(state.values)}
    epochs = json.dumps([dataclasses.asdict(epoch) for epoch in state.epochs])
    buffer = io.BytesIO()
    np.savez(
        buffer,
        first=np.array(state.first),
        epoch=np.array(state.epoch),
        epochs=np.array(epochs),
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
    first, epoch = int(saved.pop("first")), int(saved.pop("epoch"))
    epochs = [Epoch(**epoch) for epoch in json.loads(str(saved.pop("epochs")))]
    values = [saved[f"variable{n}"] for n in range(len(saved))]
    return State(first=first, epoch=epoch, epochs=epochs, values=values)


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
    """Gives a model the weights of a saved state.

    False, and nothing is changed, where the state cannot be read or does not fit.
    """
    saved = read_state(path)
    return saved is not None and assign(model.variables, saved.values[: len(model.variables)])
