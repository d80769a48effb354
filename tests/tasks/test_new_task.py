"""The page of docs/tasks.md is a task as it stands there."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np

import reskeras

DOCS = Path(__file__).parents[2] / "docs"
INSTALLED = Path(reskeras.__file__).parents[1]


def test_a_task_is_one_file(tmp_path: Path) -> None:
    (page,) = re.findall(r"```python\n(.*?)```", (DOCS / "tasks.md").read_text(), re.S)
    for package in ("reskeras", "tuning"):
        shutil.copytree(INSTALLED / package, tmp_path / package)
    (tmp_path / "reskeras" / "tasks" / "pages" / "direction.py").write_text(page)
    random = np.random.default_rng(3)
    rows, columns = np.mgrid[-1:1:8j, -1:1:8j]
    arrays = {}
    for split, count in (("train", 64), ("val", 32)):
        angles = random.uniform(0, 360, count)
        sine, cosine = np.sin(np.radians(angles)), np.cos(np.radians(angles))
        ramps = columns[None] * cosine[:, None, None] + rows[None] * sine[:, None, None]
        arrays |= {f"x_{split}": ramps.astype("float32"), f"y_{split}": angles}
    np.savez(tmp_path / "ramps.npz", **arrays)
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}

    def run(*words: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "reskeras", *words],
            capture_output=True,
            text=True,
            check=False,
            cwd=tmp_path,
            env=environment,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    how = ("--data", "ramps.npz", "--task", "direction")
    words = ("--trials", "1", "--epochs", "12", "--final-epochs", "0", "--json")
    found = json.loads(run("tune", *how, *words))
    last = found["trials"][0]["metrics"] if "metrics" in found["trials"][0] else found["best"]
    assert found["best"]["score"] < 45, last  # guessing is wrong by 90 degrees on average
    np.save(tmp_path / "one.npy", arrays["x_val"][:4])
    answers = json.loads(run("predict", "searches/ramps", "one.npy", "--json"))
    assert len(answers) == 4
