"""Folders that hold images in one folder and a file for each of them in another."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from reskeras.data.files import File, folders_in, images_below, listed, named_splits, split_folders
from reskeras.errors import RequestError
from reskeras.words import printable


@dataclasses.dataclass(frozen=True, kw_only=True)
class Layout:
    """How the two folders and the files in them are called."""

    images: frozenset[str]
    """Names of the folder of images, in any case."""
    others: frozenset[str]
    """Names of the folder beside it."""
    suffixes: tuple[str, ...]
    """What follows the image's name in that of its file."""
    told: str
    """The usual names of both folders, for messages."""
    noun: str
    """What an image has there."""

    def pair(self, folder: Path) -> tuple[Path, Path] | None:
        """Both folders in a folder; None if it does not have them."""
        inside = {child.name.lower(): child for child in folders_in(folder)}
        images, others = (
            [inside[name] for name in sorted(names & inside.keys())]
            for names in (self.images, self.others)
        )
        return (images[0], others[0]) if images and others else None

    def fits(self, root: Path) -> bool:
        """Whether a folder, or the training split in it, holds images and files for them."""
        pair = self.pair(split_folders(root).get("train", root))
        return pair is not None and any(images_below(pair[1]))

    def sources(self, root: Path) -> dict[str, tuple[Path, Path]]:
        """Both folders of each split; of `all` if there are no splits.

        Args:
            root: a folder that `fits`.

        Raises:
            RequestError: splits have other folders.
        """
        if named := split_folders(root):
            pairs = {split: self.pair(folder) for split, folder in named.items()}
            for split, pair in pairs.items():
                if pair is None:
                    raise RequestError(
                        f"{printable(named[split])}: has no folders {self.told}, as train/ has"
                    )
            return {split: pair for split, pair in pairs.items() if pair is not None}
        pair = self.pair(root)
        assert pair is not None, "it fits"
        images, others = (named_splits(folder) for folder in pair)
        if not images and not others:
            return {"all": pair}
        if set(images) != set(others) or "train" not in images:
            raise RequestError(
                f"{printable(root)}: {pair[0].name}/ and {pair[1].name}/ do not hold the same "
                f"splits, with train ({', '.join(images) or 'none'}; {', '.join(others) or 'none'})"
            )
        return {split: (folder, others[split]) for split, folder in images.items()}

    def matched(
        self, images: Path, others: Path, notes: list[str], folders: Sequence[str] = ("",)
    ) -> "list[Match]":
        """Each image of a folder with its files.

        Args:
            images: the folder of images.
            others: the one beside it.
            notes: gets a note if files there belong to no image.
            folders: folders in it, each of which may have a file for each image.

        Raises:
            RequestError: an image has no file, or several could be its own.
        """
        known: dict[str, list[Path]] = {}
        for path in images_below(others):
            known.setdefault(str(path.relative_to(others).with_suffix("")), []).append(path)
        found, alone = [], []
        for path in images_below(images):
            inner = path.relative_to(images)
            stem = str(inner.with_suffix(""))
            own = [
                [
                    other
                    for suffix in self.suffixes
                    for other in known.get(str(Path(folder, f"{stem}{suffix}")), ())
                ]
                for folder in folders
            ]
            for several in own:
                if len(several) > 1:
                    raise RequestError(
                        f"{printable(path)}: several {self.noun}s could be its own: "
                        f"{listed(str(other.relative_to(others)) for other in several)}"
                    )
            if any(own):
                group = inner.parts[:1] if len(inner.parts) > 1 else (inner.name, str(images))
                files = tuple(some[0] if some else None for some in own)
                found.append(Match(File(path, 0, group), files))
            else:
                alone.append(str(inner))
        if alone:
            raise RequestError(
                f"{printable(images)}: images without a {self.noun} of their name in "
                f"{others.name}/: {few(alone)}"
            )
        used = {other for match in found for other in match.others}
        extra = [path for paths in known.values() for path in paths if path not in used]
        notes += left_over(others, extra, f"{self.noun}s without an image")
        return found


def left_over(folder: Path, files: Sequence[Path], told: str) -> list[str]:
    """A note that files in a folder are left out; none if there are none.

    Args:
        folder: the folder.
        files: those that are left out.
        told: what they are, in the plural.
    """
    names = [str(path.relative_to(folder)) for path in files]
    return [f"{printable(folder)}: {told} left out: {few(names)}"] if names else []


def few(names: Sequence[str]) -> str:
    """The first names of files in a message, and how many more there are."""
    return listed(names[:5]) + ("" if len(names) <= 5 else f" and {len(names) - 5:,} more")


class Match(NamedTuple):
    """An image and its files."""

    image: File
    others: tuple[Path | None, ...]
    """One for each folder; None where the image has none."""


_IMAGES = frozenset({"images", "image", "imgs", "img"})

MASKS = Layout(
    images=_IMAGES,
    others=frozenset(
        {"masks", "mask", "labels", "annotations", "segmentation", "segmentations", "gt"}
    ),
    suffixes=("", "_mask", "-mask", "_label", "_gt", "_seg"),
    told="images/ and masks/",
    noun="mask",
)
TARGETS = Layout(
    images=_IMAGES | {"inputs", "input"},
    others=frozenset({"targets", "target"}),
    suffixes=("", "_target", "-target"),
    told="inputs/ and targets/",
    noun="target",
)
