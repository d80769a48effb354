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


NO_OPTIONS = DataOptions()
