"""A folder of images with one subfolder per class."""

import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from reskeras.data.decode import SUFFIXES, BadImageError, Facts, look, read_image
from reskeras.data.images import HELD, ImageData, IndexedReader, Places, balance_notes
from reskeras.data.pixels import white_of
from reskeras.errors import RequestError
from reskeras.spec import ImageShape
from reskeras.tasks import CLASSIFICATION
from reskeras.words import percent, printable

_SPLIT_NAMES = {
    "train": ("train", "training"),
    "val": ("val", "validation", "valid", "dev"),
    "test": ("test", "testing"),
}
_MASKS = {"masks", "mask", "labels", "annotations", "segmentation", "gt"}
"""Folder names that say that masks lie beside `images`."""
_LONGEST = 64
"""The longer side of images, in pixels, if no network says how large they are."""
_STRETCHED = 1.1
"""Images whose ratios of width to height differ by more than this factor are worth a note."""
_MOST_BAD = 0.05
"""Up to this share of unreadable files are left out; with more, the folder is refused."""
_LISTED = 10
"""Files that a message names."""
_THOROUGH_BYTES = 64 << 20
"""Folders of up to this many bytes are decoded to the end before anything is spent."""


class _File(NamedTuple):
    path: Path
    label: int
    group: str
    """The folder below the class that holds it, such as a patient's; its own name if there is
    none."""


def from_folder(root: Path, image_shape: ImageShape | None = None) -> ImageData:
    """Opens `root/CLASS/*.png` or `root/{train,val[,test]}/CLASS/*.png`.

    The first layout is split 70 / 15 / 15 within each class. Images may lie in folders below a
    class, such as one per patient; a split does not tear these apart. Every file is looked at;
    unreadable ones are left out, and named in the notes.

    Args:
        root: the folder.
        image_shape: height, width and channels to which images are decoded and resized; None
            chooses them: the median size, of at most 64 pixels, and gray if all images are.

    Raises:
        RequestError: no such folder, one without images in classes, or one with too many unreadable
            files.
    """
    if not root.is_dir():
        raise RequestError(f"{printable(root)}: no such folder")
    if image_shape is not None and image_shape[2] not in (1, 3):
        raise RequestError(
            f"{printable(root)}: images have 1 or 3 channels, but the network's input_shape has "
            f"{image_shape[2]}"
        )
    notes: list[str] = []
    named = _split_folders(root)
    if named:
        classes = _classes(named["train"])
        splits = {split: _labeled(folder, classes) for split, folder in named.items()}
    else:
        classes = _classes(root)
        splits = {"all": _labeled(root, classes)}
    _check_classes(root, classes, splits)
    facts = _look(root, splits, notes)
    splits = {split: [f for f in files if f.path in facts] for split, files in splits.items()}
    learned = splits["train" if named else "all"]
    known = [name for label, name in enumerate(classes) if any(f.label == label for f in learned)]
    if missing := [name for name in classes if name not in known]:
        notes.append(f"left out classes without images: {_listed(missing)}")
        number = {classes.index(name): label for label, name in enumerate(known)}
        splits = {
            split: [f._replace(label=number[f.label]) for f in files if f.label in number]
            for split, files in splits.items()
        }
    if len(known) < 2:
        raise RequestError(
            f"{printable(root)}: only the class {known[0]!r} has images; at least two are needed"
        )
    if not named:
        splits = _dealt(splits["all"], ("val", "test"))
    elif "val" not in splits:
        notes.append(f"no val/: {percent(HELD)} of the training images are for validation")
        splits = _dealt(splits["train"], ("val",)) | {
            split: files for split, files in splits.items() if split != "train"
        }
    for split, files in splits.items():
        if not files:
            raise RequestError(
                f"{printable(root)}: no images for the {split} split; {_layout(root)}, with a few "
                "images in each class"
            )
        count = Counter(file.label for file in files)
        if absent := [name for label, name in enumerate(known) if not count[label]]:
            notes.append(f"the {split} split has no images of {_listed(absent)}")
    deep = [fact.deep for fact in facts.values() if fact.deep is not None]
    peak = None
    if deep:
        peak = white_of(max(deep))
        notes.append(
            f"{len(deep):,} images have more than 8 bits, with values up to {max(deep):,}; "
            f"{peak:,.0f} becomes white"
        )
    if frames := sum(fact.frames > 1 for fact in facts.values()):
        notes.append(f"of {frames:,} files with several frames, the first frame is used")
    shape = _shape(list(facts.values()), image_shape, notes)
    notes += balance_notes([file.label for file in splits["train"]], list(map(printable, known)))
    digest = hashlib.sha256()
    for split, files in splits.items():
        for file in files:
            place = os.fsencode(file.path.relative_to(root))
            digest.update(f"{split} {facts[file.path].digest} ".encode() + place + b"\n")
    return ImageData(
        name=printable(root.resolve().name),
        task=CLASSIFICATION,
        image_shape=shape,
        classes=len(known),
        sizes={split: len(files) for split, files in splits.items()},
        digest=digest.hexdigest()[:16],
        reader=_Files(splits, shape, peak),
        source=str(root.resolve()),
        class_names=tuple(map(printable, known)),
        peak=peak,
        notes=tuple(notes),
    )


def _shape(facts: Sequence[Facts], given: ImageShape | None, notes: list[str]) -> ImageShape:
    """The shape of the network's images, and a note if images are resized to it."""
    median = [int(side) for side in np.median([fact.size for fact in facts], axis=0)]
    shape = given
    if shape is None:
        scale = min(1.0, _LONGEST / max(median))
        height, width = (
            side if scale == 1 else max(8, 8 * round(scale * side / 8)) for side in median
        )
        shape = height, width, 1 if all(fact.gray for fact in facts) else 3
    if others := sum(fact.size != shape[:2] for fact in facts):
        aspects = [fact.size[1] / fact.size[0] for fact in facts]
        stretched = max(aspects) > _STRETCHED * min(aspects)
        notes.append(
            f"{others:,} of {len(facts):,} images are resized to {shape[0]}x{shape[1]} (their "
            f"median is {median[0]}x{median[1]}); the network's input_shape decides"
            + ("; their shapes differ, so some are stretched" if stretched else "")
        )
    return shape


class _Files(IndexedReader):
    """Reads image files."""

    def __init__(
        self, splits: Mapping[str, Sequence[_File]], image_shape: ImageShape, peak: float | None
    ) -> None:
        self._paths = {split: [str(f.path) for f in files] for split, files in splits.items()}
        self._labels = {
            split: np.array([f.label for f in files], np.int32) for split, files in splits.items()
        }
        self._shape, self._peak = image_shape, peak

    def size(self, split: str) -> int:
        return len(self._paths[split])

    def at(self, split: str, places: Places) -> Any:
        import tensorflow as tf

        paths, labels = self._paths[split], self._labels[split]
        # Names of files may be no Unicode, so places travel through TensorFlow, and not names.
        dtype = tf.uint8 if self._peak is None else tf.float32

        def read(place: Any) -> Any:
            image = tf.numpy_function(lambda place: self._image(paths[place]), [place], dtype)
            return tf.ensure_shape(image, self._shape), tf.gather(labels, place)

        return tf.data.Dataset.from_tensor_slices(places).map(
            read, num_parallel_calls=tf.data.AUTOTUNE
        )

    def classes_of(self, split: str) -> Any:
        return self._labels[split]

    def called(self, split: str, place: int) -> str:
        return printable(self._paths[split][place])

    def _image(self, path: str) -> Any:
        try:
            image = read_image(path, self._shape, self._peak)
        except BadImageError as error:
            raise BadImageError(f"{printable(path)}: {error}; fix or delete it") from error
        if self._peak is not None and image.dtype == np.uint8:
            return image.astype(np.float32) / np.float32(255)  # among images with more bits
        return image


def check_image(file: Path) -> None:
    """Raises RequestError unless a file is a readable image."""
    try:
        look(file, thorough=False)
    except BadImageError as error:
        raise RequestError(f"{printable(file)}: {error}; fix or delete it") from error


def _split_folders(root: Path) -> dict[str, Path]:
    """The folders of the splits; empty if the folders in `root` are classes.

    A folder called `train` that holds images itself is a class, beside `bus` and `car`.
    """
    found = {
        split: child
        for split, names in _SPLIT_NAMES.items()
        for child in reversed(_folders(root))
        if child.name.lower() in names
    }
    if "train" not in found or any(_is_image(path) for path in found["train"].iterdir()):
        return {}
    return {split: found[split] for split in _SPLIT_NAMES if split in found}


def _check_classes(
    root: Path, classes: Sequence[str], splits: Mapping[str, Sequence[_File]]
) -> None:
    beside = {name.lower() for name in classes}
    if "images" in beside and beside & _MASKS:
        raise RequestError(
            f"{printable(root)}: {_listed(classes)} are no classes but images and their masks; to "
            "train on masks, give an .npz with masks as y_train, y_val and y_test"
        )
    if len(classes) < 2:
        found = f"only one class, {printable(classes[0])!r}" if classes else "no class"
        hint = ""
        if any(_is_image(path) for path in root.iterdir()):
            hint = "; images that lie in the folder itself have no class"
        raise RequestError(
            f"{printable(root)}: found {found}; at least two are needed, as {_layout(root)}{hint}"
        )
    for split, files in splits.items():
        if not files:
            where = "" if split == "all" else f" for the {split} split"
            raise RequestError(
                f"{printable(root)}: no images{where}; the layout is {_layout(root)}"
            )


def _layout(root: Path) -> str:
    return f"{printable(root)}/CLASS/*.png or {printable(root)}/{{train,val,test}}/CLASS/*.png"


def _folders(folder: Path) -> list[Path]:
    """The folders in a folder, by name, without hidden ones and what a Mac's zip leaves."""
    return sorted(
        child
        for child in folder.iterdir()
        if child.is_dir() and not child.name.startswith((".", "__MACOSX"))
    )


def _classes(folder: Path) -> list[str]:
    return [child.name for child in _folders(folder) if child.suffix.lower() not in SUFFIXES]


def _labeled(folder: Path, classes: Sequence[str]) -> list[_File]:
    if strangers := set(_classes(folder)) - set(classes):
        raise RequestError(
            f"{printable(folder)}: classes that train/ does not have: {_listed(sorted(strangers))}"
        )
    return [
        _File(path, label, str(path.relative_to(folder / name).parts[0]))
        for label, name in enumerate(classes)
        for path in images_below(folder / name)
    ]


def images_below(folder: Path) -> list[Path]:
    """The files that are called like images in a folder and below it, by name.

    Hidden files are left out: `._1.png` is what a Mac leaves of `1.png`.
    """
    return sorted(
        Path(place) / name
        for place, folders, files in os.walk(folder)
        if _is_open(folders)
        for name in files
        if _is_image(Path(place) / name)
    )


def _is_open(folders: list[str]) -> bool:
    """Keeps `os.walk` out of hidden folders."""
    folders[:] = [name for name in folders if not name.startswith((".", "__MACOSX"))]
    return True


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and path.name[0] != "." and not path.is_dir()


def _look(root: Path, splits: Mapping[str, Sequence[_File]], notes: list[str]) -> dict[Path, Facts]:
    """Looks at every file; notes the unreadable ones, or refuses the folder if they are many."""
    paths = [file.path for files in splits.values() for file in files]
    sizes = [path.stat().st_size for path in paths if path.exists()]
    thorough = sum(sizes) <= _THOROUGH_BYTES

    def one(path: Path) -> Facts | str:
        try:
            return look(path, thorough=thorough)
        except BadImageError as error:
            return str(error)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = dict(zip(paths, pool.map(one, paths), strict=True))
    bad = [
        f"{printable(path.relative_to(root))}: {reason}"
        for path, reason in found.items()
        if isinstance(reason, str)
    ]
    if bad:
        told = "".join(f"\n  {line}" for line in bad[:_LISTED])
        if len(bad) > _LISTED:
            told += f"\n  and {len(bad) - _LISTED:,} more"
        share = f"{len(bad):,} of {len(paths):,} files cannot be read"
        if len(bad) > _MOST_BAD * len(paths):
            raise RequestError(f"{printable(root)}: {share}; fix or delete them:{told}")
        notes.append(f"{share}, and are left out:{told}")
    return {path: facts for path, facts in found.items() if not isinstance(facts, str)}


def _dealt(files: Sequence[_File], held_splits: Sequence[str]) -> dict[str, list[_File]]:
    """Splits files within each class.

    By a hash of names: the split repeats from run to run, and hardly changes when files are added.
    A folder below a class goes to one split as a whole.
    """
    splits: dict[str, list[_File]] = {split: [] for split in ("train", *held_splits)}
    for label in sorted({file.label for file in files}):
        groups: dict[str, list[_File]] = {}
        for file in files:
            if file.label == label:
                groups.setdefault(file.group, []).append(file)
        order = sorted(groups, key=lambda name: hashlib.sha256(os.fsencode(name)).digest())
        # Whatever there is too little of, training has the first of it.
        splits["train"] += groups[order.pop()]
        held = HELD * sum(map(len, groups.values()))
        for split in held_splits:
            taken = 0
            while order and (not taken or taken + len(groups[order[0]]) / 2 <= held):
                taken += len(groups[order[0]])
                splits[split] += groups[order.pop(0)]
        splits["train"] += [file for name in order for file in groups[name]]
    return splits


def _listed(names: Iterable[str]) -> str:
    return ", ".join(map(printable, names))
