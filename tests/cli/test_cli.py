"""The commands as a person calls them."""

import dataclasses
import importlib
import inspect
import io
import json
import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from rich.console import Console

import reskeras
from reskeras.cli import main
from reskeras.cli.progress import Progress
from reskeras.tasks import CLASSIFICATION, write_score
from reskeras.training.state import Epoch
from reskeras.words import compact
from tuning.record.entries import TrialRecord
from tuning.record.events import Ending, Search, Trial
from tuning.space import default_space


def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "reskeras", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["show", "resnet21"], "error: unknown preset 'resnet21'; did you mean"),
        (["show", "none.yaml"], "error: none.yaml: No such file"),
        (["presets", "x*"], "error: no preset matches 'x*'"),
        (
            ["train", "bad.yaml"],
            "error: bad.yaml: stages.0.width: input should be greater than 0 (got -1)",
        ),
        (["tune", "bad.yaml"], "error: bad.yaml: vary: this section is missing"),
        (
            ["tune", "space.yaml", "--data", "mnistt"],
            "error: unknown data set 'mnistt'; did you mean 'mnist'?",
        ),
        (["tune", "--data", "none.npz"], "error: none.npz: no such file"),
        (["tune", "--oracle", "tarot"], "'tarot' is not one of 'asha', 'tpe',"),
        (
            ["tune", "--max-params", "many"],
            "'many' is no count: give a number above 0, such as 300000, 500k, 2M or 1.5G",
        ),
        (["tune", "--target", "nan"], "error: --target: not a number"),
        (["tune", "--trials", "0"], "0 is not in the range x>=1"),
        (["tune", "--name", "a/b"], "error: --name 'a/b': a name is one word"),
        (["tune", "--tracking-uri", "mlruns"], "error: tracking store 'mlruns'"),
        (["ui"], "mlflow.db: no store here yet; `reskeras tune` makes one"),
        (["runs"], "mlflow.db: no store here yet; `reskeras tune` makes one"),
        (["runs", "--limit", "0"], "0 is not in the range x>=1"),
        (["show", "0123abc"], "mlflow.db: no store here yet; `reskeras tune` makes one"),
        (["train", "0123abc", "--tracking-uri", "mlruns"], "error: tracking store 'mlruns'"),
        (
            ["predict", "none.keras", "bad.yaml"],
            "error: bad.yaml: not a PNG, JPEG, GIF or BMP image; mend or remove it",
        ),
        (
            ["predict", "none.keras", "none.png"],
            "error: none.png: no such file or folder of images",
        ),
        (
            ["predict", "none.keras", "."],
            "error: .: a folder without images (.bmp, .gif, .jpeg, .jpg, .png)",
        ),
        (
            ["predict", "none.keras", "data.npz"],
            "error: data.npz: give it one array, or one called x_test (it has a, b)",
        ),
        (
            ["predict", "none.keras", "line.npy"],
            "error: line.npy: an array of the shape (3,); images are [N,H,W] or [N,H,W,C]",
        ),
        (
            ["predict", "none.keras", "pixels.npy"],
            "error: 'none.keras' is no model: give a .keras file, a folder such as",
        ),
        (
            ["predict", "bad.keras", "pixels.npy"],
            "error: bad.keras: not a model that Keras can load: ",
        ),
        (
            ["export", "none", "net.h5"],
            "error: net.h5: a network is written as .keras, .onnx, .weights.h5, .tflite, or as a SavedModel",
        ),
        (["export", "none", "no/net.keras"], "error: no/net.keras: there is no folder no"),
        (["export", "none", "bad.keras"], "error: bad.keras is there already; --force replaces it"),
        (
            ["export", ".", "net"],
            "error: .: has neither best.keras nor model.keras; `reskeras tune` and `reskeras train` leave them",
        ),
        (["export", "bad.yaml", "net"], "error: bad.yaml: a trained network is a .keras file"),
        (
            ["export", "none", "net.weights.h5", "--fold"],
            "error: --fold leaves a network of other weights",
        ),
        (["dance"], "No such command 'dance'"),
    ],
)
def test_a_wrong_request_gets_its_reason_and_status_2_and_writes_nothing(
    arguments: list[str], message: str, tmp_path: Path
) -> None:
    (tmp_path / "bad.yaml").write_text(
        reskeras.dump_spec(reskeras.preset("resnet20")).replace("width: 16, stride: 1", "width: -1")
    )
    (tmp_path / "space.yaml").write_text(default_space((8, 8, 1), 10, CLASSIFICATION).dump())
    (tmp_path / "bad.keras").write_text("no model")
    np.savez(tmp_path / "data.npz", a=np.zeros(3), b=np.zeros(3))
    np.save(tmp_path / "line.npy", np.zeros(3))
    np.save(tmp_path / "pixels.npy", np.zeros((1, 8, 8)))
    before = sorted(tmp_path.iterdir())
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2, result.output
    assert message in result.stderr
    assert "Traceback" not in result.output
    assert sorted(tmp_path.iterdir()) == before


def test_show_edit_train(tmp_path: Path, blobs_npz: Path) -> None:
    shown = CliRunner().invoke(main, ["show", "resnet20"])
    (tmp_path / "my.yaml").write_text(shown.stdout.replace("blocks: 3", "blocks: 1"))
    done = run("train", "my.yaml", "--data", str(blobs_npz), "--epochs", "2")
    assert done.returncode == 0, done.stderr
    assert (
        "input_shape and classes follow the data: 8x8x1 and 3 (the spec has 32x32x3 and 10)"
        in done.stderr
    )
    assert "epoch   2 of 2" in done.stderr
    assert done.stdout.startswith("test split: accuracy")
    trained = reskeras.load_spec("trained/my/spec.yaml")
    assert (trained.input_shape, trained.head.classes, trained.stages[0].blocks) == (
        (8, 8, 1),
        3,
        1,
    )
    assert Path("trained/my/model.keras").exists()
    again = run("train", "my.yaml", "--data", str(blobs_npz), "--epochs", "1")
    assert "saved: trained/my-2/model.keras" in again.stdout  # what was trained before stays


def test_tune_tells_its_result_as_json_on_a_clean_standard_output(
    tmp_path: Path, blobs_npz: Path
) -> None:
    space = default_space((8, 8, 1), 10, CLASSIFICATION).with_train(epochs=1)
    (tmp_path / "space.yaml").write_text(space.dump())
    done = run("tune", "space.yaml", "--data", str(blobs_npz), "--trials", "2", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["directory"] == "searches/space-blobs"
    assert len(told["trials"]) == 2
    # TensorFlow's chatter is held back, what happens is told line by line.
    lines = done.stderr.splitlines()
    assert lines[0].startswith("reskeras ")
    assert not [
        line
        for line in lines
        if "cuInit" in line or "oneDNN" in line or "absl" in line or "mlflow.store" in line
    ]
    assert [line for line in lines if "trial 2 of 2 · epoch 1 of 1" in line]
    again = run(
        "tune", "space.yaml", "--data", str(blobs_npz), "--trials", "2", "--json", "--fresh"
    )
    assert Path("searches/space-blobs.old1/best.keras").exists()
    repeated = json.loads(again.stdout)
    assert [trial["metrics"] for trial in repeated["trials"]] == [
        trial["metrics"] for trial in told["trials"]
    ]


def test_the_ui_serves_the_store_on_loopback_and_ends_with_its_processes(tmp_path: Path) -> None:
    from tuning.tracking import open_store, tracking_uri

    open_store(tracking_uri(None))
    process = subprocess.Popen(
        [sys.executable, "-m", "reskeras", "ui", "--no-browser"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        line = process.stdout.readline()
        address = line.rsplit(" ", 1)[1].partition("/#")[0]
        assert address.startswith("http://127.0.0.1:")
        assert urllib.request.urlopen(f"{address}/health", timeout=10).status == 200
        page = urllib.request.Request(f"{address}/", headers={"Host": "10.evil.example"})
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(page, timeout=10)
    finally:
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=60)
    assert process.returncode == 0, stderr
    assert "the server has ended" in stderr
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(f"{address}/health", timeout=10)


def test_numbers_are_told_as_people_read_them() -> None:
    assert [compact(n) for n in (812, 77_610, 25_557_032, 4_089_000_000)] == [
        "812",
        "77.6k",
        "25.6M",
        "4.09G",
    ]
    assert write_score("val_accuracy", 0.98765) == "98.8 %"
    assert write_score("val_loss", 0.123456) == "0.1235"


def test_exported_names_exist_and_are_no_modules() -> None:
    importlib.import_module("tuning.search.tune")  # which imports everything
    for name in reskeras.__all__:
        assert not inspect.ismodule(getattr(reskeras, name)), name
    with pytest.raises(AttributeError, match="no attribute 'biuld'"):
        reskeras.biuld  # noqa: B018


@pytest.mark.main_path
def test_the_main_job(tmp_path: Path) -> None:
    """`reskeras tune`, no arguments: the README's first command."""
    done = run("tune")
    assert done.returncode == 0, done.stderr
    assert "best: trial" in done.stdout
    assert "compare trials  reskeras ui" in done.stdout
    entries = [
        json.loads(line) for line in Path("searches/digits/journal.jsonl").read_text().splitlines()
    ]
    assert sum(entry["kind"] == "trial" and entry["status"] != "failed" for entry in entries) == 20
    (conclusion,) = [entry for entry in entries if entry["kind"] == "conclusion"]
    assert conclusion["test"]["accuracy"] >= 0.98
    for file in ("best.yaml", "best.keras", "leaderboard.csv", "report.html", "space.yaml"):
        assert Path("searches/digits", file).exists()
    assert dataclasses.is_dataclass(reskeras.load_spec("searches/digits/best.yaml"))
    assert os.path.getsize("mlflow.db") > 0


def test_progress_fits_a_narrow_terminal() -> None:
    space = default_space((8, 8, 1), 10, CLASSIFICATION)
    values = {
        "block.kind": "bottleneck",
        "stages.*.blocks": 3,
        "norm_order": "relu_only_preact",
        "train.learning_rate": 0.00459,
    }
    console = Console(file=io.StringIO(), width=70, force_terminal=True, color_system=None)
    progress = Progress(console)
    progress.search_started(
        Search(
            name="s",
            search_id="1",
            directory=Path("searches/s"),
            space=space,
            data=None,
            oracle="random",
            objective="val_accuracy",
            trials=4,
            epochs=6,
            seed=0,
        )
    )
    trial = Trial(number=1, values=values, recipe=space.base, first_epoch=0, parent=None)
    progress.trial_started(trial)
    progress.epoch_ended(trial, Epoch(number=3, metrics={"val_accuracy": 0.97}, seconds=1.0))
    with console.capture() as capture:
        console.print(progress._render())
    running = next(line for line in capture.get().splitlines() if "trial 1 of 4" in line)
    assert running.startswith("━" * 12)
    assert "trial 1 of 4 · epoch 3 of 6 · val_accuracy" in running
    assert len(running) <= 70
    assert "choosing the first trial" in capture.get()
    progress.trial_ended(
        trial,
        TrialRecord(
            number=1, values=values, status="completed", score=0.985, metrics={"val_loss": 0.1}
        ),
    )
    progress.search_ended(Ending.FINISHED, None)
    assert "98.5 %  bottleneck · relu_only_preact · 3-3 · lr 0.00459" in console.file.getvalue()
