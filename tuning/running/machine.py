"""What this machine has, and how child processes are started on it; loads no framework."""

import multiprocessing
import os
from pathlib import Path
from typing import Any

_SAFE_SHARE = 0.8


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def visible_gpus() -> list[str]:
    """The GPUs of this machine by what CUDA calls them, without opening any."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [name for name in named.split(",") if name and name != "-1"]
    return [str(number) for number in range(len(list(Path("/proc/driver/nvidia/gpus").glob("*"))))]


def safe_memory(workers: int) -> int | None:
    """Bytes that one of so many workers may use: its part of four fifths of the memory, or of what a container may have.

    None where the machine does not say, and where there are GPUs, whose memory is another.
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
    """How children are started: forked from a process that has TensorFlow in memory already, so that another one is cheap.

    JAX has threads from the start, and a forked child of it may hang; there each child begins from nothing.
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
    """Begins to load what workers need, in a process of its own, while this one does something else."""
    if worker_context().get_start_method() == "forkserver":
        from multiprocessing import forkserver

        forkserver.ensure_running()
