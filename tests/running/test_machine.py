"""What a machine offers its workers, and how a trial's memory is measured."""

import mmap
import os
from pathlib import Path
from types import SimpleNamespace

import pytest
import tensorflow as tf

from tuning.running import machine
from tuning.running.devices import PeakMemory

GB = 2**30


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The root of a made-up Linux machine with 10 GiB of memory and no GPU."""
    monkeypatch.setattr(machine, "Path", lambda path: tmp_path / path.lstrip("/"))
    pages = {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 10 * GB // 4096}
    monkeypatch.setattr(machine.os, "sysconf", pages.__getitem__)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return tmp_path


def limit_container(root: Path, memory: str) -> None:
    (root / "sys/fs/cgroup").mkdir(parents=True)
    (root / "sys/fs/cgroup/memory.max").write_text(memory + "\n")


def add_gpus(root: Path, count: int) -> None:
    for number in range(count):
        (root / f"proc/driver/nvidia/gpus/0000:0{number}:00.0").mkdir(parents=True)


@pytest.mark.usefixtures("root")
def test_workers_share_four_fifths_of_the_memory() -> None:
    assert machine.safe_memory(1) == 8 * GB
    assert machine.safe_memory(4) == 2 * GB


@pytest.mark.parametrize(
    ("memory", "safe"), [(str(5 * GB), 4 * GB), (str(20 * GB), 8 * GB), ("max", 8 * GB)]
)
def test_a_container_may_have_less_memory_than_its_machine(
    root: Path, memory: str, safe: int
) -> None:
    limit_container(root, memory)
    assert machine.safe_memory(1) == safe


def test_memory_of_a_machine_with_gpus_is_unknown(root: Path) -> None:
    add_gpus(root, 1)
    assert machine.safe_memory(1) is None


def test_memory_is_unknown_if_the_machine_does_not_say(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(name: str) -> int:
        raise ValueError(f"unrecognized configuration name: {name}")

    monkeypatch.setattr(machine.os, "sysconf", refuse)
    assert machine.safe_memory(1) is None


def test_gpus_are_those_of_the_driver_unless_cuda_is_told_otherwise(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert machine.visible_gpus() == []
    add_gpus(root, 3)
    assert machine.visible_gpus() == ["0", "1", "2"]
    for variable, gpus in {"": [], "-1": [], "1": ["1"], "2,GPU-af3e": ["2", "GPU-af3e"]}.items():
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", variable)
        assert machine.visible_gpus() == gpus, variable


@pytest.mark.skipif(
    not os.access("/proc/self/clear_refs", os.W_OK), reason="peaks cannot be reset here"
)
def test_the_peak_counts_what_was_freed_and_starts_over_with_each_trial() -> None:
    first = PeakMemory()
    before = first.peak()
    assert before is not None
    with mmap.mmap(-1, 128 * 2**20) as block:  # which goes back to the system at once
        for page in range(0, len(block), mmap.PAGESIZE):
            block[page] = 1
    grown = first.peak()
    assert grown is not None
    assert 120 * 2**20 < grown - before < 200 * 2**20
    second = PeakMemory().peak()
    assert second is not None
    assert second < grown - 100 * 2**20


def test_the_peak_of_a_gpu_is_tensorflows(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [SimpleNamespace()])
    monkeypatch.setattr(tf.config.experimental, "reset_memory_stats", calls.append)
    monkeypatch.setattr(
        tf.config.experimental, "get_memory_info", lambda device: {"current": 1, "peak": 5}
    )
    memory = PeakMemory()
    assert calls == ["GPU:0"]
    assert memory.peak() == 5


def test_the_peak_is_unknown_if_it_cannot_be_reset(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tuning.running.devices._CLEAR_REFS", tmp_path / "none" / "clear_refs")
    assert PeakMemory().peak() is None
