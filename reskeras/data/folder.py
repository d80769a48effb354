"""A folder of images with one subfolder per class."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from reskeras.data.decode import SUFFIXES, Facts
from reskeras.data.files import (
    File,
    FileReader,
    check_channels,
    folders_in,
    image_data,
    images_below,
    is_image,
    listed,
    look_at,
    split_folders,
)
from reskeras.data.images import ImageData
from reskeras.data.options import NO_OPTIONS, DataOptions
from reskeras.data.splits import complete
from reskeras.errors import RequestError
from reskeras.spec import ImageShape
from reskeras.tasks import Labels, task_of
from reskeras.words import printable


def from_folder(
    root: Path, image_shape: ImageShape | None = None, options: DataOptions = NO_OPTIONS
) -> ImageData:
    """Opens `root/CLASS/*.png` or `root/{train[,val][,test]}/CLASS/*.png`.

    The first layout is split 70 / 15 / 15 within each class. Images may lie in folders below a
    class, such as one per patient; a split does not tear these apart, also where several classes
    have a folder of one name. Every file is looked at; unreadable ones are left out, and named in
    the notes.

    Args:
        root: the folder.
        image_shape: height, width and channels to which images are decoded and resized; None
            chooses them: the median size, of at most 64 pixels, and gray if all images are.
        options: how they are read.

    Raises:
        RequestError: no images in classes, or too many unreadable files.
    """
    check_channels(root, image_shape)
    notes: list[str] = []
    unreadable: dict[str, str] = {}
    if named := split_folders(root):
        classes = _classes(named["train"])
        splits = {split: _labeled(folder, classes) for split, folder in named.items()}
        for folder in named.values():
            if stray := [path for path in folder.iterdir() if is_image(path)]:
                notes.append(
                    f"left out {len(stray):,} images that lie in {printable(folder.name)}/ itself"
                )
        if others := [f.name for f in folders_in(root) if f not in named.values()]:
            notes.append(f"left out folders that are no splits: {listed(others)}")
    else:
        classes = _classes(root)
        splits = {"all": _labeled(root, classes)}
    _check_classes(root, classes, splits)
    paths = [file.path for files in splits.values() for file in files]
    facts = look_at(root, paths, notes, strict=options.strict, unreadable=unreadable)
    return with_labels(root, classes, splits, facts, {}, unreadable, image_shape, options, notes)


def with_labels(
    root: Path,
    classes: list[str],
    splits: Mapping[str, Sequence[File]],
    facts: Mapping[Path, Facts],
    labels: Mapping[Path, str],
    unreadable: Mapping[str, str],
    image_shape: ImageShape | None,
    options: DataOptions,
    notes: list[str],
) -> ImageData:
    """The data in files that have a class each.

    Args:
        root: the folder that holds them.
        classes: the names of the classes.
        splits: the files of each split, or of `all`.
        facts: what a look at the readable ones found.
        labels: the label of each file, if its path does not tell it.
        unreadable: why files are left out.
        image_shape: the shape of images, if a network says it.
        options: how they are read.
        notes: what is known already; gets the rest.

    Raises:
        RequestError: there are too few images.
    """
    splits = {split: [f for f in files if f.path in facts] for split, files in splits.items()}
    classes, splits = _with_images(root, classes, splits, notes)
    splits = complete(splits, options.fold, root, notes)
    _check_splits(root, classes, splits, notes)
    return image_data(
        root,
        splits,
        facts,
        lambda shape, resize, peak: FileReader(splits, shape, resize, peak),
        task=task_of(Labels.CLASS, options.task),
        names=classes,
        contents={
            path: f"{fact.digest} {labels[path]}" if labels else fact.digest
            for path, fact in facts.items()
        },
        image_shape=image_shape,
        options=options,
        unreadable=unreadable,
        notes=notes,
    )


def _classes(folder: Path) -> list[str]:
    """The folders that are classes; one that is called like an image holds images to be one."""
    return [
        child.name
        for child in folders_in(folder)
        if child.suffix.lower() not in SUFFIXES or images_below(child)
    ]


def _labeled(folder: Path, classes: Sequence[str]) -> list[File]:
    others = set(_classes(folder)) - set(classes)
    if strangers := [name for name in sorted(others) if images_below(folder / name)]:
        raise RequestError(
            f"{printable(folder)}: classes that train/ does not have: {listed(strangers)}"
        )
    found = []
    for label, name in enumerate(classes):
        for path in images_below(folder / name):
            inner = path.relative_to(folder / name).parts
            # A folder is a group in all classes; a file is one alone, whatever it is called.
            group = inner[:1] if len(inner) > 1 else (*inner, folder.name, name)
            found.append(File(path, label, group))
    return found


def _check_classes(
    root: Path, classes: Sequence[str], splits: Mapping[str, Sequence[File]]
) -> None:
    if len(classes) < 2:
        found = f"only one class, {printable(classes[0])!r}" if classes else "no class"
        hint = ""
        if any(is_image(path) for path in root.iterdir()):
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


def _with_images(
    root: Path, classes: list[str], splits: Mapping[str, Sequence[File]], notes: list[str]
) -> tuple[list[str], Mapping[str, Sequence[File]]]:
    """The classes that have training images, and the files of these."""
    trained = {file.label for file in splits.get("train", splits.get("all", []))}
    known = sorted(trained)
    if len(known) < 2:
        named = f"the class {printable(classes[known[0]])!r} has" if known else "no class has"
        raise RequestError(f"{printable(root)}: only {named} images; at least two are needed")
    if len(known) == len(classes):
        return classes, splits
    missing = [name for label, name in enumerate(classes) if label not in trained]
    notes.append(f"left out classes without training images: {listed(missing)}")
    number = {label: new for new, label in enumerate(known)}
    return [classes[label] for label in known], {
        split: [f._replace(label=number[f.label]) for f in files if f.label in number]
        for split, files in splits.items()
    }


def _check_splits(
    root: Path, classes: Sequence[str], splits: Mapping[str, Sequence[File]], notes: list[str]
) -> None:
    for split, files in splits.items():
        if not files:
            raise RequestError(
                f"{printable(root)}: no images for the {split} split; each class needs a few"
                ", in several groups"
            )
        count = Counter(file.label for file in files)
        if absent := [name for label, name in enumerate(classes) if not count[label]]:
            notes.append(f"the {split} split has no images of {listed(absent)}")


def _layout(root: Path) -> str:
    return f"{printable(root)}/CLASS/*.png or {printable(root)}/{{train,val,test}}/CLASS/*.png"
