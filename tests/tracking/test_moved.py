"""A project folder that was moved or copied has all that it had, and leaves its old place alone."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tuning.tracking import open_store, tracking_uri
from tuning.tracking.runs import Kind, Runs
from tuning.tracking.store import artifact_location

SEARCH = """
import sys
import numpy as np
import tuning.running.executor
from stubs import run_evaluation, run_trial, tiny
from reskeras.data import from_arrays
from tuning import tune
from tuning.record.kept import Keep
from tuning.tracking import Tracker, tracking_uri

tuning.running.executor.run_trial = run_trial
tuning.running.executor.run_evaluation = run_evaluation
tracker = Tracker(tracking_uri(None), lambda _: None)  # the stubs' models are not Keras'
with np.load(sys.argv[1]) as arrays:
    data = from_arrays(dict(arrays), name="blobs")
keep = Keep(count=None)
tune(tiny(), data, directory="searches/s", trials=int(sys.argv[2]), keep=keep, listeners=[tracker])
"""


def search(arrays: Path, trials: int) -> None:
    """In a process of its own: MLflow remembers the places of runs."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-c", SEARCH, str(arrays), str(trials)]
    subprocess.run(command, check=True, env=environment)


def files(folder: Path) -> dict[str, int]:
    return {str(f): f.stat().st_mtime_ns for f in sorted(folder.rglob("*")) if f.is_file()}


def test_a_moved_project_finds_its_models_and_leaves_its_old_place_alone(
    blobs_npz: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    old, new = tmp_path / "old_place", tmp_path / "new"
    old.mkdir()
    monkeypatch.chdir(old)
    search(blobs_npz, 2)
    old.rename(new)
    monkeypatch.chdir(new)
    search(blobs_npz, 3)
    assert not old.exists()
    runs = Runs(tracking_uri(None))
    (found,) = runs.searches()
    trials = [run for run in runs.children(found) if run.kind is Kind.TRIAL]
    assert len(trials) == 3
    for number, run in enumerate(trials):
        folder = tmp_path / f"download{number}"
        folder.mkdir()
        spec = runs.recipe(run, folder)
        assert f"seed: {spec.train.seed}" in runs.model(run, folder).read_text()
    assert not old.exists()


def test_a_copied_store_writes_to_its_own_artifacts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    old, new = tmp_path / "old_place", tmp_path / "new"
    old.mkdir()
    monkeypatch.chdir(old)
    client = open_store(tracking_uri(None))
    root = artifact_location(tracking_uri(None))
    experiment = client.create_experiment("ours", artifact_location=root)
    run = client.create_run(experiment).info.run_id
    client.log_text(run, "first", "note.txt")
    shutil.copytree(old, new)
    before = files(old)
    monkeypatch.chdir(new)
    again = open_store(tracking_uri(None))
    own = (new / "mlartifacts").as_uri()
    assert again.get_experiment(experiment).artifact_location == own
    assert again.get_run(run).info.artifact_uri == f"{own}/{run}/artifacts"
    another = again.create_run(experiment).info.run_id
    again.log_text(another, "second", "note.txt")
    assert (new / "mlartifacts" / another / "artifacts" / "note.txt").read_text() == "second"
    assert files(old) == before


def test_artifacts_that_are_elsewhere_on_purpose_stay_there(tmp_path: Path) -> None:
    elsewhere = tmp_path / "disk" / "mlartifacts"
    client = open_store(tracking_uri(None))
    experiment = client.create_experiment("own", artifact_location=elsewhere.as_uri())
    run = client.create_run(experiment)
    client.log_text(run.info.run_id, "here", "note.txt")
    os.makedirs("mlartifacts", exist_ok=True)
    again = open_store(tracking_uri(None))
    assert again.get_experiment(experiment).artifact_location == elsewhere.as_uri()
    assert [file.path for file in again.list_artifacts(run.info.run_id)] == ["note.txt"]
