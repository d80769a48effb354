import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

# A busy machine is no error.
settings.register_profile("reskeras", deadline=None)
settings.load_profile("reskeras")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
# TFDS reads this when it is imported, and prepares data sets there, not in the home directory.
_TFDS = tempfile.TemporaryDirectory(prefix="tensorflow_datasets")
os.environ["TFDS_DATA_DIR"] = _TFDS.name
_CACHE = tempfile.TemporaryDirectory(prefix="cache")
# matplotlib's fonts stay where they are.
os.environ.setdefault("MPLCONFIGDIR", str(Path("~/.cache/matplotlib").expanduser()))
os.environ["XDG_CACHE_HOME"] = _CACHE.name


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """`tox -e tests -- PATH` passes if PATH has no tests for JAX, which tox runs first."""
    if (
        os.environ.get("KERAS_BACKEND") == "jax"
        and exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED
    ):
        session.exitstatus = pytest.ExitCode.OK


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every test runs in a folder of its own: searches and stores go to the working directory."""
    monkeypatch.chdir(tmp_path)
    names = (
        "MLFLOW_TRACKING_URI",
        "MLFLOW_EXPERIMENT_ID",
        "MLFLOW_EXPERIMENT_NAME",
        "MLFLOW_RUN_ID",
    )
    for name in names:
        monkeypatch.delenv(name, raising=False)
    yield
    # which MLflow's `set_tracking_uri` and `set_experiment` leave to later tests and their children
    for name in names:
        os.environ.pop(name, None)


@pytest.fixture(scope="session")
def blobs() -> dict[str, np.ndarray]:
    """Three classes of 8x8 images that a small net learns in an epoch or two: a bright quarter says
    the class."""
    random = np.random.default_rng(7)
    arrays = {}
    for split, size in (("train", 96), ("val", 48), ("test", 48)):
        labels = np.arange(size) % 3
        images = random.normal(0.2, 0.1, (size, 8, 8, 1)).astype("float32")
        for image, label in zip(images, labels, strict=True):
            image[4 * (label // 2) :, 4 * (label % 2) : 4 * (label % 2) + 4] += 0.5
        arrays |= {f"x_{split}": images, f"y_{split}": labels.astype("int64")}
    return arrays


@pytest.fixture
def blobs_npz(blobs: dict[str, np.ndarray], tmp_path: Path) -> Path:
    path = tmp_path / "blobs.npz"
    np.savez(path, **blobs)
    return path
