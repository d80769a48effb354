"""`reskeras lr`, `tune --lr auto` and `train --init`, as a person calls them."""

import io
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner
from rich.console import Console
from stubs import tiny

import reskeras.cli.initial
import tuning.search.rates
from reskeras.cli import main
from reskeras.cli.initial import space_with_initial, with_initial
from reskeras.cli.tune import _with_rates
from reskeras.data import from_arrays
from reskeras.errors import RequestError
from reskeras.spec import Recipe, TrainSpec
from reskeras.spec.text import dump_recipe, load_recipe
from tuning import Space
from tuning.space.limits import Limits


def call(*arguments: str) -> Any:
    return CliRunner().invoke(main, arguments, catch_exceptions=False)


def test_lr_prints_a_range_and_draws_it(blobs_npz: Path, tmp_path: Path) -> None:
    Path("net.yaml").write_text(dump_recipe(tiny().base))
    how = ["lr", "net.yaml", "--data", str(blobs_npz), "--steps", "30"]
    done = call(*how, "-o", "lr.png")
    assert done.exit_code == 0, done.output
    assert Path("lr.png").read_bytes().startswith(b"\x89PNG")
    assert "tested: 30 rates, 1e-6 to " in done.stdout  # as `--help` writes it
    low, high = done.stdout.partition("range: ")[2].splitlines()[0].split(" to ")
    assert 1e-6 <= float(low) < float(high) <= 10
    found = json.loads(call(*how, "--json").stdout)
    assert found["low"] == pytest.approx(float(low), rel=1e-2)
    assert len(found["rates"]) == len(found["losses"]) == len(found["smoothed"])
    refused = call("lr", "--output", "lr.jpg")
    assert refused.exit_code == 2
    assert "lr.jpg: unknown suffix .jpg; use .svg or .png" in refused.output


@pytest.mark.parametrize("spec", ["net.yaml", None])
def test_lr_reads_images_as_the_recipe_says(spec: str | None, blobs_npz: Path) -> None:
    Path("net.yaml").write_text(dump_recipe(tiny().base))
    words = ["--data", str(blobs_npz), "--steps", "20", "--recipe", "he2015_imagenet"]
    done = call("lr", *([] if spec is None else [spec]), *words)
    assert done.exit_code == 0, done.output
    assert "range: " in done.stdout


@pytest.mark.parametrize("spec", ["space.yaml", None])
def test_a_search_reads_images_as_the_recipe_says(
    spec: str | None, blobs_npz: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[tuple[Any, Any]] = []

    def search(space: Any, data: Any, **_: Any) -> Any:
        found.append((space.base.train, data))
        raise RequestError("seen enough")

    monkeypatch.setattr("tuning.search.tune.tune", search)
    Path("space.yaml").write_text(tiny().with_train(resize="pad", epochs=3).dump())
    given = [] if spec is None else [spec]
    for recipe, wanted in (("he2015_imagenet", "crop"), ("wrn_cifar", spec and "pad")):
        done = call("tune", *given, "--data", str(blobs_npz), "--recipe", recipe, "--trials", "1")
        assert "seen enough" in done.output
        train, data = found.pop()
        assert (train.resize, data.options.resize) == (wanted, wanted)


def test_train_starts_from_the_weights_of_another(blobs_npz: Path) -> None:
    Path("net.yaml").write_text(dump_recipe(tiny().base))
    how = ["train", "net.yaml", "--data", str(blobs_npz)]
    assert call(*how, "--out", "first").exit_code == 0
    done = call(*how, "--init", "first", "--out", "second")
    assert done.exit_code == 0, done.output
    first = Path("first/model.keras").absolute()  # so that the spec works in any folder
    assert f"layers start from {first}" in done.output
    assert load_recipe("second/spec.yaml").train.init == str(first)
    refused = call(*how, "--init", "nowhere", "--out", "third")
    assert refused.exit_code == 2
    assert "'nowhere' is not a .keras file or a folder" in refused.output
    assert not Path("third").exists()


def test_a_space_may_search_with_and_without(tmp_path: Path) -> None:
    (tmp_path / "model.keras").write_text("")
    space = Space(
        tiny().base, {"train.init": ["none", str(tmp_path)]}, start=[{"train.init": str(tmp_path)}]
    )
    found = space_with_initial(space, None)
    assert found.vary["train.init"] == ("none", str(tmp_path / "model.keras"))
    assert found.start == ({"train.init": str(tmp_path / "model.keras")},)
    assert found.recipe({"train.init": "none"}).train.init == "none"
    with pytest.raises(RequestError, match=r"'resnet20' is a preset; give a \.keras file"):
        with_initial(Recipe(spec=space.base.spec, train=TrainSpec(init="resnet20")), None)


def test_the_model_of_a_run_is_kept_in_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    class Runs:
        def model(self, run: Any, folder: Path) -> Path:
            (folder / "model.keras").write_text(run.run_id)
            return folder / "model.keras"

    class Run:
        run_id = 4 * "0123abcd"

    monkeypatch.setattr(reskeras.cli.initial, "find_run", lambda word, uri: (Runs(), Run()))
    for _ in range(2):
        found = with_initial(tiny().base, None, "0123ab")
        assert found.train.init == str(Path(f"initial/{Run.run_id}.keras").absolute())
        assert Path(found.train.init).read_text() == Run.run_id


def test_tune_measures_rates_before_a_search_alone(
    blobs: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = SimpleNamespace(low=0.001, high=0.1, suggested=0.01)
    monkeypatch.setattr(tuning.search.rates, "range_test", lambda *_: found)
    monkeypatch.setattr(tuning.search.rates, "read_header", lambda _: header)
    header = None
    told = Console(file=io.StringIO(), width=100)
    request: Any = SimpleNamespace(resume=True, limits=Limits)
    measured = _with_rates(tiny(), from_arrays(blobs), request, Path("s"), told)
    header = {"space": measured.to_document()}
    monkeypatch.delattr(tuning.search.rates, "range_test")
    again = _with_rates(tiny(), from_arrays(blobs), request, Path("s"), told)
    assert again.to_document() == measured.to_document()
    assert told.file.getvalue().splitlines() == [  # type: ignore[attr-defined]
        "learning rate: range test ...",
        "learning rate: 0.001 to 0.1, by a range test",
        "learning rate: 0.001 to 0.1, as s has it",
    ]
