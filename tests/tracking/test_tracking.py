"""What MLflow has of a search, whatever happens to its store. Trials are stubs, but for the
winner's model."""

import base64
import contextlib
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
import zlib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import keras
import mlflow
import numpy as np
import pytest
import stubs
from mlflow.entities import Metric
from stubs import score_of, tiny

from reskeras.data import ImageData, from_arrays
from reskeras.errors import RequestError
from reskeras.spec.text import load_recipe
from reskeras.training.state import Epoch
from tuning import Range, Space, tune
from tuning.record.entries import TrialRecord
from tuning.record.events import Ending, Listener, Result, Search, Trial
from tuning.record.journal import write_line
from tuning.record.kept import Keep
from tuning.tracking import Tracker, open_store, sync, tracking_uri
from tuning.tracking.store import knows_views, view_link

RATES = Range(low=0.001, high=0.1, log=True)


@pytest.fixture(scope="module")
def data(blobs: dict[str, np.ndarray]) -> ImageData:
    return from_arrays(blobs, name="blobs")


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tuning.running.executor.run_trial", stubs.run_trial)
    monkeypatch.setattr("tuning.running.executor.run_evaluation", stubs.run_evaluation)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that failed is tried again at once."""
    monkeypatch.setattr("tuning.tracking.tracker._RETRY_SECONDS", 0.0)
    monkeypatch.setattr("tuning.tracking.tracker._PAUSE_SECONDS", 0.05)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")


def space(epochs: int = 3) -> Space:
    return tiny(
        epochs,
        **{
            "block.kind": ["plain", "basic"],
            "stages.*.blocks": [1, 2],
            "train.learning_rate": RATES,
        },
    )


class Problems(list[str]):
    """What a tracker complains of, but for the stubs' models, which are none."""

    def __call__(self, text: str) -> None:
        if "not a Keras model" not in text:
            self.append(text)


def search(
    data: ImageData, uri: str, *before: Listener, directory: str = "s", **how: Any
) -> tuple[Result, Problems]:
    problems = Problems()
    how = {"trials": 4, "oracle": "random"} | how
    result = tune(
        how.pop("space", space()),
        data,
        directory=directory,
        listeners=[*before, Tracker(uri, problems)],
        **how,
    )
    return result, problems


def story(uri: str) -> dict[str, Any]:
    """All that a store has of its runs, by key, without ids and links."""
    client = open_store(uri)
    told = {}
    for experiment in client.search_experiments():
        for run in client.search_runs([experiment.experiment_id]):
            tags, metrics = run.data.tags, {}
            for name in run.data.metrics:
                metrics[name] = sorted(
                    (m.step, m.value, m.timestamp)
                    for m in client.get_metric_history(run.info.run_id, name)
                )
            own = {name: value for name, value in tags.items() if name.startswith("reskeras.")}
            key = (tags["reskeras.search"], tags.get("reskeras.key", "search"))
            assert key not in told, f"two runs for {key}"
            told[key] = {
                "name": run.info.run_name,
                "status": run.info.status,
                "ended": run.info.end_time,
                "params": run.data.params,
                "metrics": metrics,
                "tags": own,
                "files": sorted(file.path for file in client.list_artifacts(run.info.run_id)),
                "data": [(i.dataset.name, i.dataset.digest) for i in run.inputs.dataset_inputs],
            }
    return told


class Server:
    """A real MLflow server on loopback."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = probe.getsockname()[1]
        self.uri = f"http://127.0.0.1:{self._port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen(
            [
                *(
                    sys.executable,
                    "-m",
                    "mlflow",
                    "server",
                    "--backend-store-uri",
                    f"sqlite:///{self._folder}/server.db",
                ),
                *("--artifacts-destination", str(self._folder / "artifacts"), "--workers", "1"),
                *("--host", "127.0.0.1", "--port", str(self._port)),
            ],
            env=os.environ
            | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            with contextlib.suppress(urllib.error.URLError, ConnectionError, TimeoutError):
                urllib.request.urlopen(f"{self.uri}/health", timeout=5).close()
                return
        pytest.fail("the MLflow server did not start")

    def kill(self) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    running = Server(tmp_path)
    running.start()
    yield running
    running.kill()


# What is told


class WaitForLoad(Listener):
    """Holds the search until MLflow has recorded the machine's load."""

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self.found: set[str] = set()

    def epoch_ended(self, trial: Trial, epoch: Epoch) -> None:
        deadline = time.monotonic() + 60
        while not self.found and time.monotonic() < deadline:
            runs = open_store(self._uri).search_runs(["1"])
            self.found = {
                name for run in runs for name in run.data.metrics if name.startswith("system/")
            }


@pytest.mark.usefixtures("stub")
def test_system_metrics_are_those_of_the_search(
    data: ImageData, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.01")
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLES_BEFORE_LOGGING", "1")
    uri, problems = tracking_uri(None), Problems()
    waiting = WaitForLoad(uri)
    threads = threading.active_count()
    tracker = Tracker(uri, problems, system_metrics=True)
    tune(tiny(), data, directory="s", trials=1, oracle="random", listeners=[tracker, waiting])
    assert not problems
    assert {"system/cpu_utilization_percentage", "system/system_memory_usage_megabytes"} <= (
        waiting.found
    )
    (parent,) = (
        run for run in open_store(uri).search_runs(["1"]) if "system/" in str(run.data.metrics)
    )
    assert parent.data.tags["reskeras.kind"] == "search"
    assert parent.info.status == "FINISHED"
    assert threading.active_count() == threads  # the sampling ends with the search


@pytest.mark.usefixtures("stub")
def test_each_run_has_its_point_its_curve_its_costs_and_its_rank(data: ImageData) -> None:
    result, problems = search(data, tracking_uri(None), final_epochs=4)
    assert problems == []
    told = story(tracking_uri(None))
    parent = told["s", "search"]
    assert parent["params"] == {
        "oracle": "random",
        "objective": "val_accuracy",
        "epochs": "3",
        "seed": "0",
        "data": "blobs",
        "data_source": "",
        "data_digest": data.digest,
    }
    best = np.maximum.accumulate(
        [record.score for record in sorted(result.trials, key=lambda record: record.number)]
    )
    assert [value for _, value, _ in parent["metrics"]["best_val_accuracy"]] == pytest.approx(
        list(best)
    )
    assert [step for step, _, _ in parent["metrics"]["best_val_accuracy"]] == [1, 2, 3, 4]
    assert parent["metrics"]["test_accuracy"][0][:2] == (4, 0.5)
    assert {
        "report.html",
        "leaderboard.csv",
        "best.yaml",
        "factors.svg",
        "space.yaml",
        "data.json",
    } <= set(parent["files"])
    entries = [json.loads(line) for line in Path("s/journal.jsonl").read_text().splitlines()]
    for rank, record in enumerate(result.trials, start=1):
        run = told["s", f"trial-{record.number:04}"]
        rate = record.values["train.learning_rate"]
        blocks, kind = record.values["stages.*.blocks"], record.values["block.kind"]
        assert run["name"] == f"{kind} · {blocks} · lr {rate:.3g}"
        assert float(run["params"].pop("log10_lr")) == pytest.approx(np.log10(rate))
        # The stem, two convolutions a block, for basic a projection that is not on the longest way,
        # and the classifier.
        assert run["params"] == {
            "trial": str(record.number),
            "block": kind,
            "blocks": str(blocks),
            "lr": str(rate),
            "depth": str(2 + 2 * blocks),
        }
        epochs = [e for e in entries if e["kind"] == "epoch" and e["number"] == record.number]
        curve = [(e["epoch"], e["metrics"]["val_accuracy"], int(e["time"] * 1000)) for e in epochs]
        assert run["metrics"]["val_accuracy"] == curve
        assert run["metrics"]["rank"][0][1] == rank
        assert {"params_millions", "macs_millions", "trial_seconds", "epoch_seconds"} <= set(
            run["metrics"]
        )
        assert run["files"] == ["architecture.svg", "learning_curve.svg", "spec.yaml"]
        assert [name for name, _ in run["data"]] == ["blobs"]
        assert run["status"] == "FINISHED"
    number = result.best.number
    final = told["s", f"trial-{number:04}-final-4-0"]
    assert final["name"].startswith("final · ")
    assert [step for step, _, _ in final["metrics"]["val_loss"]] == [1, 2, 3, 4]
    assert final["tags"]["reskeras.best"] == "true"


@pytest.mark.usefixtures("stub")
def test_the_description_has_the_answer_the_leaderboard_and_the_command(data: ImageData) -> None:
    result, _ = search(data, tracking_uri(None), command=["reskeras", "tune", "my space.yaml"])
    client = open_store(tracking_uri(None))
    (parent,) = client.search_runs(["1"], "tags.`reskeras.kind` = 'search'")
    note = parent.data.tags["mlflow.note.content"]
    assert note.startswith("The best of 4 trials on blobs is **")
    assert "50.0 % on the test split" in note.splitlines()[0]
    assert f"viewStateShareKey=reskeras-{parent.data.tags['reskeras.search_id'][:12]}" in note
    rows = [line for line in note.splitlines() if line.startswith("| ") and "](#/" in line]
    assert [int(row.split("|")[2].split("[")[1].split("]")[0]) for row in rows] == [
        record.number for record in result.trials
    ]
    for row, record in zip(rows, result.trials, strict=True):
        run = client.get_run(
            row.partition("/runs/")[2].partition("?workflowType=machine_learning)")[0]
        )
        assert run.data.tags["reskeras.trial"] == str(record.number)
    assert "reskeras tune 'my space.yaml'" in note


@pytest.mark.usefixtures("stub")
def test_promoted_trials_go_on_along_the_same_axis(data: ImageData) -> None:
    result, _ = search(data, tracking_uri(None), oracle="hyperband", trials=12, space=space(6))
    told = story(tracking_uri(None))
    promoted = [record for record in result.trials if record.parent is not None]
    assert promoted
    for record in promoted:
        run, first = told["s", f"trial-{record.number:04}"], record.values["tuner/initial_epoch"]
        assert run["tags"]["reskeras.parent_trial"] == str(record.parent)
        assert [step for step, _, _ in run["metrics"]["val_loss"]] == list(
            range(first + 1, record.epochs + 1)
        )


@pytest.mark.usefixtures("stub")
def test_a_view_names_only_what_the_runs_have(data: ImageData) -> None:
    search(data, tracking_uri(None))
    search(data, tracking_uri(None), directory="t", seed=1)
    client = open_store(tracking_uri(None))
    views = {
        name: value
        for name, value in client.get_experiment("1").tags.items()
        if name.startswith("mlflow.sharedViewState.")
    }
    assert len(views) == 2  # each search has its own
    runs = client.search_runs(
        ["1"], "tags.`reskeras.kind` = 'trial' and tags.`reskeras.search` = 's'"
    )
    columns = {f"params.`{name}`" for name in runs[0].data.params} | {
        f"metrics.`{name}`" for name in runs[0].data.metrics
    }
    key = f"mlflow.sharedViewState.reskeras-{runs[0].data.tags['reskeras.search_id'][:12]}"
    packed = json.loads(views[key])["state"].removeprefix("deflate;")
    state = json.loads(zlib.decompress(base64.b64decode(packed)))
    # MLflow's own
    assert set(state["selectedColumns"]) <= columns | {
        "attributes.`Run Name`",
        "runDateAndNestInfo",
    }
    (parallel,) = [chart for chart in state["compareRunCharts"] if chart["type"] == "PARALLEL"]
    assert {f"params.`{name}`" for name in parallel["selectedParams"]} <= columns
    assert {"depth", "block", "log10_lr"} <= set(parallel["selectedParams"])
    found = client.search_runs(["1"], state["searchFilter"])
    assert {run.info.run_id for run in found} == {run.info.run_id for run in runs}


@pytest.mark.parametrize(
    ("version", "views"), [("3.17.2", True), ("3.14.0", False), ("4.0.0", False), (None, False)]
)
def test_a_server_of_another_version_gets_a_plain_link(version: str | None, views: bool) -> None:
    with answering(
        lambda path: (200, version.encode()) if version and path == "/version" else (404, b"")
    ) as uri:
        assert knows_views(uri) is views
    link = view_link("7", "abc", "val_loss", views=views)
    assert link.startswith("/#/experiments/7/runs?workflowType=machine_learning")
    assert ("viewStateShareKey=reskeras-abc" in link) is views
    assert ("orderByAsc=true" in link) is not views


# The model


LOAD = """
import sys, numpy as np, mlflow
mlflow.set_tracking_uri(sys.argv[1])
images = np.load("images.npy")
flavour = mlflow.pyfunc.load_model("models:/s@champion").predict(images)
plain = mlflow.keras.load_model("models:/s@champion").predict(images, verbose=0)
example = mlflow.pyfunc.load_model("models:/s@champion").input_example
assert "reskeras" not in sys.modules
np.savez("outputs.npz", flavour=flavour, plain=plain, example=example)
"""


def test_the_winners_model_is_registered_loads_anywhere_and_serves(
    data: ImageData, blobs: dict[str, np.ndarray]
) -> None:
    Path("elsewhere").mkdir()
    uri = tracking_uri(f"sqlite:///{Path.cwd()}/elsewhere/store.db")  # not MLflow's own default
    problems = Problems()
    result = tune(tiny(), data, directory="s", trials=2, listeners=[Tracker(uri, problems)])
    assert problems == []
    client = open_store(uri)
    version = client.get_model_version_by_alias("s", "champion")
    assert client.get_run(version.run_id).data.tags["reskeras.trial"] == str(result.best.number)
    images = blobs["x_test"][:5].astype("float32")
    np.save("images.npy", images)
    wanted = keras.saving.load_model("s/best.keras").predict(images, verbose=0)
    subprocess.run([sys.executable, "-c", LOAD, uri], check=True)
    with np.load("outputs.npz") as outputs:
        np.testing.assert_allclose(outputs["flavour"], wanted, rtol=1e-6)
        np.testing.assert_allclose(outputs["plain"], wanted, rtol=1e-6)
        np.testing.assert_allclose(outputs["example"], blobs["x_val"][:1], rtol=1e-6)

    # The same search again does not register its model again.
    tune(tiny(), data, directory="s", trials=2, listeners=[Tracker(uri, problems)])
    assert [found.version for found in client.search_model_versions("name='s'")] == [
        version.version
    ]

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    serving = subprocess.Popen(
        [
            *(
                sys.executable,
                "-m",
                "mlflow",
                "models",
                "serve",
                "-m",
                "models:/s@champion",
                "--host",
                "127.0.0.1",
            ),
            *("-p", str(port), "--env-manager", "local"),
        ],
        env=os.environ
        | {
            "MLFLOW_TRACKING_URI": uri,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        },
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/invocations",
            json.dumps({"inputs": images.tolist()}).encode(),
            {"Content-Type": "application/json"},
        )
        answer = None
        deadline = time.monotonic() + 120
        while answer is None and time.monotonic() < deadline and serving.poll() is None:
            with contextlib.suppress(urllib.error.URLError, ConnectionError):
                answer = json.loads(urllib.request.urlopen(request, timeout=60).read())
        np.testing.assert_allclose(answer["predictions"], wanted, rtol=1e-5)
    finally:
        os.killpg(serving.pid, signal.SIGKILL)
        serving.wait()


@pytest.mark.usefixtures("stub")
@pytest.mark.parametrize(("keep", "kept"), [("best", 0), ("top:2", 2), ("all", 5)])
def test_models_are_kept_by_choice(data: ImageData, keep: str, kept: int) -> None:
    result, _ = search(data, tracking_uri(None), trials=3, keep=Keep.parse(keep))
    # A second session keeps the same
    result, _ = search(data, tracking_uri(None), trials=5, keep=Keep.parse(keep))
    wanted = {f"trial-{record.number:04}" for record in result.trials[:kept]}
    assert {path.name for path in Path("s/models").glob("*")} == wanted
    for name in wanted:
        recipe = load_recipe(Path("s/models", name, "spec.yaml"))
        assert (Path("s/models") / name / "model.keras").read_text() == Path(
            "s/models", name, "spec.yaml"
        ).read_text()
        score = next(
            record.score for record in result.trials if f"trial-{record.number:04}" == name
        )
        assert score == pytest.approx(score_of(recipe) + 0.03)
    told = story(tracking_uri(None))
    assert {key for (_, key), run in told.items() if "model.keras" in run["files"]} == wanted


@pytest.mark.usefixtures("stub")
def test_kept_models_have_bounded_size(data: ImageData) -> None:
    result, _ = search(data, tracking_uri(None), trials=5, keep=Keep(count=None, size=10**9))
    sizes = [
        Path(f"s/models/trial-{record.number:04}/model.keras").stat().st_size
        for record in result.trials
    ]
    search(
        data,
        tracking_uri(None),
        directory="t",
        trials=5,
        keep=Keep(count=None, size=sum(sizes[:3])),
    )
    assert {path.name for path in Path("t/models").glob("*")} == {
        f"trial-{record.number:04}" for record in result.trials[:3]
    }


@pytest.mark.parametrize("wrong", ["top", "top:0", "top:x", "none", ""])
def test_what_to_keep_is_said_clearly(wrong: str) -> None:
    with pytest.raises(RequestError, match="best, top:K"):
        Keep.parse(wrong)


# Stores that fail


class At(Listener):
    """Does something when a trial has ended."""

    def __init__(self, **acts: Any) -> None:
        self._acts = {int(name.removeprefix("t")): act for name, act in acts.items()}

    def trial_ended(self, trial: Trial, record: TrialRecord | None) -> None:
        self._acts.get(trial.number, lambda: None)()


@contextlib.contextmanager
def answering(answer: Any) -> Iterator[str]:
    """A server that answers every request by a function from the path to status and body."""

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, body = answer(self.path)
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_PUT = do_PATCH = _answer  # noqa: N815

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        running.daemon_threads = True
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{running.server_address[1]}"
        finally:
            running.shutdown()
            thread.join()


@pytest.mark.usefixtures("stub", "impatient")
def test_a_server_that_is_killed_and_comes_back_has_it_all(data: ImageData, server: Server) -> None:
    tracker_problems = Problems()
    tracker = Tracker(server.uri, tracker_problems)
    told: list[bool] = []

    def caught_up() -> None:
        told.append(tracker.flush(60))

    acts = At(
        t2=lambda: (caught_up(), server.kill()),
        t4=lambda: told.append(tracker.flush(5)),
        t5=server.start,
    )
    tune(space(), data, directory="s", trials=6, oracle="random", listeners=[acts, tracker])
    assert told == [True, False]
    assert len(tracker_problems) == 2
    assert tracker_problems[0].startswith(f"MLflow failed ({server.uri})")
    assert tracker_problems[1] == f"MLflow ({server.uri}) answers again, and has what it missed"

    # The oracle: a store that was there all the time.
    _, problems = search(data, tracking_uri(None), directory="direct/s", trials=6)
    assert problems == []
    over, there = story(server.uri), story(tracking_uri(None))
    assert set(over) == set(there)
    for key, run in over.items():
        assert run["status"] == "FINISHED"
        assert run["params"] == there[key]["params"]
        assert run["files"] == there[key]["files"]
        values = [
            {name: [point[:2] for point in curve] for name, curve in of["metrics"].items()}
            for of in (run, there[key])
        ]
        for measured in values:
            for name in ("trial_seconds", "epoch_seconds"):
                measured.pop(name, None)
        assert values[0] == values[1]


@pytest.mark.usefixtures("stub", "impatient")
def test_a_server_that_was_never_there_is_told_later(data: ImageData) -> None:
    _, problems = search(data, "http://127.0.0.1:9", final_epochs=4)
    assert problems[0].startswith("MLflow failed (http://127.0.0.1:9)")
    assert problems[-1].endswith(
        "`reskeras sync s --tracking-uri http://127.0.0.1:9` sends it from the journal"
    )
    assert [
        problem
        for problem in sync(tracking_uri(None), Path("s"))
        if "not a Keras model" not in problem
    ] == []
    told = story(tracking_uri(None))
    assert {run["status"] for run in told.values()} == {"FINISHED"}
    assert len(told) == 6
    sync(tracking_uri(None), Path("s"))
    assert story(tracking_uri(None)) == told  # once more changes nothing
    entries = [json.loads(line) for line in Path("s/journal.jsonl").read_text().splitlines()]
    ended = {
        entry["number"]: int(entry["time"] * 1000) for entry in entries if entry["kind"] == "trial"
    }
    assert {number: told["s", f"trial-{number:04}"]["ended"] for number in ended} == ended


@pytest.mark.usefixtures("stub", "impatient")
def test_a_server_that_answers_500_or_nothing_stops_no_trial(
    data: ImageData, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tuning.tracking.tracker._CLOSING_SECONDS", dict.fromkeys(Ending, 10.0))
    with answering(lambda path: (500, b"no")) as uri:
        result, problems = search(data, uri)
        assert len(result.trials) == 4
        assert len(problems) == 2  # that it fails, once, and that it lacks something at the end
    over = threading.Event()

    class Over(Listener):
        def search_ended(self, ending: Ending, result: Result | None) -> None:
            over.set()

    def wait(path: str) -> tuple[int, bytes]:
        assert over.wait(60)  # it would never answer, were a trial to wait for it
        return 500, b"no"

    with answering(wait) as uri:
        result, problems = search(data, uri, Over(), directory="t")
        assert len(result.trials) == 4


@pytest.mark.usefixtures("stub", "impatient")
def test_a_locked_store_is_written_to_when_it_is_free(data: ImageData) -> None:
    open_store(tracking_uri(None))
    lock = sqlite3.connect("mlflow.db", isolation_level=None, check_same_thread=False)
    ended: list[int] = []

    class Locks(Listener):
        def search_started(self, search: Search) -> None:
            lock.execute("BEGIN EXCLUSIVE")

        def trial_ended(self, trial: Trial, record: TrialRecord | None) -> None:
            ended.append(trial.number)

        def search_ended(self, ending: Ending, result: Result | None) -> None:
            assert ended == [1, 2, 3, 4]  # while it was locked
            lock.close()

    _, problems = search(data, tracking_uri(None), Locks())
    assert problems == []
    assert {run["status"] for run in story(tracking_uri(None)).values()} == {"FINISHED"}


@pytest.mark.usefixtures("stub", "impatient")
def test_a_store_without_space_is_told_later(
    data: ImageData, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = mlflow.MlflowClient.log_batch
    full = threading.Event()

    def log_batch(self: Any, run_id: str, **batch: Any) -> Any:
        if full.is_set():
            raise sqlite3.OperationalError("database or disk is full")
        return real(self, run_id, **batch)

    monkeypatch.setattr(mlflow.MlflowClient, "log_batch", log_batch)
    problems = Problems()
    tracker = Tracker(tracking_uri(None), problems)
    failed: list[bool] = []
    acts = At(
        t1=lambda: (failed.append(not tracker.flush(60)), full.set()),
        t2=lambda: failed.append(not tracker.flush(5)),
        t3=full.clear,
    )
    tune(space(), data, directory="s", trials=4, oracle="random", listeners=[acts, tracker])
    assert failed == [False, True]
    assert "database or disk is full" in problems[0]
    assert problems[1].endswith("answers again, and has what it missed")
    told = story(tracking_uri(None))
    assert {run["status"] for run in told.values()} == {"FINISHED"}
    assert all(
        len(run["metrics"]["val_loss"]) == 3 for (_, key), run in told.items() if key != "search"
    )


@pytest.mark.usefixtures("stub")
def test_two_searches_begin_one_store_at_once(data: ImageData) -> None:
    problems: dict[str, Problems] = {}

    def run(name: str) -> None:
        problems[name] = search(data, tracking_uri(None), directory=name, seed=int(name[1]))[1]

    threads = [threading.Thread(target=run, args=(name,)) for name in ("s1", "s2")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems["s1"] == []
    assert problems["s2"] == []
    told = story(tracking_uri(None))
    assert sorted(told) == [
        (name, key)
        for name in ("s1", "s2")
        for key in ["search", *(f"trial-{n:04}" for n in range(1, 5))]
    ]
    assert {run["status"] for run in told.values()} == {"FINISHED"}


@pytest.mark.usefixtures("stub", "impatient")
def test_a_run_that_somebody_deletes_is_given_up_alone(data: ImageData) -> None:
    problems = Problems()
    tracker = Tracker(tracking_uri(None), problems)

    class Deletes(Listener):
        def trial_started(self, trial: Trial) -> None:
            if trial.number == 2:
                assert tracker.flush(30)
                client = open_store(tracking_uri(None))
                (run,) = client.search_runs(["1"], "tags.`reskeras.trial` = '2'")
                client.delete_run(run.info.run_id)

    tune(space(), data, directory="s", trials=3, oracle="random", listeners=[tracker, Deletes()])
    assert len(problems) == 1
    assert problems[0].startswith("MLflow refuses ")
    told = story(tracking_uri(None))
    assert set(told) == {("s", "search"), ("s", "trial-0001"), ("s", "trial-0003")}
    assert {run["status"] for run in told.values()} == {"FINISHED"}


def test_what_cannot_be_sent_is_refused_clearly(data: ImageData) -> None:
    with pytest.raises(RequestError, match="nowhere: no search here: it has no journal"):
        sync(tracking_uri(None), Path("nowhere"))


@pytest.mark.usefixtures("stub")
def test_a_search_that_runs_is_not_sent_by_another(data: ImageData) -> None:
    refused: list[str] = []

    def other() -> None:
        with pytest.raises(
            RequestError, match="this search is running; it sends everything to MLflow itself"
        ) as error:
            sync(tracking_uri(None), Path("s"))
        refused.append(str(error.value))

    tune(space(), data, directory="s", trials=2, oracle="random", listeners=[At(t1=other)])
    assert len(refused) == 1


# Callers


@pytest.mark.usefixtures("stub")
def test_a_run_that_the_caller_has_active_is_the_searchs_and_stays_the_callers(
    data: ImageData,
) -> None:
    uri = tracking_uri(None)
    open_store(uri)
    mlflow.set_tracking_uri(uri)
    try:
        mlflow.set_experiment("mine")
        with mlflow.start_run(run_name="thesis") as mine:
            search(data, uri)
            assert mlflow.active_run().info.run_id == mine.info.run_id
            client = open_store(uri)
            assert client.get_run(mine.info.run_id).info.status == "RUNNING"
            mlflow.log_metric("after", 1.0)  # it is still the caller's
            search(data, uri, directory="t")
    finally:
        mlflow.set_tracking_uri(None)
    told = story(uri)
    assert told["s", "search"]["name"] == "thesis"
    assert told["s", "search"]["status"] == "FINISHED"
    first = client.search_runs(
        [mine.info.experiment_id], "tags.`reskeras.search` = 's' and tags.`reskeras.kind` = 'trial'"
    )
    assert {run.data.tags["mlflow.parentRunId"] for run in first} == {mine.info.run_id}
    (second,) = client.search_runs(
        [mine.info.experiment_id],
        "tags.`reskeras.search` = 't' and tags.`reskeras.kind` = 'search'",
    )
    assert second.data.tags["mlflow.parentRunId"] == mine.info.run_id


@pytest.mark.usefixtures("stub")
def test_names_in_the_environment_choose_the_experiment(
    data: ImageData, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "elsewhere")
    search(data, tracking_uri(None))
    names = {experiment.name for experiment in open_store(tracking_uri(None)).search_experiments()}
    assert names == {"Default", "elsewhere"}


def test_mlflow_drops_what_it_has_already() -> None:
    """What the mirror relies on."""
    client = open_store(tracking_uri(None))
    run = client.create_run("0").info.run_id
    for _ in range(2):
        client.log_batch(run, metrics=[Metric("x", 1.0, 1000, 1), Metric("x", 2.0, 2000, 2)])
    assert len(client.get_metric_history(run, "x")) == 2


@pytest.mark.usefixtures("stub")
def test_the_spec_of_a_run_is_what_ran(data: ImageData) -> None:
    result, _ = search(data, tracking_uri(None))
    client = open_store(tracking_uri(None))
    for run in client.search_runs(["1"], "tags.`reskeras.kind` = 'trial'"):
        recipe = load_recipe(client.download_artifacts(run.info.run_id, "spec.yaml"))
        record = next(
            record
            for record in result.trials
            if str(record.number) == run.data.tags["reskeras.trial"]
        )
        assert score_of(recipe) + 0.03 == pytest.approx(record.score)


@pytest.mark.usefixtures("stub")
def test_sync_takes_nothing_away_and_keeps_the_end(data: ImageData) -> None:
    uri = tracking_uri(None)
    search(data, uri, keep=Keep.parse("top:2"))
    before = story(uri)
    for model in Path("s/models").glob("*/model.keras"):
        model.unlink()
    sync(uri, Path("s"))
    assert story(uri) == before
    search(data, uri)  # without a word of models
    assert {key for key, run in story(uri).items() if "model.keras" in run["files"]} == {
        key for key, run in before.items() if "model.keras" in run["files"]
    }


@pytest.mark.usefixtures("stub")
def test_a_search_whose_trials_were_paused_has_ended_all_the_same(data: ImageData) -> None:
    uri = tracking_uri(None)
    result, _ = search(data, uri, trials=3)
    lines = Path("s/journal.jsonl").read_bytes().splitlines(keepends=True)
    values = dict(result.trials[0].values)
    # Before the conclusion: paused by --minutes
    lines.insert(-1, write_line("started", {"number": 4, "values": values, "time": time.time()}))
    Path("s/journal.jsonl").write_bytes(b"".join(lines))
    sync(uri, Path("s"))
    told = story(uri)
    assert told["s", "search"]["status"] == "FINISHED"
    assert told["s", "trial-0004"]["status"] == "KILLED"
    assert told["s", "search"]["tags"]["reskeras.best_trial"] == str(result.best.number)


@pytest.mark.usefixtures("stub")
def test_a_search_is_found_in_whichever_experiment_it_is(
    data: ImageData, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "mine")
    search(data, tracking_uri(None))
    before = story(tracking_uri(None))
    monkeypatch.delenv("MLFLOW_EXPERIMENT_NAME")
    sync(tracking_uri(None), Path("s"))
    assert story(tracking_uri(None)) == before


@pytest.mark.usefixtures("stub")
def test_a_run_of_the_callers_with_other_parameters_of_these_names_stays_as_it_is(
    data: ImageData,
) -> None:
    uri = tracking_uri(None)
    open_store(uri)
    mlflow.set_tracking_uri(uri)
    try:
        with mlflow.start_run(experiment_id="0") as mine:
            mlflow.log_params({"seed": 42, "mine": "yes"})
            _, problems = search(data, uri)
    finally:
        mlflow.set_tracking_uri(None)
    assert problems == []
    client = open_store(uri)
    assert client.get_run(mine.info.run_id).data.params == {"seed": "42", "mine": "yes"}
    (own,) = client.search_runs([mine.info.experiment_id], "tags.`reskeras.kind` = 'search'")
    assert own.data.tags["mlflow.parentRunId"] == mine.info.run_id


@pytest.mark.usefixtures("stub")
def test_a_listener_that_fails_at_the_end_keeps_no_run_running(data: ImageData) -> None:
    class Fails(Listener):
        def search_ended(self, ending: Ending, result: Result | None) -> None:
            raise OSError("no")

    with pytest.raises(OSError, match="no"):
        search(data, tracking_uri(None), Fails())
    assert {run["status"] for run in story(tracking_uri(None)).values()} == {"FINISHED"}


@pytest.mark.usefixtures("stub")
def test_one_tracker_follows_one_search_after_another(data: ImageData) -> None:
    problems = Problems()
    tracker = Tracker(tracking_uri(None), problems)
    for name in ("s", "t"):
        tune(space(), data, directory=name, trials=2, oracle="random", listeners=[tracker])
        assert tracker.flush(1)
    assert problems == []
    assert {(name, run["status"]) for (name, _), run in story(tracking_uri(None)).items()} == {
        ("s", "FINISHED"),
        ("t", "FINISHED"),
    }
