"""Asks an exported file with its own runtime, and compares it with the Keras model."""

import dataclasses
import enum
import os
import statistics
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from reskeras.models.export_forms import FileFormat, Precision
from reskeras.models.outputs import outputs_by_name
from reskeras.tasks import Labels, task_called
from reskeras.tasks.class_labels import threshold
from reskeras.words import percent

_Array = np.ndarray[Any, Any]
Ask = Callable[[_Array], list[_Array]]
"""From images [N,...] to the outputs [N,...] of a network, in the order of `keras.tree.flatten`."""

_TOLERANCES = {Precision.FLOAT32: 1e-4, Precision.FLOAT16: 1e-2}
"""The largest difference that is rounding, as a share of `Check.largest`."""
_KEPT = 0.5
"""The least `Check.kept` in whole numbers of 8 bits, and of `Answers.NUMBERS` in any precision."""
_OFFSET = 0.05
"""The share of the largest of all numbers that is the least scale of `Answers.NUMBERS`: half
precision rounds by 2^-11 of it, which is 1e-2 of this."""
_ALIKE = 1e-6
"""Numbers that deviate from their mean by less than this share of the largest are all alike."""
_OFTEN, _COMMON = 10, 0.01
"""An answer that Keras gives as often as this, and to this share of all, counts on its own."""
_BATCH = 8
_REPEATS = 50
_SECONDS = 0.5
"""Repeats end after this time, but not before the fifth."""


class Answers(enum.Enum):
    """When two outputs of a network are the same answer."""

    ONE = "one"
    """The largest of the channels is the same."""
    EACH = "each"
    """Each channel is the same, yes or no."""
    NUMBERS = "numbers"
    """There are no answers, but numbers."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Check:
    """How a file's outputs differ from those of Keras.

    `difference` and `largest` are those of the output whose difference is the largest share.
    """

    difference: float
    """The largest one, of any number."""
    largest: float
    """The largest number of Keras, without its sign. Of `Answers.NUMBERS`, the largest deviation
    from the mean of its channel, but not less than 1/20 of the largest number."""
    equal: float | None
    """The share of equal answers, of images or pixels; None for `Answers.NUMBERS`."""
    kept: float
    """The share of equal answers, of all and of each one that is at least 10 of those of Keras and
    1 % of them: the least of these. Of numbers, the share of the variance that is left: 1 minus the
    squared differences by the squared deviations from the mean of the channel. Numbers that are all
    alike have no variance: 1/128 of the largest takes the place of the deviations."""
    milliseconds: float
    """For one image: the median of several."""


def answers_of(network: keras.Model, record: Mapping[str, Any]) -> Answers:
    """What kind of answer the main output of a network is.

    Args:
        network: a trained network.
        record: the facts of its data. If these do not say the task, the last activation does.
    """
    output = next(iter(outputs_by_name(network).values()))
    labels = task_called(record["task"]).labels if "task" in record else None
    match labels, output.activation:
        case (Labels.CLASS | Labels.MASK, _) | (None, "softmax") if not output.binary:
            return Answers.ONE
        case (Labels.CLASS | Labels.MASK | Labels.CLASSES, _) | (None, "sigmoid"):
            return Answers.EACH
        case _:
            return Answers.NUMBERS


def threads() -> int:
    """How many threads every runtime gets: TensorFlow's number, which is all cores if not set."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        if count := tf.config.threading.get_intra_op_parallelism_threads():
            return int(count)
    return len(os.sched_getaffinity(0))


def asks_keras(network: keras.Model) -> Ask:
    """A Keras model as a function."""

    def ask(images: _Array) -> list[_Array]:
        return [np.asarray(each) for each in keras.tree.flatten(network.predict_on_batch(images))]

    return ask


def asks_file(path: Path, form: FileFormat, network: keras.Model) -> Ask:
    """An exported file as a function: loads it with its own runtime.

    Args:
        path: the file, or the folder of a SavedModel.
        form: its format.
        network: the model that was exported.
    """
    match form:
        case FileFormat.KERAS:
            return asks_keras(keras.saving.load_model(path, compile=False))
        case FileFormat.WEIGHTS:
            again = keras.models.clone_model(network)
            again.load_weights(path)
            return asks_keras(again)
        case FileFormat.SAVED_MODEL:
            return _asks_saved_model(path)
        case FileFormat.ONNX:
            return _asks_onnx(path)
        case FileFormat.TFLITE:
            return _asks_tflite(path, network)


def compare(
    ask: Ask,
    wanted: Sequence[Sequence[_Array]],
    images: Sequence[_Array],
    network: keras.Model,
    record: Mapping[str, Any],
) -> Check:
    """Asks for each array of images, and compares the answers with those of Keras.

    Args:
        ask: a file.
        wanted: for each array of images, the outputs of Keras.
        images: arrays [N,...]; the first image of the first array is the one for the clock.
        network: the trained network; its main output has the answers.
        record: see `answers_of`.
    """
    found = [in_batches(ask, each) for each in images]
    names, kind = _names(network), answers_of(network, record)
    yes = threshold(next(iter(outputs_by_name(network).values())))
    outputs = [
        (_rows(one), _rows(other))
        for one, other in zip(zip(*wanted, strict=True), zip(*found, strict=True), strict=True)
    ]
    one, other = outputs[names.index("head") if "head" in names else 0]
    match kind:
        case Answers.ONE:
            equal = _equal(one.argmax(-1), other.argmax(-1))
        case Answers.EACH:
            equal = _equal(*((each > yes).astype(int).ravel() for each in (one, other)))
        case Answers.NUMBERS:
            equal = []
    differences = np.array([np.abs(one - other).max() for one, other in outputs])
    scales = np.array([_scale(one, kind) for one, _ in outputs])
    worst = np.argmax(differences / np.maximum(scales, np.finfo(np.float32).tiny))
    return Check(
        difference=float(differences[worst]),
        largest=float(scales[worst]),
        equal=equal[0] if equal else None,
        kept=min(equal) if equal else _explained(one, other),
        milliseconds=milliseconds(ask, images[0][:1]),
    )


def fault(check: Check, precision: Precision, *, is_half: bool) -> str | None:
    """Why a file is not fit for use; None if it is.

    Floats may differ by rounding: 1e-4 of `Check.largest`, 1e-2 if the network computes with half
    precision or the file holds it. Whole numbers of 8 bits must keep half (`Check.kept`), and so
    must `Answers.NUMBERS` in any precision.

    Args:
        check: the comparison.
        precision: of the file.
        is_half: whether the network computes with half precision.
    """
    # Written so that nan is a fault.
    is_int8, is_number = precision is Precision.INT8, check.equal is None
    if (is_int8 or is_number) and not check.kept >= _KEPT:
        of = "the variance of its answers is" if is_number else "some answer are"
        return f"in {precision.value}, only {percent(max(0, check.kept))} of {of} as in Keras"
    if is_int8:
        return None
    tolerance = max(_TOLERANCES[precision], 1e-2 if is_half else 0)
    if check.difference <= tolerance * check.largest:
        return None
    return (
        f"its answers differ from those of Keras by up to {check.difference:.3g}; rounding "
        f"explains {tolerance * check.largest:.3g}"
    )


def is_half(network: keras.Model) -> bool:
    """Whether a model, or one that it wraps, computes with half precision."""
    return any("float16" in layer.dtype_policy.name for layer in (network, *network.layers))


def in_batches(ask: Ask, images: _Array) -> list[_Array]:
    """The outputs for many images, a few at a time."""
    parts = [ask(images[start : start + _BATCH]) for start in range(0, len(images), _BATCH)]
    return [np.concatenate(each) for each in zip(*parts, strict=True)]


def milliseconds(ask: Ask, image: _Array) -> float:
    """The time for one image [1,...]: the median of 5 to 50, after two to warm up."""
    times: list[float] = []
    for _ in range(2):
        ask(image)
    while len(times) < 5 or (len(times) < _REPEATS and sum(times) < _SECONDS):
        start = time.perf_counter()
        ask(image)
        times.append(time.perf_counter() - start)
    return 1000 * statistics.median(times)


def _names(network: keras.Model) -> list[str]:
    """The names of the outputs in the files, in the order of `keras.tree.flatten`."""
    if isinstance(network.output, dict):
        return sorted(network.output)
    return [f"output_{number}" for number in range(len(network.outputs))]


def _equal(wanted: _Array, found: _Array) -> list[float]:
    """The share of equal answers; then the same of each answer that is wanted often."""
    equal = wanted == found
    least = max(_OFTEN, _COMMON * len(wanted))
    often = [each for each, count in enumerate(np.bincount(wanted)) if count >= least]
    return [float(equal.mean()), *(float(equal[wanted == each].mean()) for each in often)]


def _rows(arrays: Sequence[_Array]) -> _Array:
    """The answers of arrays of images, of any sizes, as [M,channels]."""
    return np.concatenate([each.reshape(-1, each.shape[-1]) for each in arrays])


def _scale(wanted: _Array, kind: Answers) -> float:
    """What a difference is a share of (see `Check.largest`)."""
    largest = float(np.abs(wanted).max())
    if kind is not Answers.NUMBERS:
        return largest
    deviation = float(np.abs(wanted - wanted.mean(axis=0, dtype=np.float64)).max())
    return max(deviation, _OFFSET * largest)


def _explained(wanted: _Array, found: _Array) -> float:
    """`Check.kept` of numbers."""
    wanted, found = wanted.astype(np.float64), found.astype(np.float64)
    largest = np.abs(wanted).max()
    deviations = wanted - wanted.mean(axis=0)
    if np.abs(deviations).max() <= _ALIKE * largest:
        deviations = np.full_like(wanted, largest / 128)
    whole = np.square(deviations).sum()
    return float(1 - np.square(wanted - found).sum() / whole) if whole else 1.0


def _asks_saved_model(path: Path) -> Ask:
    import tensorflow as tf

    loaded = tf.saved_model.load(str(path))

    def ask(images: _Array) -> list[_Array]:
        return [np.asarray(each) for each in keras.tree.flatten(loaded.serve(images))]

    return ask


def _asks_onnx(path: Path) -> Ask:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads()
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()

    def ask(images: _Array) -> list[_Array]:
        return list(session.run(None, {given.name: images}))

    return ask


def _asks_tflite(path: Path, network: keras.Model) -> Ask:
    runner = tflite_interpreter(model_path=str(path)).get_signature_runner()
    (given,) = runner.get_input_details()
    names = _names(network)

    def ask(images: _Array) -> list[_Array]:
        found = runner(**{given: images})
        # A view of the interpreter's memory, which the next call overwrites.
        return [np.array(found[name]) for name in names]

    return ask


def tflite_interpreter(**options: Any) -> Any:
    """TFLite's interpreter, with as many threads as other runtimes get."""
    import tensorflow as tf

    with warnings.catch_warnings():
        # It has moved to the package ai_edge_litert; TensorFlow still has it.
        warnings.simplefilter("ignore", UserWarning)
        return tf.lite.Interpreter(num_threads=threads(), **options)
