"""`reskeras lab`."""

import csv
import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from reskeras import lab
from reskeras.cli import main
from reskeras.errors import RequestError
from reskeras.lab import EXPERIMENTS, Bound, Check, Experiment, Input, Result, Table

TINY = """
family: resnet
name: tiny
input_shape: [8, 8, 1]
stem: {kind: linear, width: 64}
block: {kind: basic}
norm: {kind: none}
norm_order: relu_only_preact
stages: [{blocks: 3, width: 64}]
head: {kind: classifier, classes: 10}
"""


def run(*words: str) -> Any:
    return CliRunner().invoke(main, ["lab", *words])


@pytest.fixture(autouse=True)
def _spec() -> None:
    Path("tiny.yaml").write_text(TINY)


def test_experiments_are_listed() -> None:
    listed = run().stdout.splitlines()
    assert [line.split()[0] for line in listed] == list(EXPERIMENTS)


@pytest.mark.parametrize(
    "name", [name for name, each in EXPERIMENTS.items() if each.takes is Input.IMAGES]
)
def test_an_experiment_on_a_network_and_images(name: str) -> None:
    words = (name, "tiny.yaml", "--data", "digits", "--seeds", "2")
    done = run(*words, "--json", "--no-mlflow", "-o", "found.svg", "--csv", "found.csv")
    assert done.exit_code == 0, (done.output, done.exception)
    found = json.loads(done.stdout)
    assert found["name"] == name
    assert found["network"] == "tiny"
    assert found["verdict"] in ("pass", "fail")
    for check in found["checks"]:
        if check["bound"] == "=" and check["verdict"] != "no theory":
            near = abs(check["measured"] - check["expected"]) <= check["tolerance"]
            assert near == (check["verdict"] == "pass")
    assert found["text"]
    assert Path("found.svg").read_text().startswith("<?xml")
    with open("found.csv", encoding="utf-8") as file:
        assert len(list(csv.DictReader(file))) == len(found["table"])


def test_an_experiment_sees_images_as_training_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """White is 1023: images are divided by it once."""
    pixels = np.random.default_rng(0).integers(0, 1024, (30, 8, 8)).astype("uint16")
    pixels[:, 0, 0] = 1023
    arrays = {f"x_{split}": pixels for split in ("train", "val")}
    np.savez("ten_bits.npz", **arrays, y_train=np.arange(30) % 10, y_val=np.arange(30) % 10)
    seen = []

    def run_on(spec: Any, *, images: Any, **given: Any) -> None:
        seen.append(images)
        raise RequestError("enough")

    variance = dataclasses.replace(EXPERIMENTS["variance"], run=run_on)
    monkeypatch.setitem(EXPERIMENTS, "variance", variance)
    done = run("variance", "tiny.yaml", "--data", "ten_bits.npz")
    assert "enough" in done.stderr
    (images,) = seen
    assert images.max() == 1


def test_a_result_is_kept_in_mlflow() -> None:
    from mlflow import MlflowClient

    done = run("variance", "tiny.yaml", "--seeds", "2")
    assert done.exit_code == 0, (done.output, done.exception)
    assert "±" in done.stdout
    assert "sources: He 2015" in done.stdout
    client = MlflowClient("sqlite:///mlflow.db")
    (experiment,) = [each for each in client.search_experiments() if each.name == "lab"]
    (kept,) = client.search_runs([experiment.experiment_id])
    assert kept.data.tags["reskeras.lab"] == "variance"
    assert kept.data.params["network"] == "tiny"
    assert kept.data.params["data"] == "normal numbers"
    assert kept.data.metrics["measured_1"] == pytest.approx(
        kept.data.metrics["expected_1"], rel=0.5
    )
    files = {file.path for file in client.list_artifacts(kept.info.run_id)}
    assert files == {"figure.svg", "result.json", "table.csv"}


def test_requests_that_cannot_work() -> None:
    for words, message in (
        (("--csv", "x.csv"), "-o, --csv and --json need an experiment"),
        (("varance",), "no experiment is called 'varance' (`reskeras lab` lists them); did you"),
        (("variance", "--data", "digits"), "--data needs a SPEC"),
        (("variance", "nothing"), "is not a preset"),
        (("variance", "tiny.yaml", "-o", "a.gif"), ".svg or .png"),
        (("variance", "tiny.yaml", "--csv", "no/a.csv"), "the folder no does not exist"),
    ):
        done = run(*words, "--no-mlflow")
        assert done.exit_code == 2, done.output
        assert message in done.stderr
    assert not list(Path().glob("*.csv")) + list(Path().glob("mlflow*"))


def test_all_experiments_make_one_table(monkeypatch: pytest.MonkeyPatch) -> None:
    checks = [
        Check(claim="one", source="A 2001", expected=2.0, tolerance=0.5, measured=2.25),
        Check(claim="two", source="B 2002", expected=0.0, tolerance=-1.0, measured=0.5,
              bound=Bound.AT_LEAST),
        Check(claim="three", source="C 2003", measured=7.0, why_not="it is wide"),
    ]  # fmt: skip
    found = Result(
        name="made", network="net", checks=checks, table=Table(columns=("x",), rows=((1,),)),
        text="Text.", draw=lambda: None, settings={},
    )  # fmt: skip

    def made(spec: Any, *, seed: int) -> Result:
        assert spec is None
        assert seed == 3
        return found

    experiment = Experiment(run=made, takes=Input.DATA, measures="nothing")
    monkeypatch.setattr(lab, "EXPERIMENTS", {"made": experiment})
    words = ("all", "--seed", "3", "--no-mlflow")
    done = run(*words, "--csv", "all.csv")
    assert done.exit_code == 0, (done.output, done.exception)
    with open("all.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [(row["theory"], row["measured"], row["verdict"]) for row in rows] == [
        ("2 ± 0.5", "2.25", "pass"),
        (">= 1", "0.5", "fail"),
        ("-", "7", "no theory: it is wide"),
    ]
    assert all(row["source"] in done.stdout for row in rows)
    (document,) = json.loads(run(*words, "--json").stdout)
    assert document["verdict"] == "fail"
    assert document["seconds"] >= 0
    refused = run("all", "tiny.yaml", "--no-mlflow")
    assert refused.exit_code == 2
    assert "takes no SPEC" in refused.stderr
