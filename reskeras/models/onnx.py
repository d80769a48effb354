"""Exports a network to ONNX with Keras and tf2onnx; needs the extra `onnx`."""

import contextlib
import itertools
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf


def export_onnx(model: keras.Model, path: str | Path) -> None:
    """Exports a model to ONNX with a free batch size, and checks the file by running it.

    `model.export(format="onnx")` alone silently writes files that no runtime loads if TensorFlow
    compiles a convolution with XLA on the CPU (grouped ones, and 3-D ones with channels first):
    tf2onnx does not look into compiled functions. Here they become part of the exported graph. Fold
    batch norms first (`fold_batch_norm`) for a smaller file.

    Args:
        model: a built model with one input. Dimensions may be free besides the batch's, as the
            sides of raw images are (`reskeras.models.preprocessing`).
        path: the file to write; replaced if it exists.

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
    (given,) = model.inputs
    image = _example(given.shape[1:], given.dtype)
    expected = keras.tree.flatten(model(image, training=False))
    path = Path(path)
    try:
        with _functions_inline(), _quiet("tf2onnx"):
            model.export(str(path), format="onnx", verbose=False)
        _keep_rims(path)
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        outputs = session.run(None, {session.get_inputs()[0].name: image})
        for output, tensor in zip(outputs, expected, strict=True):
            wanted = keras.ops.convert_to_numpy(tensor)
            tolerance = 1e-2 if _is_half(model) else 1e-4
            np.testing.assert_allclose(
                output, wanted, rtol=tolerance, atol=tolerance * np.abs(wanted).max()
            )
    except (OSError, MemoryError):
        raise
    except Exception as error:  # onnxruntime's errors have no common base class
        path.unlink(missing_ok=True)
        raise ValueError(f"{model.name} cannot be exported to ONNX: {error}") from error


def _example(shape: Sequence[int | None], dtype: str) -> np.ndarray[Any, Any]:
    """A random input; the sides that are free are not those of the network."""
    random, free = np.random.default_rng(0), itertools.count(67, 22)
    sides = [next(free) if side is None else side for side in shape]
    if dtype == "uint8":
        return random.integers(0, 256, (1, *sides), np.uint8)
    return random.normal(size=(1, *sides)).astype(dtype)


def _is_half(model: keras.Model) -> bool:
    """Whether a model, or one that it wraps, computes with half precision."""
    return any("float16" in layer.dtype_policy.name for layer in (model, *model.layers))


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
