"""`reskeras doctor`."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from reskeras.cli import main
from reskeras.spec.text import load_recipe

BROKEN = """
family: resnet
name: broken
input_shape: [8, 8, 1]
stem: {kind: cifar, width: 8}
block: {kind: basic}
stages: [{blocks: 2, width: 8}]
head: {kind: classifier, classes: 3}
train: {batch_size: 4, learning_rate: 50}
"""


def run(*words: str) -> Any:
    return CliRunner().invoke(main, ["doctor", *words])


@pytest.fixture(autouse=True)
def _spec() -> None:
    Path("broken.yaml").write_text(BROKEN)


def test_what_is_broken_is_told_and_healed(blobs_npz: Path) -> None:
    words = ("broken.yaml", "--data", str(blobs_npz))
    done = run(*words, "--fix", "healed.yaml", "--json")
    assert done.exit_code == 0, (done.output, done.exception)
    told = json.loads(done.stdout)
    bad = [finding for finding in told["findings"] if not finding["healthy"]]
    assert [finding["sign"] for finding in bad] == ["batch", "learning rate"]
    assert all(finding["source"] and finding["advice"] for finding in told["findings"])
    assert [line.partition(":")[0] for line in told["changes"]] == ["batch", "learning rate"]
    assert told["left"] == []
    train = load_recipe("healed.yaml").train
    assert train.batch_size == 16
    assert 1e-4 < train.learning_rate < 1

    again = run("healed.yaml", "--data", str(blobs_npz), "--fix", "same.yaml")
    assert "BAD" not in again.stdout
    assert "ok  batch: batch norm takes its statistics from 16 images (at least 16)" in again.stdout
    assert "same.yaml is not written: there is nothing to change" in again.stdout
    assert not Path("same.yaml").exists()


def test_requests_that_cannot_work() -> None:
    Path("there.yaml").write_text("")
    for words, message in (
        (("broken.yaml", "--fix", "there.yaml"), "there.yaml already exists; choose another name"),
        (("broken.yaml", "--fix", "no/a.yaml"), "the folder no does not exist"),
        (("nothing",), "is not a preset"),
    ):
        done = run(*words)
        assert done.exit_code == 2, done.output
        assert message in done.stderr
