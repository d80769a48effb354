"""Each task from data to a file that others run, by its commands, on the embedded data."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from reskeras.cli import main
from reskeras.data import ImageData, load
from reskeras.data.embedded import EMBEDDED
from tuning import Space


def run(*words: object) -> Any:
    """What a command prints as JSON."""
    done = CliRunner().invoke(main, [*map(str, words), "--json"])
    assert done.exit_code == 0, (done.output, done.exception)
    return json.loads(done.stdout)


def tiny_space(data: ImageData) -> str:
    """The task's default space, of networks a few channels wide."""
    recipe, vary = data.task.default_space(data.facts)
    spec = recipe.spec
    narrow = {"stages": tuple(dataclasses.replace(stage, width=4) for stage in spec.stages)}
    if hasattr(spec, "stem"):
        narrow["stem"] = dataclasses.replace(spec.stem, width=4)
    train = dataclasses.replace(recipe.train, epochs=1, batch_size=128)
    base = dataclasses.replace(recipe, spec=dataclasses.replace(spec, **narrow), train=train)
    return Space(base=base, vary=vary).dump()


@pytest.mark.parametrize("name", EMBEDDED)
def test_a_task_goes_the_whole_way(name: str) -> None:
    data = load(name)
    Path("space.yaml").write_text(tiny_space(data))
    few = ("--trials", 1, "--final-epochs", 0)
    told = run("tune", "space.yaml", "--data", name, "--name", "it", *few)
    assert told["best"]["score"] is not None

    found = run("evaluate", "searches/it")
    assert found["metrics"] == pytest.approx(told["test"], rel=1e-3, abs=1e-5)
    assert found["metrics"] == pytest.approx(told["evaluation"]["metrics"], rel=1e-3, abs=1e-5)
    page = Path("searches/it/report.html").read_text()
    for metric in data.task.metrics:
        assert f"<td>{metric.label}</td>" in page
    assert "base64" in page

    images = np.stack([image for image, _ in data.split("test").take(5).as_numpy_iterator()])
    np.save("images.npy", images * (data.peak or 1))
    drawn = ("--out", "answers") if len(data.image_shape) == 3 else ()
    answers = run("predict", "searches/it", "images.npy", *drawn)
    assert len(answers) == len(images)

    written = run("export", "searches/it", "saved", "it.keras")
    assert written["real_images"]
    for file in written["files"]:
        assert file["largest_difference"] <= 1e-3 * max(1, file["largest_answer"]), file
