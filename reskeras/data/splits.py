"""Files in splits and folds: by their names, groups whole, and each class with its share.

A hash of names decides, never an order: splits repeat from run to run, and hardly change when files
are added.
"""

import dataclasses
import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from reskeras.data.files import File
from reskeras.data.images import HELD
from reskeras.data.options import Fold
from reskeras.errors import RequestError
from reskeras.words import percent, printable


def complete(
    splits: Mapping[str, Sequence[File]], fold: Fold | None, root: Path, notes: list[str]
) -> dict[str, list[File]]:
    """The splits `train` and `val`, and `test` if there is one.

    Args:
        splits: files without splits as `all`; or those of `train` and perhaps of `val` and `test`.
        fold: what to validate on, of the images of train and val together; None: `val`, or a part
            of train.
        root: what messages name.
        notes: gets a note where train gives a part away, or a class has too few groups for folds.

    Raises:
        RequestError: there are fewer groups than folds.
    """
    if "all" in splits:
        found = deal(splits["all"], ("val", "test"))
    else:
        found = {split: list(files) for split, files in splits.items()}
        if "val" not in found and fold is None:
            notes.append(f"no val/: {percent(HELD)} of the training images are for validation")
            found = deal(found.pop("train"), ("val",)) | found
    if fold is None:
        return found
    pool = [*found.pop("train"), *found.pop("val", [])]
    return _in_fold(pool, fold, root, notes) | found


@dataclasses.dataclass(eq=False)
class _Group:
    """Files that no split tears apart."""

    number: int
    """A hash of its name."""
    files: list[File] = dataclasses.field(default_factory=list)
    counts: dict[int, int] = dataclasses.field(default_factory=dict)
    """How many files each of its classes has."""


def _groups(files: Iterable[File]) -> list[_Group]:
    """The groups, in the order of their hashes."""
    found: dict[tuple[str, ...], _Group] = {}
    for file in files:
        group = found.get(file.group)
        if group is None:
            number = int.from_bytes(hashlib.sha256(os.fsencode(file.group[0])).digest())
            group = found[file.group] = _Group(number)
        group.files.append(file)
        group.counts[file.label] = group.counts.get(file.label, 0) + 1
    return [group for _, group in sorted(found.items(), key=lambda item: (item[1].number, item[0]))]


def _covering(groups: Sequence[_Group], labels: Iterable[int]) -> list[_Group]:
    """The last groups that have a file of each of these classes."""
    wanted, found = set(labels), []
    for group in reversed(groups):
        if not wanted.isdisjoint(group.counts):
            found.append(group)
            wanted.difference_update(group.counts)
    return found


def _files(groups: Iterable[_Group]) -> list[File]:
    """The files of groups, by class."""
    return sorted((file for group in groups for file in group.files), key=lambda file: file.label)


def deal(files: Sequence[File], held_splits: Sequence[str]) -> dict[str, list[File]]:
    """Splits files: `held_splits` get about `HELD` of each class, training the rest.

    A group goes to one split as a whole. Every class has training files; whatever there is too
    little of, training has the first of it, and then the held splits in their order.
    """
    groups = _groups(files)
    held = {label: HELD * n for label, n in Counter(file.label for file in files).items()}
    trained = _covering(groups, held)
    kept = set(trained)
    rest = [group for group in groups if group not in kept]
    splits = {}
    for later, split in zip(reversed(range(len(held_splits))), held_splits, strict=True):
        taken = _held(rest, held, later)
        splits[split] = _files(taken)
        gone = set(taken)
        rest = [group for group in rest if group not in gone]
    return {"train": _files([*trained, *rest])} | splits


def _held(groups: Sequence[_Group], held: Mapping[int, float], later: int) -> list[_Group]:
    """The groups of a split that gets about `held` files of each class.

    Args:
        groups: in their order.
        held: how many files of each class the split gets.
        later: how many other splits need a group of each class, too.
    """
    having: dict[int, list[_Group]] = {}
    for group in groups:
        for label in group.counts:
            having.setdefault(label, []).append(group)
    left = {label: len(some) for label, some in having.items()}
    taken: dict[int, int] = dict.fromkeys(held, 0)
    chosen: dict[_Group, None] = {}

    def gain(group: _Group, *, covering: bool = False) -> float:
        """How much nearer the split gets to its shares: by squares, relative to each class."""
        return sum(
            1.0
            if covering and not taken[label]
            else count * (2 * (held[label] - taken[label]) - count) / held[label] ** 2
            for label, count in group.counts.items()
        )

    def take(group: _Group) -> None:
        chosen[group] = None
        for label, count in group.counts.items():
            taken[label] += count
            left[label] -= 1

    for group in groups:
        if gain(group) >= 0 and all(left[label] > later for label in group.counts):
            take(group)
    # A class of a few large groups: better one that is too large than none.
    for label in sorted(having):
        if not taken[label]:
            best = max(
                (group for group in having[label] if group not in chosen),
                key=lambda group: (gain(group, covering=True), gain(group)),
                default=None,
            )
            if best is not None and gain(best, covering=True) >= 0:
                take(best)
    return list(chosen)


def _in_fold(
    files: Sequence[File], fold: Fold, root: Path, notes: list[str]
) -> dict[str, list[File]]:
    """The fold's files as `val`, and all others as `train`."""
    groups = _groups(files)
    if len(groups) < fold.count:
        raise RequestError(
            f"{printable(root)}: --fold {fold}: {len(groups):,} groups of images, which are not "
            f"torn apart, cannot make {fold.count} folds"
        )
    held = _folds(groups, fold.count)[fold.index - 1]
    out = set(held)
    rest = [group for group in groups if group not in out]
    known = {label for group in rest for label in group.counts}
    kept = _covering(held, {label for group in held for label in group.counts} - known)
    if kept:
        notes.append(
            f"fold {fold}: {len(_files(kept)):,} images stay in training, where their classes have "
            "no others"
        )
    held = [group for group in held if group not in set(kept)]
    if not held:
        raise RequestError(
            f"{printable(root)}: --fold {fold}: no images to validate on: the classes of this "
            "fold's images have no others to train on; take fewer folds"
        )
    return {"train": _files([*rest, *kept]), "val": _files(held)}


def _folds(groups: Sequence[_Group], count: int) -> list[list[_Group]]:
    """Deals groups into folds of about equal shares of each class.

    A group goes where its hash says if there is room, and otherwise where its classes are rarest:
    another file moves few. Large groups come first; small ones fill up.
    """
    totals = Counter(file.label for group in groups for file in group.files)
    levels = {label: total / count for label, total in totals.items()}
    taken: list[Counter[int]] = [Counter() for _ in range(count)]
    sizes = [0] * count
    folds: list[list[_Group]] = [[] for _ in range(count)]
    for group in sorted(groups, key=lambda group: -len(group.files)):
        own = group.number % count
        if any(taken[own][label] + n > levels[label] for label, n in group.counts.items()):
            own = min(
                range(count),
                key=lambda fold: (
                    sum(n * taken[fold][c] / totals[c] ** 2 for c, n in group.counts.items()),
                    sizes[fold],
                    (fold - own) % count,
                ),
            )
        folds[own].append(group)
        sizes[own] += len(group.files)
        for label, n in group.counts.items():
            taken[own][label] += n
            if taken[own][label] > levels[label]:
                levels[label] = _level(totals[label], [counts[label] for counts in taken])
    order = {group: place for place, group in enumerate(groups)}
    return [sorted(fold, key=order.__getitem__) for fold in folds]


def _level(total: int, taken: Sequence[int]) -> float:
    """The share of a class for each fold, if some of them have more already."""
    rest, most = total, sorted(taken, reverse=True)
    for left in range(len(taken), 0, -1):
        if most[-left] <= rest / left:
            return rest / left
        rest -= most[-left]
    raise AssertionError("folds have more files than there are")
