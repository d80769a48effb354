"""Runs read back from MLflow: stores are written by hand here, as docs/mlflow.md says, not by the
tracker."""

import dataclasses
import io
import json
import socket
import tempfile
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image
from rich.console import Console
from stubs import tiny

import reskeras
from reskeras.cli import main
from reskeras.cli.runs import _show_side_by_side
from reskeras.data import load
from reskeras.errors import RequestError
from reskeras.spec import Level, Recipe, Segmenter, TrainSpec, UNet
from reskeras.spec.text import dump_recipe, load_recipe
from reskeras.training.train import build_seeded, train
from tuning.record.entries import TrialRecord
from tuning.record.events import Listener, Search, Trial
from tuning.search.tune import tune
from tuning.tracking import open_store
from tuning.tracking.runs import Kind, Runs, Status, is_run_id, ranked


@dataclasses.dataclass
class Store:
    """A store that is filled by hand."""

    folder: Path
    client: Any = None
    experiment: str = ""
    uri: str = ""
    ids: dict[str, str] = dataclasses.field(default_factory=dict)
    """Run ids by words of the tests' own."""

    def __post_init__(self) -> None:
        self.uri = f"sqlite:///{self.folder / 'mlflow.db'}"
        self.client = open_store(self.uri)
        self.experiment = self.client.create_experiment(
            "digits", artifact_location=(self.folder / "mlartifacts").as_uri()
        )

    def search(
        self, word: str, name: str, hours_ago: float, objective: str = "val_accuracy", **params: Any
    ) -> str:
        tags = {
            "reskeras.kind": "search",
            "reskeras.search": name,
            "reskeras.search_id": f"{len(self.ids):08x}{'ab' * 12}",
        }
        run = self._run(word, name, hours_ago, tags | {"reskeras.objective": objective})
        told = {
            "oracle": "tpe",
            "objective": objective,
            "epochs": 6,
            "seed": 0,
            "data": "digits",
            "data_digest": "d1",
        } | params
        for key, value in told.items():
            self.client.log_param(run, key, value)
        return run

    def trial(
        self,
        word: str,
        search: str,
        number: int,
        params: Mapping[str, Any],
        curve: Mapping[str, list[float]],
        *,
        status: str = "FINISHED",
        kind: str = "trial",
        spec: str | None = None,
        model: Path | None = None,
        **tags: str,
    ) -> str:
        parent = self.client.get_run(self.ids[search])
        key = f"trial-{number:04}" + ("-final-20-0" if kind == "final" else "")
        own = {f"reskeras.{name}": value for name, value in tags.items()} | {
            "reskeras.kind": kind,
            "reskeras.key": key,
            "reskeras.trial": str(number),
            "mlflow.parentRunId": parent.info.run_id,
        }
        inherited = {
            name: parent.data.tags[f"reskeras.{name}"]
            for name in ("search", "search_id", "objective")
        }
        hours = (time.time() - parent.info.start_time / 1000) / 3600 - number / 60
        run = self._run(
            word, key, hours, {f"reskeras.{name}": value for name, value in inherited.items()} | own
        )
        for name, value in ({"trial": number} | dict(params)).items():
            self.client.log_param(run, name, value)
        for name, values in curve.items():
            for epoch, value in enumerate(values, start=1):
                self.client.log_metric(run, name, value, step=epoch)
        if spec is not None:
            self.client.log_text(run, spec, "spec.yaml")
        if model is not None:
            self.client.log_artifact(run, str(model))
        if status != "RUNNING":
            self.client.set_terminated(run, status)
        return run

    def end_search(self, word: str, **metrics: float) -> None:
        for name, value in metrics.items():
            self.client.log_metric(self.ids[word], name, value, step=3)
        self.client.set_terminated(self.ids[word], "FINISHED")

    def _run(self, word: str, name: str, hours_ago: float, tags: Mapping[str, str]) -> str:
        start = int((time.time() - 3600 * hours_ago) * 1000)
        run = self.client.create_run(
            self.experiment, start_time=start, run_name=name, tags=dict(tags)
        )
        self.ids[word] = run.info.run_id
        return self.ids[word]


SPEC = dump_recipe(Recipe(spec=reskeras.preset("digits_basic"), train=TrainSpec(epochs=6, seed=5)))
POINTS = {
    "best": {
        "block": "bottleneck",
        "blocks": 3,
        "norm_order": "relu_only_preact",
        "lr": 0.004592345,
        "log10_lr": -2.338,
        "depth": 26,
    },
    "second": {
        "block": "dense",
        "blocks": 1,
        "norm_order": "relu_before_add",
        "lr": 0.012,
        "log10_lr": -1.92,
        "depth": 10,
    },
    "third": {
        "block": "basic",
        "blocks": 1,
        "norm_order": "full_preact",
        "lr": 0.0234567,
        "log10_lr": -1.63,
        "depth": 12,
    },
}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = Store(tmp_path_factory.mktemp("store"))
    store.search("older", "digits", 50)
    store.trial("older trial", "older", 1, POINTS["third"], {"val_accuracy": [0.5]})
    store.end_search("older", best_val_accuracy=0.5)
    store.search("search", "digits", 3, data_source="digits")
    cost = {"params_millions": [0.077610], "trial_seconds": [12.3]}
    store.trial(
        "third",
        "search",
        1,
        POINTS["third"],
        {"val_accuracy": [0.7, 0.9125]} | cost,
        stopped="after epoch 2",
        spec=SPEC,
    )
    store.trial(
        "best",
        "search",
        2,
        POINTS["best"],
        {"val_accuracy": [0.8, 0.99, 0.9861], "val_loss": [1.0, 0.5, 0.0471]} | cost,
    )
    store.trial(
        "second",
        "search",
        3,
        POINTS["second"],
        {"val_accuracy": [0.8, 0.97]} | cost,
        parent_trial="1",
        spec=SPEC,
    )
    failure = "Traceback (most recent call last):\n  File x\nValueError: no such layer"
    store.trial(
        "failed",
        "search",
        4,
        POINTS["third"],
        {"val_accuracy": [0.999]},
        status="FAILED",
        error=failure,
    )
    store.trial(
        "final",
        "search",
        2,
        POINTS["best"],
        {"val_accuracy": [0.9] * 19 + [0.9889]} | cost,
        kind="final",
        spec=SPEC,
    )
    store.client.set_tag(store.ids["search"], "reskeras.best_trial", "2")
    store.end_search("search", best_val_accuracy=0.9861, test_accuracy=0.9806, test_loss=0.06)
    store.search("losses", "mnist-by-loss", 0.5, "val_loss", data="mnist", oracle="asha")
    store.trial("low", "losses", 1, POINTS["third"], {"val_accuracy": [0.9], "val_loss": [0.25]})
    store.trial("high", "losses", 2, POINTS["second"], {"val_accuracy": [0.95], "val_loss": [0.75]})
    store.trial("running", "losses", 3, POINTS["second"], {"val_loss": [0.05]}, status="RUNNING")
    store.ids["foreign"] = store.client.create_run(store.experiment).info.run_id
    store.client.set_terminated(store.ids["foreign"])
    store.trial("deleted", "older", 2, POINTS["best"], {"val_accuracy": [1.0]})
    store.client.delete_run(store.ids["deleted"])
    return store


def reskeras_(*words: object, store: Store | None = None) -> Result:
    """Calls a command in this process; 80 columns wide."""
    more = ["--tracking-uri", store.uri] if store is not None else []
    return CliRunner().invoke(main, [*map(str, words), *more], env={"COLUMNS": "80"})


def refused(*words: object, store: Store | None = None) -> str:
    """The one line of a request that is refused."""
    result = reskeras_(*words, store=store)
    assert result.exit_code == 2, result.output
    (line,) = [line for line in result.stderr.splitlines() if not line.startswith("reskeras ")]
    return line


def document(*words: object, store: Store) -> Any:
    result = reskeras_(*words, "--json", store=store)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))


def test_runs_are_what_the_store_has(store: Store) -> None:
    runs = Runs(store.uri)
    assert [run.run_id for run in runs.searches()] == [
        store.ids[word] for word in ("losses", "search", "older")
    ]
    search = runs.searches()[1]
    assert (search.kind, search.search, search.score, search.number) == (
        Kind.SEARCH,
        "digits",
        0.9861,
        None,
    )
    assert search.params["data_digest"] == "d1"
    children = {run.run_id: run for run in runs.children(search)}
    assert {store.ids[word] for word in ("third", "best", "second", "failed", "final")} == set(
        children
    )
    best, third, failed = (children[store.ids[word]] for word in ("best", "third", "failed"))
    # The last, not the best
    assert (best.score, best.metrics["val_loss"], best.objective) == (
        0.9861,
        0.0471,
        "val_accuracy",
    )
    assert (best.params["block"], best.parent, best.status) == (
        "bottleneck",
        search.run_id,
        Status.FINISHED,
    )
    assert (third.status, third.score, runs.epochs(third)) == (Status.STOPPED, 0.9125, 2)
    assert (failed.status, failed.score) == (Status.FAILED, None)
    assert children[store.ids["second"]].grown_from == 1
    assert children[store.ids["final"]].kind is Kind.FINAL
    assert runs.search_of(best).run_id == runs.search_of(search).run_id == search.run_id
    assert runs.winner(search).run_id == store.ids["final"]
    assert runs.winner(runs.searches()[0]) is None
    with pytest.raises(dataclasses.FrozenInstanceError):
        best.score = 1.0


def test_the_direction_of_the_objective_ranks(store: Store) -> None:
    runs = Runs(store.uri)
    losses, search, _ = runs.searches()
    assert [run.run_id for run in ranked(runs.children(losses))] == [
        store.ids[word] for word in ("low", "high", "running")
    ]
    trials = [run for run in runs.children(search) if run.kind is Kind.TRIAL]
    assert [run.run_id for run in ranked(trials)] == [
        store.ids[word] for word in ("best", "second", "third", "failed")
    ]


def test_a_run_is_found_by_an_abbreviation_of_its_id(store: Store) -> None:
    runs = Runs(store.uri)
    for length in (32, 12, 6):
        assert runs.find(store.ids["second"][:length]).number == 3
    with pytest.raises(
        RequestError,
        match="is not a run id: those are 32 hex digits, of which the first 6 may be enough",
    ):
        runs.find(store.ids["second"][:5])
    with pytest.raises(
        RequestError, match="no run whose id is or starts with 'abcdef'; `reskeras runs` lists"
    ):
        runs.find("abcdef")
    with pytest.raises(
        RequestError,
        match=f"run {store.ids['foreign']} is not reskeras': it has no tag reskeras.kind",
    ):
        runs.find(store.ids["foreign"][:8])
    with pytest.raises(RequestError, match=f"run {store.ids['deleted']} is deleted; .*restore_run"):
        runs.find(store.ids["deleted"][:8])
    assert [is_run_id(word) for word in ("abcdef", "abcde", "abcdeg", "ab" * 16, "ab" * 17)] == [
        True,
        False,
        False,
        True,
        False,
    ]


def test_an_ambiguous_abbreviation_names_the_runs(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = Runs(store.uri)
    real = runs._client.search_runs
    # Ids are random: here the store answers as if these two began alike.
    monkeypatch.setattr(
        runs._client,
        "search_runs",
        lambda e, _which, **how: real(e, "tags.`reskeras.trial` = '2'", **how),
    )
    both = ", ".join(sorted([store.ids["best"], store.ids["final"], store.ids["high"]]))
    with pytest.raises(
        RequestError, match=f"'abcdef' is the start of 3 run ids: {both}; give more"
    ):
        runs.find("abcdef")


def test_the_searches_are_listed_newest_first(store: Store) -> None:
    lines = reskeras_("runs", store=store).stdout.splitlines()
    assert lines[0].split() == [
        "search",
        "data",
        "oracle",
        "trials",
        "failed",
        "best",
        "test",
        "status",
        "age",
        "run",
    ]
    assert all(len(line) <= 80 for line in lines)
    digits = [line.split() for line in lines if line.startswith("digits")]
    assert digits == [
        [
            "digits",
            "digits",
            "tpe",
            "3",
            "1",
            "98.6",
            "%",
            "98.1",
            "%",
            "3",
            "h",
            store.ids["search"][:7],
        ],
        ["digits", "digits", "tpe", "1", "50.0", "%", "2", "d", store.ids["older"][:7]],
    ]
    assert [word for word in lines[1].split() if word in ("0.2500", "loss", "running", "2")] == [
        "2",
        "0.2500",
        "loss",
        "running",
    ]
    one = reskeras_("runs", "--limit", "1", store=store).stdout
    assert "digits digits" not in one
    assert "and 2 more; --limit 3 shows all" in one
    told = document("runs", store=store)
    assert [each["run_id"] for each in told] == [
        store.ids[word] for word in ("losses", "search", "older")
    ]
    assert [each["score"] for each in told] == [0.25, 0.9861, 0.5]
    assert told[1]["trials"] == {"done": 3, "failed": 1}
    assert document("runs", "--limit", "1", store=store) == told[:1]


def test_a_search_is_shown_as_its_leaderboard_in_80_columns(store: Store) -> None:
    result = reskeras_("runs", "digits", store=store)
    assert "'digits' is the newest of 2 searches; older: " + store.ids["older"][:7] in result.stderr
    lines = result.stdout.splitlines()
    assert all(len(line) <= 80 for line in lines)
    head = next(number for number, line in enumerate(lines) if line.startswith("#"))
    rows = [line.split() for line in lines[head : head + 5]]
    assert rows[0] == [
        "#",
        "score",
        "block",
        "norm_order",
        "blocks",
        "lr",
        "depth",
        "params",
        "sec",
        "run",
    ]
    assert rows[1] == [
        "1",
        "98.6",
        "%",
        "bottleneck",
        "relu_only_preact",
        "3",
        "0.00459",
        "26",
        "77.6k",
        "12.3",
        store.ids["best"][:7],
    ]
    assert [row[-1] for row in rows[1:]] == [
        store.ids[word][:7] for word in ("best", "second", "third", "failed")
    ]
    assert rows[3][1:3] == ["91.2", "%*"]
    assert rows[4][0] == "failed"
    assert "test_accuracy 98.1 %" in result.stdout
    assert (
        f"final training of trial 2: 98.9 % · after epoch 20 · run {store.ids['final'][:7]}"
        in lines
    )
    assert "trial 4 failed: ValueError: no such layer" in lines
    assert reskeras_("runs", store.ids["search"][:9], store=store).stdout == result.stdout
    assert len(reskeras_("runs", "digits", "--limit", "1", store=store).stdout.splitlines()) < len(
        lines
    )
    told = document("runs", "digits", store=store)
    assert [trial["run_id"] for trial in told["trials"]] == [
        store.ids[word] for word in ("best", "second", "third", "failed")
    ]
    assert [final["score"] for final in told["finals"]] == [0.9889]
    assert told["search"]["metrics"]["test_loss"] == 0.06


def test_runs_side_by_side_show_what_differs_first(store: Store) -> None:
    words = [store.ids[word] for word in ("best", "second", "third")]
    result = reskeras_("runs", *words, store=store)
    lines = result.stdout.splitlines()
    assert all(len(line) <= 80 for line in lines[:-1])
    assert lines[0].split() == [word[:7] for word in words]
    rows = {line.split()[0]: line.split()[1:] for line in lines[1:-1]}
    names = list(rows)
    assert rows["norm_order"] == ["relu_only_preact", "relu_before_add", "full_preact"]
    assert rows["val_accuracy"] == ["98.6", "%", "97.0", "%", "91.2", "%"]
    assert names.index("norm_order") < names.index("val_accuracy")
    assert not {"search", "trial_seconds", "log10_lr"} & set(names)
    assert (
        lines[-1]
        == "the same: search digits · kind trial · params_millions 0.07761 · trial_seconds 12.3"
    )
    console = Console(file=io.StringIO(), width=80, force_terminal=True)
    _show_side_by_side([Runs(store.uri).find(word) for word in words], console, as_json=False)
    drawn = console.file.getvalue()
    assert "\x1b[1;33mbottleneck" in drawn
    assert "\x1b[1;32m98.6 %" in drawn
    assert "\x1b[2mthe same" in drawn
    told = document("runs", *words, store=store)
    assert [each["run_id"] for each in told] == words
    assert told[0]["params"]["norm_order"] == "relu_only_preact"
    assert "norm_order" in reskeras_("runs", words[0], store=store).stdout  # of one, everything


def test_a_store_that_is_not_there_or_does_not_answer_is_said_in_a_line(
    store: Store, tmp_path: Path
) -> None:
    assert (
        refused("runs")
        == f"error: {tmp_path / 'mlflow.db'}: no store here yet; `reskeras tune` makes one"
    )
    assert list(tmp_path.iterdir()) == []
    with socket.socket() as taken:  # bound but not listening: nothing answers there
        taken.bind(("127.0.0.1", 0))
        address = f"http://user:secret@127.0.0.1:{taken.getsockname()[1]}"
        result = reskeras_("runs", "--tracking-uri", address)
    assert result.exit_code == 1
    assert (
        result.stderr
        == f"error: {address.replace('user:secret', '***')}: the store cannot be opened: "
        "Connection refused\n"
    )
    (tmp_path / "bad.db").write_text("no database")
    bad = reskeras_("runs", "--tracking-uri", f"sqlite:///{tmp_path}/bad.db")
    assert (
        bad.stderr
        == f"error: sqlite:///{tmp_path}/bad.db: the store cannot be opened: file is not a "
        "database\n"
    )
    assert (
        refused("runs", "digit", store=store)
        == "error: no search is called 'digit'; did you mean 'digits'?"
    )


def test_show_prints_a_runs_spec(store: Store) -> None:
    shown = reskeras_("show", store.ids["third"][:6], store=store)
    head, spec = shown.stdout.split("\n", 1)
    assert head == f"# trial 1 of the search 'digits' (run {store.ids['third'][:7]})"
    assert spec == SPEC
    assert "has no spec.yaml" in refused("show", store.ids["best"], store=store)
    assert "has no best.yaml" in refused("show", store.ids["search"], store=store)
    Path("abcdef").mkdir()
    assert "'abcdef' is a folder; give a preset, a spec file" in refused(
        "show", "abcdef", store=store
    )


def test_without_a_model_the_way_to_one_is_said(store: Store) -> None:
    word = store.ids["third"]
    line = refused("export", word, "net.keras", store=store)
    assert f"has no model: `reskeras train {word[:7]}` trains it again" in line
    assert "--keep-models top:K" in line
    assert "has no model: `reskeras train" in refused(
        "predict", store.ids["search"], _image("a.png", 0), store=store
    )
    assert not Path("net.keras").exists()


def _image(name: str, seed: int, size: tuple[int, int] = (8, 8)) -> Path:
    """A file with a random gray image."""
    import tensorflow as tf

    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 1)).astype("uint8")
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_bytes(tf.io.encode_png(pixels).numpy())
    return Path(name)


class Recorded(Listener):
    """Writes a search to a store by hand as it runs."""

    def __init__(self, store: Store, data: str) -> None:
        self.store, self.data, self.search_word = store, data, ""

    def search_started(self, search: Search) -> None:
        self.search_word = search.name
        told = {
            "data": search.data.name,
            "data_digest": search.data.digest,
            "data_source": self.data,
        }
        self.store.search(search.name, search.name, 1, search.objective, **told)

    def trial_started(self, trial: Trial) -> None:
        self.recipe = trial.recipe

    def trial_ended(self, trial: Trial, record: TrialRecord | None) -> None:
        kind = "final" if trial.final else "trial"
        tags = {"stopped": "early"} if record.status == "stopped" else {}
        curve = {
            name: [0.0] * (record.epochs - 1) + [value] for name, value in record.metrics.items()
        }
        spec = dump_recipe(self.recipe)
        run = self.store.trial(
            f"{kind} {trial.number}",
            self.search_word,
            trial.number,
            {},
            curve,
            kind=kind,
            spec=spec,
            **tags,
        )
        assert self.store.client.get_run(run).data.metrics["val_accuracy"] == record.score


@pytest.fixture(scope="module")
def searched(blobs: dict[str, np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A real search of two trials of an epoch, in a store written by hand, and a final training."""
    folder = tmp_path_factory.mktemp("searched")
    np.savez(folder / "blobs.npz", **blobs)
    store = Store(folder)
    recorded = Recorded(store, str(folder / "blobs.npz"))
    data = load(str(folder / "blobs.npz"), (8, 8, 1))
    how = {"oracle": "random", "trials": 2, "epochs": 1, "final_epochs": 2}
    result = tune(tiny(), data, directory=folder / "blobs", listeners=[recorded], **how)
    search = store.ids["blobs"]
    store.client.set_tag(search, "reskeras.best_trial", str(result.best.number))
    store.client.log_artifact(search, str(folder / "blobs" / "best.yaml"))
    store.end_search("blobs", best_val_accuracy=result.best.score)
    return store


@pytest.mark.parametrize("word", ["trial 1", "trial 2", "final", "blobs"])
def test_a_trial_that_is_trained_again_from_its_run_has_its_score_exactly(
    searched: Store, word: str
) -> None:
    run = next(run for key, run in searched.ids.items() if key.startswith(word))
    done = reskeras_("train", run[:12], store=searched)
    assert done.exit_code == 0, done.output
    told = Runs(searched.uri).find(
        run
        if word != "blobs"
        else next(r for k, r in searched.ids.items() if k.startswith("final"))
    )
    assert f"val_accuracy: exactly the run's {told.score!r}" in done.stderr
    assert "warning" not in done.stderr
    (folder,) = Path("trained").iterdir()
    assert folder.name == {"blobs": "blobs"}.get(word, f"blobs-{told.tags['reskeras.key']}")
    # The oracle: the model that was saved, asked by Keras itself.
    arrays = np.load(searched.folder / "blobs.npz")
    model = keras.saving.load_model(folder / "model.keras", compile=False)
    right = model.predict(arrays["x_val"], verbose=0).argmax(-1) == arrays["y_val"]
    assert right.mean() == pytest.approx(told.score, abs=1e-6)
    assert reskeras.load_spec(folder / "spec.yaml") == reskeras.load_spec(
        _spec(searched, told.run_id)
    )


def _spec(store: Store, run: str) -> str:
    return str(store.client.download_artifacts(run, "spec.yaml"))


def test_what_makes_another_score_is_said(
    searched: Store, blobs: dict[str, np.ndarray], tmp_path: Path
) -> None:
    np.savez(tmp_path / "other.npz", **blobs | {"y_train": blobs["y_train"][::-1]})
    run = searched.ids["trial 1"]
    other = reskeras_("train", run, "--data", tmp_path / "other.npz", store=searched)
    assert other.exit_code == 0, other.output
    warning = next(line for line in other.stderr.splitlines() if line.startswith("warning"))
    assert "this is not the data of the run: its digest is" in warning
    assert "exactly" not in other.stderr
    client = searched.client
    client.set_tag(run, "reskeras.parent_trial", "2")
    try:
        grown = reskeras_("train", run, store=searched)
    finally:
        client.delete_tag(run, "reskeras.parent_trial")
    assert (
        "warning: it started from the weights of trial 2, but starts over here, so its score "
        "will differ" in grown.stderr
    )
    assert "exactly" not in grown.stderr


def test_a_trial_that_was_ended_early_is_ended_there_again(
    searched: Store, blobs_npz: Path
) -> None:
    recipe = load_recipe(_spec(searched, searched.ids["trial 1"]))
    longer = dataclasses.replace(recipe, train=dataclasses.replace(recipe.train, epochs=3))
    model = build_seeded(longer)
    epochs = train(model, load(str(blobs_npz), (8, 8, 1)), longer.train)
    assert len({epoch.metrics["val_loss"] for epoch in epochs}) == 3
    digest = load(str(blobs_npz), (8, 8, 1)).digest
    searched.search(
        "losses", "losses", 1, "val_loss", data_source=str(blobs_npz), data_digest=digest
    )
    curve = {"val_loss": [epoch.metrics["val_loss"] for epoch in epochs[:2]]}
    run = searched.trial(
        "stopped", "losses", 1, {}, curve, spec=dump_recipe(longer), stopped="after epoch 2"
    )
    done = reskeras_("train", run, store=searched)
    assert "like the run, this ends after epoch 2; to train longer, pass --epochs 3" in done.stderr
    assert f"val_loss: exactly the run's {epochs[1].metrics['val_loss']!r}" in done.stderr
    whole = reskeras_("train", run, "--epochs", "3", store=searched)
    assert "epoch   3 of 3" in whole.stderr
    assert "exactly" not in whole.stderr


def _log_model(store: Store, run: str, model: keras.Model, register: str | None = None) -> None:
    """As `mlflow.keras` logs it, with its signature."""
    import mlflow

    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(store.uri)
    try:
        with warnings.catch_warnings(), mlflow.start_run(run_id=run):
            warnings.simplefilter("ignore")  # MLflow's own, about its chat agents
            shapes = [
                mlflow.types.TensorSpec(np.dtype("float32"), (-1, *x.shape[1:]))
                for x in (model.input, model.output)
            ]
            signature = mlflow.models.ModelSignature(
                *(mlflow.types.Schema([shape]) for shape in shapes)
            )
            how = {
                "name": "model",
                "signature": signature,
                "pip_requirements": ["keras"],
                "registered_model_name": register,
            }
            mlflow.keras.log_model(model, **how)
    finally:
        mlflow.set_tracking_uri(before)


def _classifier(seed: int, classes: int = 3) -> keras.Model:
    keras.utils.set_random_seed(seed)
    spec = dataclasses.replace(tiny().base.spec, head={"kind": "classifier", "classes": classes})
    return reskeras.build(spec)


def test_models_come_from_the_run_that_has_them(tmp_path: Path) -> None:
    store = Store(tmp_path)
    images = np.random.default_rng(3).uniform(size=(5, 8, 8, 1)).astype("float32")
    logged, kept, registered = (_classifier(seed) for seed in range(3))
    kept.save(tmp_path / "model.keras")
    store.client.log_dict(
        store.search("search", "digits", 2), {"class_names": ["nil", "one", "two"]}, "data.json"
    )
    store.trial("kept", "search", 1, {}, {"val_accuracy": [0.5]}, model=tmp_path / "model.keras")
    store.trial("other", "search", 2, {}, {"val_accuracy": [0.6]})
    store.search("again", "digits", 1)
    runs = Runs(store.uri)

    def given(word: str) -> Any:
        with tempfile.TemporaryDirectory() as folder:
            model = keras.saving.load_model(runs.model(runs.find(store.ids[word]), Path(folder)))
        return model.predict(images, verbose=0)

    np.testing.assert_array_equal(given("kept"), kept.predict(images, verbose=0))
    with pytest.raises(RequestError, match="has no model"):
        given("search")
    _log_model(store, store.ids["other"], registered, "digits")
    store.client.set_registered_model_alias("digits", "champion", "1")
    np.testing.assert_array_equal(given("other"), registered.predict(images, verbose=0))
    np.testing.assert_array_equal(given("search"), registered.predict(images, verbose=0))
    with pytest.raises(RequestError, match="has no model"):
        # The champion of this name is another search's
        given("again")
    _log_model(store, store.ids["search"], logged)
    np.testing.assert_array_equal(given("search"), logged.predict(images, verbose=0))
    np.save(tmp_path / "images.npy", images)
    told = document("predict", store.ids["search"], tmp_path / "images.npy", store=store)
    assert [each["classes"][0]["class"] for each in told] == logged.predict(
        images, verbose=0
    ).argmax(-1).tolist()
    assert {each["classes"][0]["name"] for each in told} <= {"nil", "one", "two"}


@pytest.fixture
def trained(tmp_path: Path) -> keras.Model:
    """A network in trained/net that tells 12 classes apart, with their names."""
    model = _classifier(1, classes=12)
    Path("trained/net").mkdir(parents=True)
    model.save("trained/net/model.keras")
    Path("trained/net/data.json").write_text(
        json.dumps({"class_names": [f"kind{number}" for number in range(11)]})
    )
    return model


def test_predict_tells_what_keras_predicts(trained: keras.Model) -> None:
    files = [
        _image("photos/a.png", 1),
        _image("photos/more/b.png", 2),
        _image("photos/c.png", 3, (16, 16)),
    ]
    Path("photos/notes.txt").write_text("no image")
    small = np.stack(
        [
            np.asarray(Image.open(file).resize((8, 8)))[..., None] / np.float32(255)
            for file in files[:2]
        ]
    )
    expected = trained.predict(small, verbose=0)
    told = json.loads(reskeras_("predict", "trained/net", "photos", "--json", "--top", "12").stdout)
    assert [each["image"] for each in told] == ["photos/a.png", "photos/c.png", "photos/more/b.png"]
    for each, wanted in zip([told[0], told[2]], expected, strict=True):
        found = {one["class"]: one["probability"] for one in each["classes"]}
        np.testing.assert_allclose(
            [found[number] for number in range(12)], wanted, rtol=1e-4, atol=1e-6
        )
        assert [one["class"] for one in each["classes"]] == np.argsort(
            -wanted, kind="stable"
        ).tolist()
    # What is larger is resized as a folder of images is in training.
    Path("labeled/x").mkdir(parents=True)
    Path("labeled/y").mkdir()
    for number in range(6):
        Path(f"labeled/{'xy'[number % 2]}/{number}.png").write_bytes(files[2].read_bytes())
    images, _ = next(load("./labeled", (8, 8, 1)).split("train").batch(9).as_numpy_iterator())
    found = {one["class"]: one["probability"] for one in told[1]["classes"]}
    wanted = trained.predict(images[:1], verbose=0)[0]
    np.testing.assert_allclose(
        [found[number] for number in range(12)], wanted, rtol=1e-4, atol=1e-6
    )
    # In lines: the class and the next best two; class 11 has no name.
    (line,) = reskeras_("predict", "trained/net/model.keras", "photos/a.png").stdout.splitlines()
    best = np.argsort(-expected[0], kind="stable")[:3]
    names = [f"kind{number}" if number < 11 else "class 11" for number in best]
    assert line == "photos/a.png  " + "  ".join(
        f"{name} {100 * expected[0][n]:.1f} %" for name, n in zip(names, best, strict=True)
    )


def test_arrays_of_bytes_are_scaled_and_floats_are_not(trained: keras.Model) -> None:
    # More than a batch
    pixels = np.random.default_rng(0).integers(0, 256, (130, 8, 8)).astype("uint8")
    np.save("bytes.npy", pixels)
    np.savez("floats.npz", x_test=pixels[..., None] / np.float32(255), y_test=np.zeros(130))
    wanted = trained.predict(pixels[..., None] / np.float32(255), verbose=0).max(-1)
    for file in ("bytes.npy", "floats.npz"):
        told = json.loads(reskeras_("predict", "trained/net", file, "--json").stdout)
        assert told[129]["image"] == f"{file}[129]"
        np.testing.assert_allclose(
            [each["classes"][0]["probability"] for each in told], wanted, rtol=1e-4
        )


def test_masks_are_written_as_classes_of_pixels(tmp_path: Path) -> None:
    keras.utils.set_random_seed(3)
    unet = UNet(
        input_shape=(8, 8, 1), stages=(Level(width=4), Level(width=8)), head=Segmenter(classes=3)
    )
    model = reskeras.build(unet)
    model.save("unet.keras")
    files = [_image("photos/a.png", 1), _image("photos/sub/a.png", 2)]
    pixels = np.stack([np.asarray(Image.open(file))[..., None] / np.float32(255) for file in files])
    wanted = model.predict(pixels, verbose=0).argmax(-1)
    told = json.loads(
        reskeras_("predict", "unet.keras", "photos", "--out", "masks", "--json").stdout
    )
    for each, mask, name in zip(told, wanted, ("a.png", "sub/a.png"), strict=True):
        assert each["mask"] == f"masks/{name}"
        np.testing.assert_array_equal(np.asarray(Image.open(f"masks/{name}")), mask)
        assert {one["class"]: one["share"] for one in each["classes"]} == {
            n: (mask == n).mean() for n in range(3)
        }
    assert (
        refused("predict", "unet.keras", "photos", "--out", "masks")
        == "error: masks already exists; give a new folder"
    )
    assert "2 images would have the same name there, a;" in refused(
        "predict", "unet.keras", *files, "--out", "new"
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["masks", "photos", "unet.keras"]
    lines = reskeras_("predict", "unet.keras", "photos").stdout.splitlines()
    best = np.bincount(wanted[0].ravel(), minlength=3).argmax()
    assert f"class {best} {100 * (wanted[0] == best).mean():.1f} %" in lines[0]


def _served(path: str, images: Any) -> Any:
    """What another runtime makes of an exported network."""
    import onnxruntime
    import tensorflow as tf

    if path.endswith(".keras"):
        return keras.saving.load_model(path).predict(images, verbose=0)
    if path.endswith(".onnx"):
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        return session.run(None, {session.get_inputs()[0].name: images})[0]
    if path.endswith(".tflite"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            interpreter = tf.lite.Interpreter(model_path=path)
        given, told = (
            interpreter.get_input_details()[0]["index"],
            interpreter.get_output_details()[0]["index"],
        )
        interpreter.resize_tensor_input(given, images.shape)
        interpreter.allocate_tensors()
        interpreter.set_tensor(given, images)
        interpreter.invoke()
        return interpreter.get_tensor(told)
    if path.endswith(".weights.h5"):
        model = _classifier(9, classes=12)
        model.load_weights(path)
        return model.predict(images, verbose=0)
    loaded = tf.saved_model.load(path)
    return loaded.serve(images).numpy()


@pytest.mark.parametrize("out", ["net.keras", "net.onnx", "net.tflite", "net.weights.h5", "saved"])
def test_an_exported_network_computes_the_same(
    trained: keras.Model, tmp_path: Path, out: str
) -> None:
    images = np.random.default_rng(0).uniform(size=(3, 8, 8, 1)).astype("float32")
    wanted = trained.predict(images, verbose=0)
    done = reskeras_("export", "trained/net", out, "--bare")
    assert done.exit_code == 0, done.output
    np.testing.assert_allclose(_served(out, images), wanted, rtol=1e-4, atol=1e-6)
    told = done.stdout.splitlines()[0]
    assert told.startswith(f"saved: {out}, ")
    assert told.endswith("KiB, input [N, 8, 8, 1] float32, output [N, 12] float32")
    assert (
        refused("export", "trained/net", out) == f"error: {out} already exists; --force replaces it"
    )
    if out != "net.weights.h5":
        folded = reskeras_("export", "trained/net", out, "--fold", "--bare", "--force")
        assert folded.exit_code == 0, folded.output
        np.testing.assert_allclose(_served(out, images), wanted, rtol=1e-4, atol=1e-6)
    if out == "net.keras":
        norms = [
            layer
            for layer in keras.saving.load_model(out).layers
            if isinstance(layer, keras.layers.BatchNormalization)
        ]
        assert len(norms) < sum(
            isinstance(layer, keras.layers.BatchNormalization) for layer in trained.layers
        )
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([out, "trained"])


def test_an_export_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    x = keras.Input((8, 8, 1))
    # tf2onnx cannot convert GELU
    flat = keras.layers.Flatten()(keras.layers.Activation("gelu")(x))
    keras.Model(x, keras.layers.Dense(2)(flat)).save("net.keras")
    Path("net.onnx").write_text("what was there")
    failed = reskeras_("export", "net.keras", "net.onnx", "--force")
    assert failed.exit_code == 1
    assert "cannot be exported to ONNX" in failed.stderr.splitlines()[-1]
    assert Path("net.onnx").read_text() == "what was there"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net.keras", "net.onnx"]
    Path("precious").mkdir()
    assert "already exists, and this command did not write that folder" in refused(
        "export", "net.keras", "precious", "--force"
    )
    assert Path("precious").is_dir()
