"""Exports a network to ONNX with Keras and tf2onnx; needs the extra `onnx`."""

import contextlib
import itertools
import logging
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from reskeras.models.export_check import is_half
from reskeras.models.preprocessing import joined


def export_onnx(
    model: keras.Model, path: str | Path, *, half: bool = False, front: keras.Model | None = None
) -> None:
    """Exports a model to ONNX with a free batch size, and checks the file by running it.

    `model.export(format="onnx")` alone silently writes files that no runtime loads if TensorFlow
    compiles a convolution with XLA on the CPU (grouped ones, and 3-D ones with channels first):
    tf2onnx does not look into compiled functions. Here they become part of the exported graph. Fold
    batch norms first (`fold_batch_norm`) for a smaller file.

    Args:
        model: a built model with one input. Dimensions may be free besides the batch's.
        path: the file to write; replaced if it exists.
        half: whether the file holds the model in float16, by onnxruntime's converter. Inputs and
            outputs stay as they are.
        front: a model before it, whose numbers stay as they are: the layers for raw images, whose
            sums float16 does not hold (`reskeras.models.preprocessing`).

    Raises:
        ImportError: the extra `onnx` is not installed.
        ValueError: the file did not load or gave other outputs, and was removed. This happens with
            what tf2onnx 1.17 cannot convert: grouped 3-D convolutions, exact GELU, and bfloat16.
    """
    try:
        import onnxruntime
        import tf2onnx  # noqa: F401 - Keras imports it
    except ImportError as error:
        raise ImportError(
            f"ONNX export needs the extra `onnx`: pip install '.[onnx]' in a clone ({error})"
        ) from error
    whole = model if front is None else joined(front, model)
    (given,) = whole.inputs
    image = _example(given.shape[1:], given.dtype)
    expected = keras.tree.flatten(whole(image, training=False))
    path = Path(path)
    try:
        if half:
            _write_half(model, front, path)
        else:
            _write(whole, path)
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        outputs = session.run(None, {session.get_inputs()[0].name: image})
        for output, tensor in zip(outputs, expected, strict=True):
            wanted = keras.ops.convert_to_numpy(tensor)
            tolerance = 1e-2 if half or is_half(model) else 1e-4
            np.testing.assert_allclose(
                output, wanted, rtol=tolerance, atol=tolerance * np.abs(wanted).max()
            )
    except (OSError, MemoryError):
        raise
    except Exception as error:  # onnxruntime's errors have no common base class
        path.unlink(missing_ok=True)
        told = str(error).strip()
        raise ValueError(f"{model.name} cannot be exported to ONNX: {told}") from error


def _write(model: keras.Model, path: Path) -> None:
    with _functions_inline(), _quiet("tf2onnx"):
        model.export(str(path), format="onnx", verbose=False)
    _keep_rims(path)


def _write_half(model: keras.Model, front: keras.Model | None, path: Path) -> None:
    import onnx
    from onnxruntime.transformers.float16 import convert_float_to_float16
    from onnxruntime.transformers.onnx_model import OnnxModel

    _write(model, path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of numbers that become 1e-7
        network = convert_float_to_float16(onnx.load(path), keep_io_types=True)
    # The converter puts its casts at the end.
    OnnxModel.graph_topological_sort(network.graph)
    if front is not None:
        (given,) = front.inputs
        front(_example(given.shape[1:], given.dtype))  # Keras exports only what was called
        with tempfile.TemporaryDirectory() as folder:
            _write(front, Path(folder) / "front.onnx")
            before = onnx.load(Path(folder) / "front.onnx")
        # Its nodes may have the names of the network's. The input keeps its own.
        before = onnx.compose.add_prefix(before, "front/", rename_inputs=False)
        pair = (before.graph.output[0].name, network.graph.input[0].name)
        network = onnx.compose.merge_models(before, network, [pair])
    onnx.save(network, path)


def _example(shape: Sequence[int | None], dtype: str) -> np.ndarray[Any, Any]:
    """A random input; the sides that are free are not those of the network."""
    random, free = np.random.default_rng(0), itertools.count(67, 22)
    sides = [next(free) if side is None else side for side in shape]
    if dtype == "uint8":
        return random.integers(0, 256, (1, *sides), np.uint8)
    return random.normal(size=(1, *sides)).astype(dtype)


def _keep_rims(path: Path) -> None:
    """Protects a rim of zeros before a max pooling.

    onnxruntime (1.31) merges zero padding into the pooling that follows, which pads with minus
    infinity instead. The result differs if maps are negative, as after the bare stem of a
    pre-activation network. Any other constant stays.
    """
    import onnx

    network = onnx.load(path)
    pooled = {node.input[0] for node in network.graph.node if node.op_type == "MaxPool"}
    pads = [
        node for node in network.graph.node if node.op_type == "Pad" and node.output[0] in pooled
    ]
    if not pads:
        return
    network.graph.initializer.append(
        onnx.numpy_helper.from_array(np.array(1e-30, "float32"), "almost_zero")
    )
    for node in pads:
        node.input[2:] = ["almost_zero"]
    onnx.save(network, path)


@contextlib.contextmanager
def _functions_inline() -> Iterator[None]:
    # A debugging switch: functions traced while it is on contain the operations of the functions
    # they call instead of calls.
    before = tf.config.functions_run_eagerly()
    tf.config.run_functions_eagerly(True)
    try:
        yield
    finally:
        tf.config.run_functions_eagerly(before)


@contextlib.contextmanager
def _quiet(name: str) -> Iterator[None]:
    # tf2onnx logs what it cannot convert and continues; the check below says it better.
    logger = logging.getLogger(name)
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)
