"""`reskeras export`: several files, each checked; what is told, and what is refused."""

import json
import resource
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from click.testing import CliRunner, Result
from nets import randomize, small

import reskeras
from reskeras.cli import main
from reskeras.models import export_check, folding
from reskeras.models.folding import fold_batch_norm
from reskeras.spec import BasicBlock, Heatmaps, Level, Segmenter, Stage, UNet

ONE = (Stage(blocks=1, width=8),)


def _run(*words: object) -> Result:
    return CliRunner().invoke(main, ["export", *map(str, words)], env={"COLUMNS": "100"})


def _save(model: keras.Model, **record: Any) -> None:
    randomize(model)
    Path("net").mkdir()
    model.save("net/model.keras")
    Path("net/data.json").write_text(json.dumps(record))


def _npz(*sides: int) -> str:
    random = np.random.default_rng(2)
    labels = np.arange(48) % 3
    images = random.integers(0, 256, (48, *sides), np.uint8)
    np.savez("d.npz", x_train=images, y_train=labels, x_val=images[:36] // 2, y_val=labels[:36])
    return str(Path("d.npz").resolve())


def test_several_files_are_written_checked_and_told() -> None:
    _save(reskeras.build(small(stages=ONE)), source=_npz(8, 8, 1), class_names=["a", "b", "c"])
    done = _run("net", "n.tflite", "n.int8.tflite", "saved", "n.weights.h5", "--json")
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told["images"] == "32 images of d (val)"
    assert told["real_images"]
    assert [(each["path"], each["precision"], each["input"]) for each in told["files"]] == [
        ("n.tflite", "float32", "[N, ?, ?, 1] uint8"),
        ("n.int8.tflite", "int8", "[N, 8, 8, 1] uint8"),
        ("saved", "float32", "[N, ?, ?, 1] uint8"),
        ("n.weights.h5", "float32", "[N, 8, 8, 1] float32"),
    ]
    for each in told["files"]:
        path = Path(each["path"])
        files = [path] if path.is_file() else [one for one in path.rglob("*") if one.is_file()]
        assert each["bytes"] == sum(one.stat().st_size for one in files)
        assert each["milliseconds"] > 0
        assert each["same_answers"] >= (0.8 if each["precision"] == "int8" else 1)
        assert each["largest_difference"] <= (0.1 if each["precision"] == "int8" else 1e-5)


def test_other_data_can_be_given_and_must_fit() -> None:
    _save(reskeras.build(small(stages=ONE)))
    _npz(5, 12, 1)  # of another size
    done = _run("net", "n.int8.tflite", "--data", "d.npz", "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["images"] == "32 images of d (val)"
    _npz(8, 8, 3)
    done = _run("net", "m.tflite", "--data", "d.npz")
    assert done.exit_code == 2
    assert done.stderr.splitlines()[-1] == (
        "error: --data d.npz: images of 8x8x3; net/model.keras takes 8x8x1"
    )
    done = _run("net", "m.tflite", "--data", "none.npz")
    assert (done.exit_code, done.stderr.splitlines()[-1][:16]) == (2, "error: none.npz:")
    assert not Path("m.tflite").exists()


def test_without_data_images_are_random_and_int8_is_refused() -> None:
    _save(reskeras.build(small(stages=ONE)), source="/none/d.npz")
    done = _run("net", "n.tflite", "--precision", "float16")
    assert done.exit_code == 0, done.output
    assert "note: random images check the files: /none/d.npz" in done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("saved: n.tflite, ")
    assert " ".join(lines[2].split()) == "size ms per image largest difference same answers"
    assert lines[4].startswith("TFLite float16")
    assert lines[4].endswith("100.0 %")
    assert lines[5].startswith("compared with Keras on random images; time at batch size 1")
    done = _run("net", "m.tflite", "m.int8.tflite")
    assert done.exit_code == 2
    assert done.stderr.splitlines()[-1].startswith("error: m.int8.tflite: int8 needs real images")
    assert "--data" in done.stderr
    assert not Path("m.tflite").exists()


@pytest.mark.parametrize(
    ("head", "out"),
    [(Segmenter(classes=3), "n.tflite"), (Heatmaps(keypoints=2), "n.int8.tflite")],
)
def test_maps_are_exported_like_classes(head: Any, out: str) -> None:
    spec = UNet(input_shape=(8, 8, 1), block=BasicBlock(), stages=(Level(width=4),) * 2, head=head)
    _save(reskeras.build(spec), source=_npz(8, 8, 1))
    done = _run("net", out, "--json")
    assert done.exit_code == 0, done.output
    (told,) = json.loads(done.stdout)["files"]
    assert told["output"] == f"[N, 8, 8, {3 if isinstance(head, Segmenter) else 2}] float32"
    share = told["largest_difference"] / told["largest_answer"]
    if isinstance(head, Segmenter):
        assert share < 1e-5
        assert told["same_answers"] == 1
    else:
        assert 1e-5 < share < 0.3
        assert told["same_answers"] is None


def test_signals_are_taken_as_the_network_takes_them() -> None:
    _save(reskeras.build(small(input_shape=(12, 2), stages=ONE)))
    done = _run("net", "n.tflite", "--json")
    assert done.exit_code == 0, done.output
    (told,) = json.loads(done.stdout)["files"]
    assert told["input"] == "[N, 12, 2] float32"
    assert told["same_answers"] == 1


def test_int8_of_3d_convolutions_is_refused_before_anything_is_written() -> None:
    _save(reskeras.build(small(input_shape=(4, 4, 4, 1), stages=ONE)))
    done = _run("net", "n.tflite", "n.int8.tflite")
    assert done.exit_code == 2
    assert done.stderr.splitlines()[-1] == (
        "error: n.int8.tflite: TFLite computes 3-D convolutions, as stem_conv of resnet, in floats "
        "only; give float32 or float16"
    )
    assert sorted(each.name for each in Path().iterdir()) == ["net"]


def test_a_file_that_answers_otherwise_is_removed_and_the_others_stay(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _save(reskeras.build(small(stages=ONE)))
    asks_file = export_check.asks_file

    def wrong(path: Path, form: Any, network: Any) -> Any:
        ask = asks_file(path, form, network)
        return lambda images: [1.001 * each for each in ask(images)]

    Path("n.tflite").write_text("what was there")
    monkeypatch.setattr(
        export_check,
        "asks_file",
        lambda path, form, network: (wrong if form.value == ".tflite" else asks_file)(
            path, form, network
        ),
    )
    done = _run("net", "n.tflite", "n.keras", "--force")
    assert done.exit_code == 1
    assert done.stdout.startswith("saved: n.keras, ")
    assert "TFLite" not in done.stdout
    last = done.stderr.splitlines()[-1]
    assert last.startswith("error: n.tflite: not written: its answers differ from those of Keras")
    assert Path("n.tflite").read_text() == "what was there"
    assert sorted(each.name for each in Path().iterdir()) == ["n.keras", "n.tflite", "net"]


def test_a_folded_network_is_compared_with_the_one_that_was_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _save(reskeras.build(small(stages=ONE)))
    done = _run("net", "n.keras", "--fold", "--json")
    assert done.exit_code == 0, done.output
    (file,) = json.loads(done.stdout)["files"]
    assert 0 < file["largest_difference"] < 1e-5

    def wrong(network: keras.Model) -> keras.Model:
        folded = fold_batch_norm(network)
        folded.set_weights([1.01 * weight for weight in folded.get_weights()])
        return folded

    monkeypatch.setattr(folding, "fold_batch_norm", wrong)
    done = _run("net", "wrong.keras", "--fold")
    assert done.exit_code == 1
    assert "wrong.keras: not written: its answers differ from those of Keras" in done.stderr


@pytest.mark.parametrize("out", ["n.keras", "n.tflite", "saved"])
def test_a_disk_that_fills_up_leaves_nothing_and_is_one_line(out: str) -> None:
    _save(reskeras.build(small(stages=ONE)))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        done = _run("net", out)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert done.exit_code == 1
    assert done.stderr.splitlines()[-1] == f"error: {out}: File too large"
    assert sorted(each.name for each in Path().iterdir()) == ["net"]
