"""Speed of inference: `reskeras.models.predictor.predictor` against Keras' own ways.

The rivals alternate in one process.

    python benchmarks/inference.py                      # ResNet-20 on 32x32x3
    python benchmarks/inference.py --preset resnet56 --rounds 5

One batch of 1, 32 and 256 images, and 1024 images by 32 and by 256. Each round runs every way once,
in random order. `x predict` is the median over the rounds of `model.predict`'s wall time divided by
the way's in the same round; `CPU x` is the same for CPU time, which other processes disturb less.
Untimed first calls trace, and check that all ways return the same numbers.
"""

import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click
import numpy as np

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import tensorflow as tf

import reskeras
from reskeras.models.folding import fold_batch_norm
from reskeras.models.predictor import predictor

Predict = Callable[[np.ndarray], np.ndarray]


def in_batches(call: Predict, size: int) -> Predict:
    """The way of a call on one batch to go through many."""
    return lambda x: np.concatenate(
        [call(x[start : start + size]) for start in range(0, len(x), size)]
    )


def ways(model: keras.Model, size: int) -> dict[str, Predict]:
    """Every way from images to outputs, in batches of `size`."""
    folded = fold_batch_norm(model)
    graph = tf.function(
        lambda x: model(x, training=False),
        input_signature=[tf.TensorSpec(model.input.shape, "float32")],
    )
    found: dict[str, Predict] = {
        "model.predict": lambda x: model.predict(x, batch_size=size, verbose=0),
        "model.predict_on_batch": in_batches(lambda x: np.asarray(model.predict_on_batch(x)), size),
        "model(x), eager": in_batches(lambda x: model(x, training=False).numpy(), size),
        "folded.predict": lambda x: folded.predict(x, batch_size=size, verbose=0),
        "tf.function(model)": in_batches(lambda x: graph(x).numpy(), size),
        "predictor(model)": predictor(model, size),
    }
    if all(find_spec(package) for package in ("onnxruntime", "tf2onnx")):
        found["onnxruntime, folded"] = in_batches(onnx_call(folded), size)
    return found


def onnx_call(model: keras.Model) -> Predict:
    """The model's ONNX file in onnxruntime, with its own choice of threads."""
    import onnxruntime

    from reskeras.models.onnx import export_onnx

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "net.onnx")
        export_onnx(model, path)
        session = onnxruntime.InferenceSession(
            path.read_bytes(), providers=["CPUExecutionProvider"]
        )
    name = session.get_inputs()[0].name
    return lambda x: session.run(None, {name: x})[0]


def unlike_a_fresh_model(model: keras.Model) -> None:
    """Statistics and offsets as training leaves them, so that a wrong fold would show."""
    generator = np.random.default_rng(0)
    for weight in model.weights:
        if weight.name in ("gamma", "moving_variance"):
            weight.assign(generator.uniform(0.5, 1.5, weight.shape))
        elif weight.name in ("beta", "moving_mean", "bias"):
            weight.assign(generator.uniform(-0.5, 0.5, weight.shape))


@click.command(help=(__doc__ or "").partition("\n")[0])
@click.option("--preset", default="resnet20", show_default=True)
@click.option(
    "--batch-size", "sizes", multiple=True, type=int, default=(1, 32, 256), show_default=True
)
@click.option(
    "--images",
    default=1024,
    show_default=True,
    help="Size of the data set that is predicted too; 0 leaves it out.",
)
@click.option("--rounds", default=9, show_default=True)
def main(preset: str, sizes: tuple[int, ...], images: int, rounds: int) -> None:
    """Prints a table per workload."""
    model = reskeras.build(preset)
    unlike_a_fresh_model(model)
    norms = sum(isinstance(layer, keras.layers.BatchNormalization) for layer in model.layers)
    left = sum(
        isinstance(layer, keras.layers.BatchNormalization)
        for layer in fold_batch_norm(model).layers
    )
    click.echo(
        f"{preset}, input {model.input_shape[1:]}, {os.cpu_count()} cores; {norms} batch norms, "
        f"{left} when folded"
    )
    loads = [(size, size) for size in sizes] + [
        (images, size) for size in sizes if 1 < size < images
    ]
    for count, size in loads:
        measure(model, count, size, rounds if count > 1 else 4 * rounds)


def measure(model: keras.Model, count: int, size: int, rounds: int) -> None:
    """One workload: `count` images in batches of `size`."""
    x: Any = np.random.default_rng(1).normal(size=(count, *model.input_shape[1:])).astype("float32")
    candidates = ways(model, size)
    expected = model.predict(x, verbose=0)
    for predict in candidates.values():
        np.testing.assert_allclose(predict(x), expected, rtol=1e-3, atol=1e-5)
        predict(x)
    wall: dict[str, list[float]] = {name: [] for name in candidates}
    cpu: dict[str, list[float]] = {name: [] for name in candidates}
    order = list(candidates)
    for _ in range(rounds):
        random.shuffle(order)
        for name in order:
            start, start_cpu = time.perf_counter(), time.process_time()
            candidates[name](x)
            wall[name].append(time.perf_counter() - start)
            cpu[name].append(time.process_time() - start_cpu)
    click.echo(
        f"\n{count} image{'s' * (count > 1)} in batches of {size}; medians of {rounds} rounds"
    )
    click.echo(f"{'':24}{'ms':>10}{'CPU ms':>10}{'x predict':>12}{'CPU x':>8}")
    for name in candidates:
        ratios = [
            statistics.median(
                base / own for base, own in zip(times["model.predict"], times[name], strict=True)
            )
            for times in (wall, cpu)
        ]
        medians = [1000 * statistics.median(times[name]) for times in (wall, cpu)]
        click.echo(
            f"{name:24}{medians[0]:10.2f}{medians[1]:10.2f}{ratios[0]:12.2f}{ratios[1]:8.2f}"
        )


if __name__ == "__main__":
    main()
