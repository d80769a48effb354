"""The resources of this machine, and how to start child processes. Loads no framework."""

import multiprocessing
import os
from pathlib import Path
from typing import Any

_SAFE_SHARE = 0.8


def cores() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def visible_gpus() -> list[str]:
    """The GPUs of this machine by CUDA's names, without opening any."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [name for name in named.split(",") if name and name != "-1"]
    return [str(number) for number in range(len(list(Path("/proc/driver/nvidia/gpus").glob("*"))))]


def safe_memory(workers: int) -> int | None:
    """Bytes that one of several workers may use: its part of 80 % of the machine's memory.

    If a container limits memory, its limit counts. None if the machine does not say, and with GPUs,
    which have their own memory.
    """
    if visible_gpus():
        return None
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (OSError, ValueError):
        return None
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii").strip()
    except OSError:
        limit = "max"
    if limit != "max":
        total = min(total, int(limit))
    return int(_SAFE_SHARE * total) // workers


def worker_context() -> Any:
    """How children are started: forked from a process that has already loaded TensorFlow.

    That makes another child cheap. JAX has threads from the start, and a forked child may hang;
    there, each child starts from scratch.
    """
    if (
        os.environ.get("KERAS_BACKEND", "tensorflow") != "tensorflow"
        or "forkserver" not in multiprocessing.get_all_start_methods()
    ):
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tuning.running.executor"])
    return context


def warm_up() -> None:
    """Starts to load what workers need, in a separate process, while this one continues."""
    if worker_context().get_start_method() == "forkserver":
        from multiprocessing import forkserver

        forkserver.ensure_running()
