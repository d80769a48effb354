"""The devices of one trial, and how strategies use them."""

import contextlib
import dataclasses
import functools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras

from reskeras.errors import RequestError, in_a_line
from reskeras.spec import TrainSpec
from tuning.running.machine import visible_gpus
from tuning.settings import Strategy
from tuning.space import Range, Space

_TPU_VARIABLES = ("TPU_NAME", "COLAB_TPU_ADDR", "TPU_WORKER_ID", "TPU_ACCELERATOR_TYPE")
_TPU_DEVICE = Path("/dev/accel0")
_CLEAR_REFS = Path("/proc/self/clear_refs")
"""Writing "5" resets the peak of the resident memory (proc(5))."""


def strategy_scope(strategy: Strategy, train: TrainSpec) -> Any:
    """The scope in which to build a network that trains under a strategy.

    The strategy spans the devices that this process sees: a `tf.distribute.Strategy` on TensorFlow,
    a `keras.distribution.DataParallel` on JAX. Without one, the scope changes nothing. A
    `reskeras.training.train.Training` created inside trains on these devices even after the scope
    ends.

    Raises:
        RequestError: there are no such devices, or they cannot share this training.
    """
    strategy = chosen(strategy)
    if strategy is Strategy.NONE:
        return contextlib.nullcontext()
    _check_shared(train, replicas(strategy))
    return _distribution(strategy).scope()


class PeakMemory:
    """Peak memory since creation: of the GPU if TensorFlow has one, otherwise of this process."""

    def __init__(self) -> None:
        self._gpu = False
        if keras.backend.backend() == "tensorflow":
            import tensorflow as tf

            self._gpu = bool(tf.config.list_physical_devices("GPU"))
        if self._gpu:
            tf.config.experimental.reset_memory_stats("GPU:0")
            return
        with contextlib.suppress(OSError):
            # Not Linux, or a sandbox that forbids it: no measurement
            _CLEAR_REFS.write_text("5", encoding="ascii")

    def peak(self) -> int | None:
        """In bytes; None if the machine does not say."""
        if self._gpu:
            import tensorflow as tf

            return int(tf.config.experimental.get_memory_info("GPU:0")["peak"])
        if not os.access(_CLEAR_REFS, os.W_OK):
            return None
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        return next(
            (int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), None
        )


def check_strategy(strategy: Strategy, space: Space, workers: int | None) -> None:
    """Raises RequestError if trials of a space cannot run under a strategy, before any starts.

    Args:
        strategy: the requested one.
        space: the searched space.
        workers: child processes that share this machine's GPUs; None if trials run in this process.
    """
    gpus = visible_gpus()
    if workers is None:
        strategy = chosen(strategy)
        count = replicas(strategy)
    elif strategy is Strategy.NONE or (
        strategy is Strategy.AUTO and (_has_tpu() or len(gpus) < 2 * workers)
    ):
        return
    elif strategy is Strategy.TPU:
        if not _has_tpu():
            raise _no_tpu()
        if workers > 1:
            raise RequestError(
                f"--strategy tpu: one process has the TPU, so --workers is 1 (got {workers})"
            )
        return
    else:
        if not gpus and keras.backend.backend() == "jax":
            return  # its CPU devices are known only in the worker
        count = max(1, len(gpus) // workers)
        if count < 2:
            raise _one_device(
                f"{len(gpus)} GPUs for {workers} workers" if workers > 1 else f"{len(gpus)} GPUs"
            )
        strategy = Strategy.MIRRORED
    if strategy is not Strategy.NONE:
        for train in _trainings(space):
            _check_shared(train, count)


def _trainings(space: Space) -> Iterator[TrainSpec]:
    """The trainings of a space that differ in something that devices care about."""
    train = space.base.train
    sizes = space.vary.get("train.batch_size", (train.batch_size,))
    recomputed = space.vary.get("train.recompute", (train.recompute,))
    for size in (sizes.low,) if isinstance(sizes, Range) else sizes:
        for flag in recomputed if isinstance(recomputed, tuple) else ():
            yield dataclasses.replace(train, batch_size=int(size), recompute=bool(flag))


def _check_shared(train: TrainSpec, count: int) -> None:
    """Raises RequestError unless this many devices can share each batch of a training."""
    if train.recompute:
        raise RequestError(
            "train.recompute trains on one device: set it to false, or use --strategy none"
        )
    if train.batch_size < count:
        raise RequestError(
            f"train.batch_size {train.batch_size} is too small for {count} devices, which share "
            "each batch"
        )
    if keras.backend.backend() == "jax" and train.batch_size % count:
        raise RequestError(
            f"train.batch_size {train.batch_size} is not a multiple of {count} devices, which "
            "JAX needs"
        )


def chosen(strategy: Strategy) -> Strategy:
    """What `auto` means in this process: TPU, mirrored (with several GPUs), or none."""
    if strategy is not Strategy.AUTO:
        return strategy
    if _has_tpu():
        return Strategy.TPU
    return Strategy.MIRRORED if len(_devices("GPU")) > 1 else Strategy.NONE


def replicas(strategy: Strategy) -> int:
    """How many devices share each batch in this process; call `chosen` first to resolve `auto`.

    Raises:
        RequestError: there are no such devices.
    """
    return 1 if strategy is Strategy.NONE else _distribution(strategy).count


class _Distribution:
    """The backend's object for several devices."""

    def __init__(self, whole: Any, count: int) -> None:
        self.scope, self.count = whole.scope, count


@functools.cache
def _distribution(strategy: Strategy) -> _Distribution:
    backend = keras.backend.backend()
    if backend not in ("tensorflow", "jax"):
        raise RequestError(
            f"--strategy {strategy.value} needs Keras on TensorFlow or JAX; its backend is "
            f"{backend!r}"
        )
    if strategy is Strategy.TPU and not _has_tpu():
        raise _no_tpu()
    if backend == "jax":
        return _on_jax(strategy)
    import tensorflow as tf

    if strategy is Strategy.TPU:
        try:
            resolver = tf.distribute.cluster_resolver.TPUClusterResolver.connect(
                os.environ.get("TPU_NAME") or "local"
            )
        except (ValueError, RuntimeError, tf.errors.OpError) as error:
            raise RequestError(
                f"--strategy tpu: the TPU does not answer: {in_a_line(error)}"
            ) from error
        cores = tf.distribute.TPUStrategy(resolver)
        if cores.extended.num_hosts > 1:
            raise RequestError(
                f"--strategy tpu: one host at most (this TPU has {cores.extended.num_hosts})"
            )
        return _Distribution(cores, cores.num_replicas_in_sync)
    devices = _devices("GPU") or _devices("CPU")
    if len(devices) < 2:
        raise _one_device(", ".join(devices))
    return _Distribution(tf.distribute.MirroredStrategy(devices), len(devices))


def _on_jax(strategy: Strategy) -> _Distribution:
    import jax

    if jax.process_count() > 1:
        raise RequestError(
            f"--strategy {strategy.value}: a trial runs on one host (JAX has "
            f"{jax.process_count()} processes)"
        )
    devices = keras.distribution.list_devices()
    if strategy is Strategy.MIRRORED and len(devices) < 2:
        raise _one_device(", ".join(devices))
    return _Distribution(keras.distribution.DataParallel(devices=devices), len(devices))


def _devices(kind: str) -> list[str]:
    """Names of this process's logical `GPU` or `CPU` devices; none without strategies."""
    match keras.backend.backend():
        case "tensorflow":
            import tensorflow as tf

            return [device.name for device in tf.config.list_logical_devices(kind)]
        case "jax":
            return [
                name for name in keras.distribution.list_devices() if name.startswith(kind.lower())
            ]
        case _:
            return []


def _has_tpu() -> bool:
    """Whether this machine claims to have a TPU; waits for nothing."""
    return _TPU_DEVICE.exists() or any(os.environ.get(name) for name in _TPU_VARIABLES)


def _no_tpu() -> RequestError:
    return RequestError(
        f"--strategy tpu: no TPU here (neither {_TPU_DEVICE} nor {' nor '.join(_TPU_VARIABLES)} "
        "is there)"
    )


def _one_device(found: str) -> RequestError:
    return RequestError(
        f"--strategy mirrored needs at least two devices for each worker (found {found})"
    )
