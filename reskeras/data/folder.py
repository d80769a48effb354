"""A folder of images with one subfolder per class."""

import functools
import hashlib
from pathlib import Path
from typing import Any

from reskeras.data.images import ImageData
from reskeras.data.pixels import resized, scaled
from reskeras.errors import RequestError
from reskeras.spec import ImageShape
from reskeras.tasks import CLASSIFICATION

SUFFIXES = {".png", ".jpg", ".jpeg", ".gif", ".bmp"}
_SIGNATURES = (b"\x89PNG", b"\xff\xd8", b"GIF8", b"BM")
_SPLIT_NAMES = {
    "train": ("train", "training"),
    "val": ("val", "validation", "valid"),
    "test": ("test",),
}


def from_folder(root: Path, image_shape: ImageShape) -> ImageData:
    """Opens `root/CLASS/*.png` or `root/{train,val[,test]}/CLASS/*.png`.

    The first layout is split 70 / 15 / 15 within each class.

    Args:
        root: the folder.
        image_shape: height, width and channels to which images are decoded and resized.

    Raises:
        RequestError: no such folder, or one without images in classes.
    """
    if not root.is_dir():
        raise RequestError(f"{root}: no such folder")
    named = {
        split: next((root / n for n in names if (root / n).is_dir()), None)
        for split, names in _SPLIT_NAMES.items()
    }
    if named["train"] is not None:
        if named["val"] is None:
            raise RequestError(
                f"{root}: has train/ but no val/; a search needs a validation split for its scores"
            )
        classes = _class_names(named["train"])
        splits = {
            split: _labeled(folder, classes)
            for split, folder in named.items()
            if folder is not None
        }
    else:
        classes = _class_names(root)
        splits = _deal(_labeled(root, classes))
    layout = f"{root}/CLASS/*.png or {root}/{{train,val,test}}/CLASS/*.png"
    if image_shape[2] not in (1, 3):
        raise RequestError(
            f"{root}: images have 1 or 3 channels, but the network's input_shape has "
            f"{image_shape[2]}"
        )
    if len(classes) < 2:
        found = f"only one class, {classes[0]!r}" if classes else "no class"
        raise RequestError(f"{root}: found {found}; at least two are needed, as {layout}")
    for split, files in splits.items():
        if not files:
            raise RequestError(f"{root}: no images for the {split} split; the layout is {layout}")
        for file, _ in files:
            check_image(file)
    digest = hashlib.sha256(
        "\n".join(
            f"{split} {file.relative_to(root)} {file.stat().st_size}"
            for split in splits
            for file, _ in splits[split]
        ).encode()
    )
    return ImageData(
        name=root.resolve().name,
        task=CLASSIFICATION,
        image_shape=image_shape,
        classes=len(classes),
        sizes={split: len(files) for split, files in splits.items()},
        digest=digest.hexdigest()[:16],
        open_split=functools.partial(_open, splits, image_shape),
        source=str(root.resolve()),
        class_names=tuple(classes),
    )


def check_image(file: Path) -> None:
    """Raises RequestError unless a file starts like a PNG, JPEG, GIF or BMP image."""
    with file.open("rb") as image:
        if not image.read(4).startswith(_SIGNATURES):
            raise RequestError(f"{file}: not a PNG, JPEG, GIF or BMP image; fix or delete it")


def read_image(path: Any, image_shape: ImageShape) -> Any:
    """Decodes an image file to [H,W,C] in 0..1 and resizes it; `path` may be a string tensor."""
    import tensorflow as tf

    # Always decode as colors first: a gray BMP cannot be asked for one channel, nor a colored one.
    image = tf.io.decode_image(tf.io.read_file(path), channels=3, expand_animations=False)
    if image_shape[2] == 1:
        image = tf.image.rgb_to_grayscale(image)
    return tf.ensure_shape(resized(scaled(image), image_shape[:2]), image_shape)


def _class_names(folder: Path) -> list[str]:
    return sorted(
        child.name
        for child in folder.iterdir()
        if child.is_dir() and not child.name.startswith(".")
    )


def _labeled(folder: Path, classes: list[str]) -> list[tuple[Path, int]]:
    strangers = set(_class_names(folder)) - set(classes)
    if strangers:
        raise RequestError(
            f"{folder}: classes that train/ does not have: {', '.join(sorted(strangers))}"
        )
    return [
        (file, label)
        for label, name in enumerate(classes)
        if (folder / name).is_dir()
        for file in sorted((folder / name).iterdir())
        if file.suffix.lower() in SUFFIXES
    ]


def _deal(files: list[tuple[Path, int]]) -> dict[str, list[tuple[Path, int]]]:
    # By a hash of the name within each class: the split repeats from run to run, and hardly changes
    # when files are added.
    splits: dict[str, list[tuple[Path, int]]] = {"train": [], "val": [], "test": []}
    for label in sorted({label for _, label in files}):
        mine = sorted(
            (f for f in files if f[1] == label),
            key=lambda f: hashlib.sha256(f[0].name.encode()).digest(),
        )
        held = max(1, round(0.15 * len(mine)))
        splits["val"] += mine[:held]
        splits["test"] += mine[held : 2 * held]
        splits["train"] += mine[2 * held :]
    return splits


def _open(splits: dict[str, list[tuple[Path, int]]], image_shape: ImageShape, split: str) -> Any:
    import tensorflow as tf

    def read(path: Any, label: Any) -> Any:
        return read_image(path, image_shape), label

    paths = [str(file) for file, _ in splits[split]]
    labels = [label for _, label in splits[split]]
    return tf.data.Dataset.from_tensor_slices((paths, labels)).map(
        read, num_parallel_calls=tf.data.AUTOTUNE
    )
