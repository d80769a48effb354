"""The commands as a person calls them."""

import dataclasses
import errno
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
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from rich.console import Console
from stubs import tiny

import reskeras
from reskeras import RequestError
from reskeras.cli import main
from reskeras.cli.progress import Progress
from reskeras.cli.tune import _Interrupts
from reskeras.files import replacing
from reskeras.spec.recipes import training_recipe
from reskeras.spec.text import load_recipe
from reskeras.tasks import Facts, task_called
from reskeras.training.state import Epoch
from tuning.record.entries import TrialRecord
from tuning.record.events import Ending, Search, Trial
from tuning.space import default_space

CLASSIFICATION = task_called("classification")

COMMANDS = list(main.list_commands(None))


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
        (
            ["show", "resnet21"],
            "error: 'resnet21' is not a preset (`reskeras presets` lists them), a spec file "
            "(.yaml, .json) or the id of an MLflow run; did you mean 'resnet20'?",
        ),
        (["show", "none.yaml"], "error: none.yaml: No such file"),
        (["presets", "x*"], "error: no preset matches 'x*'"),
        (
            ["train", "bad.yaml"],
            "error: bad.yaml: stages.0.width: input should be greater than 0 (got -1)",
        ),
        (["tune", "bad.yaml"], "error: bad.yaml: vary: this section is missing"),
        (
            ["tune", "bad.yaml"],
            "error: bad.yaml: stages.0.width: input should be greater than 0 (got -1)",
        ),
        (["tune", "resnet20"], "error: resnet20 is a preset; give a space: a spec file with a"),
        (
            ["tune", "space.yaml", "--data", "mnistt"],
            "error: unknown data set 'mnistt'; did you mean 'mnist'?",
        ),
        (["tune", "--data", "none.npz"], "error: none.npz: no such file"),
        (["tune", "--oracle", "tarot"], "'tarot' is not one of 'asha', 'tpe',"),
        (
            ["tune", "--max-params", "many"],
            "'many' is not a count; give a number above 0, such as 300000, 500k, 2M, or 1.5G",
        ),
        (["tune", "--target", "nan"], "error: --target: not a number"),
        (["tune", "--trials", "0"], "0 is not in the range x>=1"),
        (["tune", "--name", "a/b"], "error: --name 'a/b': a name is one word"),
        (["tune", "--tracking-uri", "mlruns"], "error: tracking store 'mlruns'"),
        (
            ["tune", "--tracking-uri", "sqlite:///none/mlflow.db"],
            "error: tracking store 'sqlite:///none/mlflow.db': the folder ",
        ),
        (
            ["tune", "--tracking-uri", "postgresql+none://me:secret@host/runs"],
            "error: tracking store 'postgresql+none://***@host/runs': Can't load plugin",
        ),
        (
            ["runs", "--tracking-uri", "mysql+pymysql://host/runs"],
            "error: tracking store 'mysql+pymysql://host/runs': its driver, the Python module "
            "'pymysql', is not installed",
        ),
        (["ui"], "mlflow.db: no store here yet; `reskeras tune` makes one"),
        (["runs"], "mlflow.db: no store here yet; `reskeras tune` makes one"),
        (["runs", "--limit", "0"], "0 is not in the range x>=1"),
        (["show", "0123abc"], "mlflow.db: no store here yet; `reskeras tune` makes one"),
        (["train", "0123abc", "--tracking-uri", "mlruns"], "error: tracking store 'mlruns'"),
        (
            ["predict", "none.keras", "bad.yaml"],
            "error: bad.yaml: not a PNG, JPEG, GIF, BMP, WebP or TIFF image; fix or delete it",
        ),
        (
            ["predict", "none.keras", "none.png"],
            "error: none.png: no such file or folder of images",
        ),
        (
            ["predict", "none.keras", "."],
            "error: .: a folder without images (.bmp, .gif, .jpeg, .jpg, .png, .tif, .tiff, .webp)",
        ),
        (
            ["predict", "none.keras", "data.npz"],
            "error: data.npz: give it one array, or one named x_test (it has a, b)",
        ),
        (
            ["predict", "none.keras", "line.npy"],
            "error: line.npy: an array of shape (3,); images are [N,H,W] or [N,H,W,C]",
        ),
        (
            ["predict", "none.keras", "pixels.npy"],
            "error: 'none.keras' is not a .keras file or a folder with one (searches/NAME, "
            "trained/NAME) or the id",
        ),
        (
            ["predict", "bad.keras", "pixels.npy"],
            "error: bad.keras: damaged: not a complete ZIP file, as .keras files are",
        ),
        (
            ["export", "none", "net.h5"],
            "error: net.h5: give a name that ends in .keras, .onnx, .weights.h5, .tflite, or "
            "one without",
        ),
        (["export", "none", "no/net.keras"], "error: no/net.keras: the folder no does not exist"),
        (["export", "none", "bad.keras"], "error: bad.keras already exists; --force replaces it"),
        (
            ["export", ".", "net"],
            "error: .: has neither best.keras nor model.keras, which `reskeras tune` and "
            "`reskeras train` write",
        ),
        (
            ["export", "bad.yaml", "net"],
            "error: 'bad.yaml' is a spec file; give a .keras file or a folder with one",
        ),
        (
            ["plot", "bad.keras"],
            "error: 'bad.keras' is a trained network; give a preset or a spec file (.yaml, .json)",
        ),
        (["cost", "pixels.npy"], "error: 'pixels.npy' is not a preset or a spec file"),
        (
            ["predict", "resnet20", "pixels.npy"],
            "error: 'resnet20' is a preset; give a .keras file",
        ),
        (["cost", "0123abc"], "error: '0123abc' is the id of a run; give a preset or a spec file"),
        (
            ["show", "bad.keras"],
            "error: 'bad.keras' is a trained network; give a preset, a spec file",
        ),
        (
            ["train", "digits_basic", "--out", "/proc/none"],
            "error: /proc/none: No such file or directory",
        ),
        (["train", "digits_basic", "--out", "bad.yaml/x"], "error: bad.yaml/x: Not a directory"),
        (["train", "digits_basic", "--out", "bad.yaml"], "error: bad.yaml: "),
        (["train", "digits_basic", "--out", "x" * 300], "File name too long"),
        (["export", "none", "x" * 300], "File name too long"),
        (
            ["export", "none", "/proc/net.keras"],
            "error: /proc/net.keras: No such file or directory",
        ),
        (["predict", "none.keras", "pixels.npy", "--out", "bad.yaml/x"], "error: bad.yaml/x: "),
        (["plot", "resnet20", "-o", "/proc/net.svg"], "error: /proc/net.svg: No such file"),
        (["plot", "resnet20", "-o", f"{'x' * 300}.svg"], "File name too long"),
        (
            ["export", "none", "net.weights.h5", "--fold"],
            "error: --fold changes the weights",
        ),
        (["predict", "none.keras", ""], "error: IMAGES: is empty; give a path"),
        (["predict", "none.keras", "pixels.npy", "--csv", ""], "error: --csv: is empty"),
        (["predict", "none.keras", "pixels.npy", "--out", ""], "error: --out: is empty"),
        (["predict", "", "pixels.npy"], "error: the name of the network is empty"),
        (["evaluate", ""], "error: the name of the network is empty"),
        (["tune", ""], "error: SPACE.yaml: is empty"),
        (["tune", "--data", ""], "error: --data is empty; it takes `digits`"),
        (["dance"], "No such command 'dance'"),
    ],
)
def test_a_wrong_request_gets_its_reason_and_status_2_and_writes_nothing(
    arguments: list[str], message: str, tmp_path: Path
) -> None:
    (tmp_path / "bad.yaml").write_text(
        reskeras.dump_spec(reskeras.preset("resnet20")).replace("width: 16, stride: 1", "width: -1")
    )
    (tmp_path / "space.yaml").write_text(default_space(Facts((8, 8, 1), 10), CLASSIFICATION).dump())
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
        "follows the data: input_shape 8x8x1 (the spec has 32x32x3), head.classes 3 (the spec has "
        "10)" in done.stderr
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
    options = ("--data", str(blobs_npz), "--epochs", "1", "--recipe", "wrn_cifar")
    again = run("train", "my.yaml", *options)
    how = dataclasses.replace(training_recipe("wrn_cifar"), epochs=1)
    assert load_recipe("trained/my-2/spec.yaml").train == how
    assert "saved: trained/my-2/model.keras" in again.stdout  # what was trained before stays


@pytest.mark.main_path
def test_tune_tells_its_result_as_json_on_a_clean_standard_output(
    tmp_path: Path, blobs_npz: Path
) -> None:
    (tmp_path / "space.yaml").write_text(tiny().dump())
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
    """Two that start at once have a port each."""
    from tuning.tracking import open_store, tracking_uri

    open_store(tracking_uri(None))
    command = [sys.executable, "-m", "reskeras", "ui", "--no-browser"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen(command, **pipes) for _ in range(2)]
    addresses = []
    try:
        for process in processes:
            line = process.stdout.readline()
            addresses.append(line.rsplit(" ", 1)[1].partition("/#")[0])
        assert len(set(addresses)) == 2
        for address in addresses:
            assert address.startswith("http://127.0.0.1:")
            assert urllib.request.urlopen(f"{address}/health", timeout=10).status == 200
            page = urllib.request.Request(f"{address}/", headers={"Host": "10.evil.example"})
            with pytest.raises(urllib.error.HTTPError, match="403"):
                urllib.request.urlopen(page, timeout=10)
    finally:
        for process in processes:
            process.send_signal(signal.SIGINT)
        ends = [process.communicate(timeout=60)[1] for process in processes]
    for process, stderr in zip(processes, ends, strict=True):
        assert process.returncode == 0, stderr
        assert "server stopped" in stderr
    for address in addresses:
        with pytest.raises(OSError, match="refused"):
            urllib.request.urlopen(f"{address}/health", timeout=10)


def test_exported_names_exist_and_are_no_modules() -> None:
    importlib.import_module("tuning.search.tune")  # which imports everything
    for name in reskeras.__all__:
        assert not inspect.ismodule(getattr(reskeras, name)), name
    with pytest.raises(AttributeError, match="no attribute 'biuld'"):
        reskeras.biuld  # noqa: B018


@pytest.mark.parametrize(
    ("error", "line", "status"),
    [
        (
            OSError(errno.ENOSPC, "No space left on device", "a.txt"),
            "a.txt: No space left on device",
            1,
        ),
        (MemoryError("Unable to allocate 3 TiB"), "out of memory: Unable to allocate 3 TiB", 1),
        (RuntimeError("the work failed"), "the work failed", 1),
        (RequestError("a: wrong\nb: wrong"), "a: wrong\nerror: b: wrong", 2),
        (RuntimeError("http://user:secret@host: gone"), "http://***@host: gone", 1),
    ],
)
def test_an_error_is_a_line(
    error: Exception, line: str, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    _failing(error, monkeypatch)
    result = CliRunner().invoke(main, ["schema"])
    assert (result.stderr, result.stdout, result.exit_code) == (f"error: {line}\n", "", status)


def test_unexpected_errors_keep_their_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    _failing(ZeroDivisionError(), monkeypatch)
    assert isinstance(CliRunner().invoke(main, ["schema"]).exception, ZeroDivisionError)


def _failing(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    schema = importlib.import_module("reskeras.cli.schema")

    def fail() -> None:
        raise error

    monkeypatch.setattr(schema, "spec_schema", fail)


def test_a_reader_may_leave_early() -> None:
    """As `reskeras presets --json | head -1` does."""
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "reskeras", "presets", "--json"],
        stdout=write,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(write)
    assert done.stderr == ""


@pytest.mark.parametrize("command", COMMANDS)
def test_every_help_says_what_the_command_does_in_80_columns(command: str) -> None:
    listed = CliRunner().invoke(main, ["--help"], terminal_width=120).stdout
    first = next(
        line.split(maxsplit=1)[1] for line in listed.splitlines() if line.split()[:1] == [command]
    )
    text = CliRunner().invoke(main, [command, "--help"], terminal_width=80).stdout
    assert text.splitlines()[2].strip() == first
    assert max(map(len, text.splitlines())) <= 80
    assert "default: default" not in text


def test_no_output_has_the_password_of_the_store(blobs_npz: Path) -> None:
    """Nothing answers at the address: a search continues without MLflow, the others fail."""
    uri = "http://user:secret@127.0.0.1:9"
    Path("space.yaml").write_text(tiny().dump())
    commands = [
        ["tune", "space.yaml", "--data", str(blobs_npz), "--trials", "1", "--name", "s"],
        ["sync", "s"],
        ["runs"],
        ["ui"],
        ["show", "0123abc"],
    ]
    for command in commands:
        done = run(*command, "--tracking-uri", uri)
        assert "secret" not in done.stdout + done.stderr, command
        assert "***@127.0.0.1:9" in done.stdout + done.stderr, command
    for path in Path("searches/s").rglob("*"):
        assert not path.is_file() or b"secret" not in path.read_bytes(), path


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
    space = default_space(Facts((8, 8, 1), 10), CLASSIFICATION)
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


def test_sigterm_ends_a_command_as_ctrl_c_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is half-written is removed."""

    def ended(spec: Any) -> None:
        with replacing(Path("folder")) as partial:
            partial.mkdir()
            os.kill(os.getpid(), signal.SIGTERM)
            signal.sigtimedwait([], 5)  # Python runs the handler before this ends

    monkeypatch.setattr("reskeras.cost", ended)
    done = CliRunner().invoke(main, ["cost", "digits_basic"])
    assert (done.exit_code, done.stderr) == (130, "interrupted\n")
    assert not list(Path().iterdir())
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_postponed_signal_interrupts_once() -> None:
    """A second time, it would cut short the wait for MLflow at the end."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)
    handlers = [signal.getsignal(number) for number in numbers]
    trial: Any = None
    try:
        interrupts = _Interrupts()
        interrupts._raise(signal.SIGTERM, None)  # a library's code runs: later
        assert signal.getitimer(signal.ITIMER_REAL)[0] > 0
        with pytest.raises(KeyboardInterrupt):
            interrupts.epoch_ended(trial, None)
        assert signal.getitimer(signal.ITIMER_REAL)[0] == 0
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in zip(numbers, handlers, strict=True):
            signal.signal(number, handler)
