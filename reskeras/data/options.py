"""How data are read, where the name of the data alone does not say it."""

import dataclasses
import enum
from collections.abc import Mapping
from typing import Any

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


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataOptions:
    """How data are read. The options of the command line have the names of these fields."""

    resize: Resize | None = None
    """How images get the sides of the network's input; None: as the task's published recipes do."""
    cache: Cache = Cache.AUTO
    strict: bool = False
    """Whether one unreadable file is too many."""
    splits: str | None = None
    """What is ours of a TFDS data set, in TFDS' words: `train=train[:80%],val=train[80%:]`."""
    features: str | None = None
    """The features of a TFDS data set that are used: `image=images/left,label=species`."""
    data_dir: str | None = None
    """The folder of TFDS data sets; None: TFDS' own, which TFDS_DATA_DIR names."""

    def document(self) -> dict[str, Any]:
        """The options that change what the data are, for a record; without those not given."""
        return {
            field.name: value
            for field in dataclasses.fields(self)
            if field.name not in ("cache", "strict")
            and (value := getattr(self, field.name)) != field.default
        }

    def over(self, document: Mapping[str, Any]) -> "DataOptions":
        """These options, and those of a record where these are not given."""
        return dataclasses.replace(self, **{**document, **self.document()})

    def of_tfds(self) -> list[str]:
        """The options given that only TFDS data sets have, as the command line calls them."""
        names = ("splits", "features", "data_dir")
        return [f"--{name.replace('_', '-')}" for name in names if getattr(self, name) is not None]


NO_OPTIONS = DataOptions()
