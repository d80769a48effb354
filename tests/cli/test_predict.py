"""`reskeras predict` for every task: by networks whose answers follow from the pixels by hand."""

import csv
import json
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from reskeras.cli import main
from reskeras.data import from_arrays, load
from reskeras.data.decode import central_box, read_mask
from reskeras.data.unlabeled import in_order
from reskeras.models.windows import with_flips

SIDES = (16, 12)
Shape = tuple[int, ...]


def network(task: str, shape: Shape = (*SIDES, 3), *layers: Any, **record: Any) -> Path:
    """A network of a few layers, or one whose answer for a pixel is its colors, in `net`."""
    inputs = x = keras.Input(shape)
    for layer in layers or [keras.layers.Activation("linear")]:
        x = layer(x)
    model = keras.Model(inputs, x)
    folder = Path("net")
    folder.mkdir(exist_ok=True)
    model.save(folder / "model.keras")
    about = {"task": task, "image_shape": list(shape), "classes": 3, "pixels": "bytes"}
    (folder / "data.json").write_text(json.dumps(about | record))
    return folder


def predicted(*words: object, status: int = 0) -> Result:
    done = CliRunner().invoke(main, ["predict", *map(str, words)])
    assert done.exit_code == status, (done.output, done.exc_info)
    assert "Traceback" not in done.output
    return done


def told(*words: object, status: int = 0) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(predicted(*words, "--json", status=status).stdout)
    return found


def photo(name: str, size: tuple[int, int] = (40, 30), seed: int = 0) -> np.ndarray:
    """A file of blobs of color, and its pixels [H,W,3]."""
    small = np.random.default_rng(seed).integers(0, 256, (7, 5, 3)).astype("uint8")
    image = Image.fromarray(small).resize(size[::-1], Image.Resampling.BICUBIC)
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    image.save(name)
    return np.asarray(image)


def test_masks_by_windows_are_those_of_each_pixel_in_the_files_own_size() -> None:
    large, small = photo("photos/large.png"), photo("photos/sub/small.png", (9, 14), seed=1)
    net = network(
        "segmentation", (*SIDES, 3), keras.layers.Softmax(), class_names=["0", "255", "7"]
    )
    found = told(net, "photos", "--windows", "--out", "out", "--overlay")
    for each, image, place in zip(found, (large, small), ("large", "sub/small"), strict=True):
        mask = image.argmax(-1)
        file = Image.open(f"out/{place}.png")
        assert (file.mode, each["mask"]) == ("P", f"out/{place}.png")
        np.testing.assert_array_equal(read_mask(f"out/{place}.png"), np.array([0, 255, 7])[mask])
        shares = {one["name"]: one["share"] for one in each["classes"]}
        assert shares == pytest.approx(
            {name: (mask == number).mean() for number, name in enumerate(("0", "255", "7"))}
        )
        overlay = np.asarray(Image.open(each["picture"]))
        assert each["picture"] == f"out/overlays/{place}.png"
        times = min(16, -(-256 // max(image.shape)))
        shown = overlay[times // 2 : times * mask.shape[0] : times]
        left = (overlay.shape[1] - times * mask.shape[1]) // 2
        shown = shown[:, left + times // 2 : left + times * mask.shape[1] : times]
        np.testing.assert_array_equal(shown[mask == 0], image[mask == 0])
        colors = np.array(file.getpalette()).reshape(-1, 3)[[255, 7]]
        assert len({tuple(color) for color in colors}) == 2
        for number, color in zip((1, 2), colors, strict=True):
            wanted = (image[mask == number].astype(float) + color) / 2
            assert np.abs(shown[mask == number] - wanted).max() <= 1


@pytest.mark.parametrize(
    ("source", "names"),
    [("npz", ["cell", "wall", "rim"]), ("npz", ["3", "2", "1"]), ("npz", None), ("folder", None)],
)
def test_masks_have_the_values_of_training_whatever_classes_are_called(
    source: str, names: list[str] | None
) -> None:
    image = photo("photo.png", SIDES)
    values = np.array([0, 7, 200])
    masks = values[np.stack([image.argmax(-1)] * 9)].astype("uint8")
    x = np.stack([image] * 9)
    if source == "npz":
        given = {"x_train": x, "y_train": masks}
        data = from_arrays(given if names is None else given | {"class_names": names})
    else:
        for number, (one, mask) in enumerate(zip(x, masks, strict=True)):
            for folder, array in (("images", one), ("masks", mask)):
                Path("set", folder).mkdir(parents=True, exist_ok=True)
                Image.fromarray(array).save(f"set/{folder}/{number}.png")
        data = load("./set", (*SIDES, 3))
    assert data.classes == 3
    about = {key: value for key, value in data.about().items() if key != "task"}
    net = network("segmentation", (*SIDES, 3), keras.layers.Softmax(), **about)
    (found,) = told(net, "photo.png", "--out", "out")
    np.testing.assert_array_equal(read_mask(found["mask"]), masks[0])
    assert found["classes"][0]["name"] in (names or ["0", "7", "200"])


@pytest.mark.parametrize("resize", ["stretch", "crop", "pad"])
def test_masks_of_resized_images_go_back_to_the_files_own_size(resize: str) -> None:
    photo("photo.png", (50, 60))
    net = network("segmentation", (*SIDES, 3), keras.layers.Softmax(), resize=resize)
    done = predicted(net, "photo.png", "--out", "out")
    assert "note: images were shrunk up to" in done.stderr
    image, (height, width) = Image.open("photo.png"), SIDES
    mask = read_mask("out/photo.png")
    assert mask.shape == (50, 60)
    if resize == "crop":
        left, top, right, bottom = central_box((60, 50), SIDES)
        assert (mask[:, :left] == 255).all()
        assert (mask[:, right:] == 255).all()
        image, mask = image.crop((left, top, right, bottom)), mask[top:bottom, left:right]
    if resize == "pad":
        height = round(12 * 50 / 60)
    # As Pillow resizes twice: the image, and the mask back.
    small = image.resize((width, image.height), Image.Resampling.BILINEAR)
    small = small.resize((width, height), Image.Resampling.BILINEAR)
    answer = Image.fromarray(np.asarray(small).argmax(-1).astype("uint8"))
    wanted = answer.resize(image.size, Image.Resampling.NEAREST)
    np.testing.assert_array_equal(mask, np.asarray(wanted))


def test_a_network_without_padding_answers_for_the_whole_image() -> None:
    image = photo("photo.png", SIDES)
    kernel = np.random.default_rng(3).normal(size=(3, 3, 3, 3)).astype("float32")
    net = network(
        "segmentation",
        (*SIDES, 3),
        keras.layers.Conv2D(3, 3, use_bias=False, kernel_initializer="zeros"),
    )
    model = keras.saving.load_model(net / "model.keras")
    model.layers[-1].set_weights([kernel])
    model.save(net / "model.keras")
    predicted(net, "photo.png", "--out", "out")
    around = np.pad(image / np.float32(255), ((1, 1), (1, 1), (0, 0)), "symmetric")
    whole = keras.ops.conv(around[None], kernel, padding="valid")[0]
    wanted = keras.ops.convert_to_numpy(whole).argmax(-1)
    np.testing.assert_array_equal(read_mask("out/photo.png"), wanted)


@pytest.mark.parametrize("resize", ["stretch", "crop", "pad"])
def test_keypoints_are_told_and_drawn_in_pixels_of_the_file(resize: str) -> None:
    pixels = np.zeros((60, 90, 3), "uint8")
    places = {"red": (40, 25), "green": (60, 30), "blue": (45, 50)}
    for channel, (x, y) in enumerate(places.values()):
        pixels[y - 2 : y + 3, x - 2 : x + 3, channel] = 200
    Image.fromarray(pixels).save("photo.png")
    names = list(places)
    net = network("keypoints", (24, 24, 3), resize=resize, class_names=names)
    (each,) = told(net, "photo.png", "--out", "out", "--csv", "points.csv")
    for point, (name, place) in zip(each["keypoints"], places.items(), strict=True):
        assert point["name"] == name
        # to a pixel of the network's input
        assert abs(point["x"] - place[0]) < 90 / 24
        assert abs(point["y"] - place[1]) < 90 / 24
    (row,) = csv.DictReader(Path("points.csv").read_text().splitlines())
    assert (row["image"], row["picture"]) == ("photo.png", "out/photo.png")
    assert float(row["blue y"]) == each["keypoints"][2]["y"]
    drawn, times = np.asarray(Image.open("out/photo.png")), 3
    colors = {
        tuple(drawn[round((p["y"] + 0.5) * times), round((p["x"] + 0.5) * times)])
        for p in each["keypoints"]
    }
    assert len(colors) == 3
    assert all(max(color) - min(color) > 60 for color in colors)  # none is gray


def test_images_are_restored_in_their_own_size_and_enlarged_as_in_training() -> None:
    image = photo("photo.jpg", (33, 21))
    image = np.asarray(Image.open("photo.jpg"))
    net = network("restoration", enlarge=2)
    (each,) = told(net, "photo.jpg", "--out", "out", "--overlay")
    assert each["file"] == "out/photo.png"
    wanted = Image.fromarray(image).resize((42, 66), Image.Resampling.BICUBIC)
    found = np.asarray(Image.open("out/photo.png")).astype(int)
    assert np.abs(found - np.asarray(wanted)).max() <= 1
    assert each["restored"]["size"] == [66, 42, 3]
    assert np.asarray(Image.open(each["picture"])).shape[1] >= 2 * 42
    deep = np.random.default_rng(0).integers(0, 4096, (20, 30)).astype("uint16")
    Image.fromarray(deep).save("deep.png")
    net = network("restoration", (*SIDES, 1), pixels="floats", peak=4095.0, classes=1)
    predicted(net, "deep.png", "--out", "deep")
    found = np.asarray(Image.open("deep/deep.png")).astype(int)
    assert np.abs(found - deep).max() <= 1


def test_numbers_are_told_by_name_and_flips_are_averaged() -> None:
    image = photo("photo.png", SIDES)
    photo("second.png", SIDES, seed=4)
    layers = keras.layers.Flatten(), keras.layers.Dense(2)
    net = network(
        "numbers", (*SIDES, 3), *layers, classes=2, class_names=["angle", "age"], mean=[0, 0]
    )
    model = keras.saving.load_model(net / "model.keras")
    files = ("photo.png", "second.png")
    pixels = np.stack([np.asarray(Image.open(file)) / np.float32(255) for file in files])
    for words, images in (
        ((), [pixels]),
        (("--flips", "horizontal"), [pixels, pixels[:, :, ::-1]]),
        (("--flips", "vertical"), [pixels, pixels[:, ::-1]]),
        (
            ("--flips", "all"),
            [pixels, pixels[:, ::-1], pixels[:, :, ::-1], pixels[:, ::-1, ::-1]],
        ),
    ):
        wanted = np.mean([model.predict(some, verbose=0) for some in images], axis=0)
        found = told(net, *files, *words)
        assert [one["name"] for one in found[0]["numbers"]] == ["angle", "age"]
        numbers = [[one["number"] for one in each["numbers"]] for each in found]
        np.testing.assert_allclose(numbers, wanted, rtol=1e-4, atol=1e-5)
    line = predicted(net, "photo.png").stdout
    assert line == f"photo.png  angle {numbers_of(model, image)[0]:.4g}  age " + (
        f"{numbers_of(model, image)[1]:.4g}\n"
    )


def numbers_of(model: keras.Model, image: np.ndarray) -> np.ndarray:
    found: np.ndarray = model.predict(image[None] / np.float32(255), verbose=0)[0]
    return found


def test_flips_of_maps_are_flipped_back() -> None:
    image = photo("photo.png", SIDES)
    kernel = np.random.default_rng(5).normal(size=(3, 3, 3, 3)).astype("float32")
    net = network("segmentation", (*SIDES, 3), keras.layers.Conv2D(3, 3, padding="same"))
    model = keras.saving.load_model(net / "model.keras")
    model.layers[-1].set_weights([kernel, np.zeros(3, "float32")])
    model.save(net / "model.keras")
    predicted(net, "photo.png", "--flips", "horizontal", "--out", "out")

    def shares(images: Any) -> Any:
        return keras.ops.convert_to_numpy(keras.ops.softmax(model.predict(images, verbose=0)))

    pixels = image[None] / np.float32(255)
    both = shares(pixels) + shares(pixels[:, :, ::-1].copy())[:, :, ::-1]
    np.testing.assert_array_equal(read_mask("out/photo.png"), both[0].argmax(-1))
    back = with_flips(shares, (1,))(pixels)
    np.testing.assert_allclose(back, both / 2, rtol=1e-5)


def test_damaged_files_are_named_and_the_rest_goes_on() -> None:
    for name in ("10", "2", "1"):
        photo(f"frames/{name}.png", SIDES, seed=int(name))
    whole = Path("frames/2.png").read_bytes()
    Path("frames/3.png").write_bytes(whole[: len(whole) // 2])
    Path("frames/4.jpg").write_text("oops")
    net = network("segmentation", (*SIDES, 3), keras.layers.Softmax())
    done = predicted(net, "frames", "--out", "out", "--csv", "table.csv", status=1)
    assert "error: frames/3.png: damaged: " in done.stderr
    assert "error: frames/4.jpg: not a PNG, JPEG, GIF, BMP, WebP or TIFF image" in done.stderr
    assert done.stderr.endswith("error: 2 of 5 images cannot be read, and are left out\n")
    names = ["frames/1.png", "frames/2.png", "frames/10.png"]  # as people count
    assert [line.split()[0] for line in done.stdout.splitlines()] == names
    assert sorted(path.name for path in Path("out").iterdir()) == ["1.png", "10.png", "2.png"]
    rows = list(csv.DictReader(Path("table.csv").read_text().splitlines()))
    assert [row["image"] for row in rows] == names
    assert float(rows[0]["share 0"]) == np.mean(read_mask("out/1.png") == 0)
    done = predicted(net, "frames/3.png", "frames/4.jpg", "--out", "none", status=1)
    assert "error: none of the images can be read" in done.stderr
    assert not Path("none").exists()
    assert [path for path in Path().iterdir() if ".partial" in path.name] == []


def test_patterns_find_images_below_and_name_what_is_written_after_their_places() -> None:
    for name in ("a/1.png", "a/b/1.png", "a/b/1.jpg", "c/2.png"):
        photo(f"photos/{name}", SIDES)
    Path("photos/a/notes.txt").write_text("no image")
    net = network("segmentation", (*SIDES, 3), keras.layers.Softmax())
    found = told(net, "photos/a/**/*", "--out", "out")
    assert {each["image"]: each["mask"] for each in found} == {
        "photos/a/1.png": "out/1.png",
        "photos/a/b/1.png": "out/b/1.png.png",
        "photos/a/b/1.jpg": "out/b/1.jpg.png",
    }
    wrong = predicted(net, "photos/*.bmp", status=2)
    assert wrong.stderr == "error: photos/*.bmp: no image has such a name\n"


def test_volumes_have_masks_with_the_place_and_the_orientation_of_their_file() -> None:
    nibabel = pytest.importorskip("nibabel")
    values = np.random.default_rng(0).integers(0, 256, (7, 9, 6)).astype("uint8")
    affine = np.diag([-2.0, 1, 3, 1])  # the first axis points to the left
    nibabel.save(nibabel.Nifti1Image(values, affine), "brain.nii.gz")
    layers = keras.layers.Rescaling(20, -10), keras.layers.Activation("sigmoid")
    net = network("segmentation", (4, 4, 4, 1), *layers, classes=2)
    found = told(net, "brain.nii.gz", "--windows", "--out", "out")
    mask = nibabel.load(found[0]["mask"])
    assert found[0]["mask"] == "out/brain.nii.gz"
    np.testing.assert_array_equal(np.asarray(mask.dataobj), values > 127)
    np.testing.assert_array_equal(mask.affine, affine)
    done = predicted(net, "brain.nii.gz", status=1)
    assert "a volume of 7x9x6; the network takes 4x4x4; left out" in done.stderr
    np.save("volumes.npy", values[None])
    found = told(net, "volumes.npy", "--windows", "--out", "arrays")
    np.testing.assert_array_equal(np.load(found[0]["mask"]), values > 127)
    for path in ("brain.nii.gz", "volumes.npy"):
        done = predicted(net, path, "--windows", "--out", "new", "--overlay", status=2)
        assert "only images are drawn on" in done.stderr
    assert (
        "a volume; the network takes images"
        in predicted(
            network("segmentation", (*SIDES, 3), keras.layers.Softmax()), "brain.nii.gz", status=2
        ).stderr
    )


def test_masks_of_a_folder_of_volumes_have_its_folders() -> None:
    nibabel = pytest.importorskip("nibabel")
    affine = np.diag([1.0, 1, 1, 1])
    for place in ("a/scan.nii.gz", "b/scan.nii.gz", "b/c/scan.nii"):
        Path("pr", place).parent.mkdir(parents=True, exist_ok=True)
        values = np.random.default_rng(len(place)).integers(0, 256, (4, 4, 4)).astype("uint8")
        nibabel.save(nibabel.Nifti1Image(values, affine), f"pr/{place}")
    for junk in ("pr/a/._scan.nii.gz", "pr/__MACOSX/scan.nii.gz"):  # a Mac's zip
        Path(junk).parent.mkdir(exist_ok=True)
        Path(junk).write_bytes(b"Mac OS X")
    layers = keras.layers.Rescaling(20, -10), keras.layers.Activation("sigmoid")
    net = network("segmentation", (4, 4, 4, 1), *layers, classes=2)
    wanted = ["a/scan", "b/c/scan", "b/scan"]
    found = told(net, "pr", "--out", "out")
    assert sorted(one["mask"] for one in found) == [f"out/{place}.nii.gz" for place in wanted]
    for one in found:
        image, mask = (np.asarray(nibabel.load(one[key]).dataobj) for key in ("image", "mask"))
        np.testing.assert_array_equal(mask, image > 127)
    found = told(net, "pr/?/*.nii.gz", "--out", "again")
    assert [one["mask"] for one in found] == ["again/a/scan.nii.gz", "again/b/scan.nii.gz"]
    done = predicted(net, "pr/a", "pr/b", "--out", "new", status=2)
    assert "2 images would have the same name there, scan; use separate" in done.stderr


def test_signals_are_rows_of_an_array() -> None:
    signals = np.random.default_rng(0).uniform(size=(5, 10)).astype("float32")
    np.save("signals.npy", signals)
    net = network("classification", (10, 1), keras.layers.Flatten(), classes=10)
    found = told(net, "signals.npy")
    assert [each["classes"][0]["class"] for each in found] == signals.argmax(-1).tolist()
    np.save("long.npy", np.zeros((5, 12)))
    done = predicted(net, "long.npy", status=2)
    assert "long.npy[0]: signals of 12; the network takes 10" in done.stderr


def test_files_of_another_scale_than_in_training_are_left_out() -> None:
    gray = np.array([[10, 200, 30], [40, 50, 60]])
    for name, pixels in {
        "bytes.png": gray.astype("uint8"),
        "deep.png": (257 * gray).astype("uint16"),  # 65535 is white
        "shares.tif": (gray / 255).astype("float32"),
        "floats.tif": gray.astype("float32"),
        "whole.tif": (gray * 70_000).astype("int32"),
        "nan.tif": np.where(gray > 100, np.nan, gray / 255).astype("float32"),
    }.items():
        Image.fromarray(pixels).save(name)
    layers = keras.layers.Flatten(), keras.layers.Rescaling(5)
    net = network("classification", (2, 3, 1), *layers, classes=6)
    first, *others = told(net, "bytes.png", "deep.png", "shares.tif")
    assert first["classes"][0]["class"] == 1
    for other in others:
        for one, same in zip(other["classes"], first["classes"], strict=True):
            assert one["probability"] == pytest.approx(same["probability"], rel=1e-5)
    wrong = predicted(net, "floats.tif", "whole.tif", "nan.tif", status=1).stderr
    assert "floats.tif: values from 10 to 200; the network was trained on bytes: give" in wrong
    assert "whole.tif: values from 700,000 to 1.4e+07; the network was trained" in wrong
    assert "nan.tif: it holds values that are not finite; left out" in wrong
    net = network("classification", (2, 3, 1), *layers, classes=6, pixels="floats", peak=255.0)
    (found,) = told(net, "floats.tif")
    best = first["classes"][0]["probability"]
    assert found["classes"][0]["probability"] == pytest.approx(best, rel=1e-5)
    wrong = predicted(net, "deep.png", status=1).stderr
    assert "values from 2,570 to 51,400; the network was trained on images from 0 to 255" in wrong


def test_wrong_requests_are_refused_before_the_work() -> None:
    photo("photo.png", SIDES)
    net = network("keypoints")
    called = "net/model.keras gives the place of each keypoint"
    for words, said in (
        (("--overlay",), "--overlay draws into a folder: give --out FOLDER, too"),
        (("--windows",), f"--windows: {called}; windows are for masks"),
        (("--flips", "all"), f"--flips all: {called}, and in a mirror image left and right"),
        (("--out", "new", "--csv", "new"), "--out and --csv are the same, new"),
        (("--csv", "photo.png"), "photo.png already exists; give a new file"),
        (("--csv", "no/table.csv"), "no/table.csv: the folder no does not exist"),
    ):
        assert f"error: {said}" in predicted(net, "photo.png", *words, status=2).stderr
    np.save("four.npy", np.zeros((2, *SIDES, 4), "uint8"))
    done = predicted(net, "four.npy", status=2)
    assert "four.npy[0]: images with 4 channels; the network takes 3" in done.stderr
    np.save("flat.npy", np.zeros((2, 100), "uint8"))
    done = predicted(net, "flat.npy", status=2)
    assert "shape (2, 100); the network takes images [N,H,W] or [N,H,W,C]" in done.stderr
    net = network("keypoints", (*SIDES, 5), classes=5)
    done = predicted(net, "photo.png", status=2)
    assert "photo.png: an image, which has two sides and 1 or 3 channels" in done.stderr


def test_what_is_made_ahead_keeps_its_order_and_does_not_run_away() -> None:
    taken: list[int] = []
    first = threading.Event()

    def items() -> Any:
        for number in range(100):
            taken.append(number)
            yield number

    def work(number: int) -> int:
        if number == 0:  # the others are ready earlier
            assert first.wait(60)
        return 2 * number

    with ThreadPoolExecutor(4) as pool:
        found = in_order(pool, work, items(), ahead=6)
        first.set()
        assert next(found) == 0
        assert len(taken) == 7
        assert list(found) == [2 * number for number in range(1, 100)]


@pytest.mark.backend
def test_keras_on_another_backend_is_no_hindrance() -> None:
    """On JAX, this network is saved by JAX, and the command runs it on TensorFlow."""
    net = network("restoration", (8, 6, 1), keras.layers.Rescaling(0.5), classes=1)
    image = np.random.default_rng(0).random((8, 6, 1)).astype("float32")
    np.save("image.npy", image[None])
    words = [sys.executable, "-m", "reskeras", "predict", net, "image.npy", "--out", "out"]
    done = subprocess.run([*words, "--json"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (answer,) = json.loads(done.stdout)
    assert answer["restored"]["mean"] == pytest.approx(image.mean() / 2, abs=1e-5)
