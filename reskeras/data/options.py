"""How data are read, where the name of the data alone does not say it."""

import dataclasses
import enum
import re
from collections.abc import Mapping
from typing import Any

from reskeras.errors import RequestError
from reskeras.spec import Resize


class Cache(enum.Enum):
    """Where decoded images stay between epochs."""

    AUTO = "auto"
    """In memory if they are few, otherwise on disk if they fit there."""
    MEMORY = "memory"
    DISK = "disk"
    """In a file that all processes share, and later searches, too."""
    NONE = "none"
    """Nowhere: every epoch decodes all of them."""


@dataclasses.dataclass(frozen=True)
class Fold:
    """One of several folds: its images are for validation, and those of the others train."""

    index: int
    """Counted from 1."""
    count: int

    def __post_init__(self) -> None:
        if not 1 <= self.index <= self.count or self.count < 2:
            raise RequestError(
                f"--fold {self}: there is no such fold; 2/5 is the second of five, and two is the "
                "least"
            )

    @classmethod
    def parse(cls, text: str) -> "Fold":
        """Reads `I/K`.

        Raises:
            RequestError: it is anything else.
        """
        match = re.fullmatch(r"\s*([0-9]{1,9})\s*/\s*([0-9]{1,9})\s*", text)
        if match is None:
            raise RequestError(f"--fold {text!r}: not I/K; 2/5 is the second of five folds")
        return cls(int(match[1]), int(match[2]))

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataOptions:
    """How data are read.

    The options of the command line have the names of these fields; `resize` stands in a spec.
    """

    resize: Resize | None = None
    """How images get the sides of the network's input; None: as the task's published recipes do."""
    ignore: int | None = None
    """The value of pixels of masks, or of labels in arrays, that have no class."""
    cache: Cache = Cache.AUTO
    strict: bool = False
    """Whether one unreadable file is too many."""
    fold: Fold | None = None
    """What to validate on, of the images for training and validation; None: as the data say."""
    splits: str | None = None
    """What is ours of a TFDS data set, in TFDS' words: `train=train[:80%],val=train[80%:]`."""
    features: str | None = None
    """The features of a TFDS data set that are used: `image=images/left,label=species`."""
    task: str | None = None
    """The name of the task, where the labels could be several tasks'; None: the usual one."""
    labels: str | None = None
    """The columns of a table that hold labels, between commas; None: found by their names."""
    data_dir: str | None = None
    """The folder of TFDS data sets; None: TFDS' own, which TFDS_DATA_DIR names."""
    spacing: tuple[float, ...] | None = None
    """What folders of volumes are resampled to: millimeters between voxels along each axis; None:
    the median of the training volumes. No option of the command line: a network says it."""

    def document(self) -> dict[str, Any]:
        """The options that change what the data are, for a record; without those not given."""
        return {
            field.name: _in_json(value)
            for field in dataclasses.fields(self)
            if field.name not in ("cache", "strict")
            and (value := getattr(self, field.name)) != field.default
        }

    def words(self) -> list[str]:
        """The options that change what the data are, as the command line takes them."""
        return [
            word
            for name, value in self.document().items()
            if name not in ("resize", "spacing")  # which the spec and the network say
            for word in (f"--{name.replace('_', '-')}", str(value))
        ]

    def over(self, document: Mapping[str, Any]) -> "DataOptions":
        """These options, and those of a record where these are not given."""
        given = {**document, **self.document()}
        known = {field.name for field in dataclasses.fields(self)}
        if unknown := [name for name in given if name not in known]:
            raise RequestError(
                f"the data were opened with {unknown[0]!r}, which this version of reskeras does "
                "not know; use the one that wrote the run"
            )
        if "fold" in given:
            given["fold"] = Fold.parse(given["fold"])
        if "spacing" in given:
            given["spacing"] = tuple(given["spacing"])
        return dataclasses.replace(self, **given)

    def check_no_ignore(self, where: str) -> None:
        """Raises RequestError if a value is to be ignored; for images that have a class each."""
        if self.ignore is not None:
            raise RequestError(
                f"{where}: --ignore {self.ignore} is for masks, and for labels in an .npz; these "
                "images have a class each"
            )

    def check_no_columns(self, where: str) -> None:
        """Raises RequestError if columns are named; for data that are no table."""
        if self.labels is not None:
            raise RequestError(f"{where}: --labels {self.labels} is for the columns of a CSV")

    def check_no_patches(self, where: str) -> None:
        """Raises RequestError if patches are to be cut; for labels that do not lie on pixels."""
        if self.resize == "patch":
            raise RequestError(
                f"{where}: train.resize: patch is for images with masks and for images to restore; "
                "these take stretch, crop or pad"
            )

    def of_tfds(self) -> list[str]:
        """The options given that only TFDS data sets have, as the command line calls them."""
        names = ("splits", "features", "data_dir")
        return [f"--{name.replace('_', '-')}" for name in names if getattr(self, name) is not None]


def _in_json(value: Any) -> Any:
    if isinstance(value, Fold):
        return str(value)
    return list(value) if isinstance(value, tuple) else value


NO_OPTIONS = DataOptions()
