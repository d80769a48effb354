"""Facts about a search from the first line of its journal, in the form that MLflow gets."""

import json
import math
from collections.abc import Mapping
from typing import Any

import reskeras
from tuning.space import Range, parse_space
from tuning.space.costs import depth_and_macs


class Subject:
    """The facts of a search.

    Args:
        header: the header of its journal.

    Attributes:
        space: the searched space.
        data: facts of the data: `name`, `source`, `class_names`, `image_shape`, `classes`, `sizes`.
        digest: the digest of the data.
        short: short names by path.
        log_axes: maps the short name of a value on a log scale to that of its logarithm, because
            MLflow draws only linear axes.
    """

    def __init__(self, header: Mapping[str, Any]) -> None:
        about = header["about"]
        self.space = parse_space(json.loads(json.dumps(header["space"])), where="journal.jsonl")
        self.search_id: str = header["search_id"]
        self.name: str = about["name"]
        self.oracle: str = header["oracle"]
        self.objective: str = header["objective"]
        self.seed: int = header["seed"]
        self.epochs: int = about["epochs"]
        self.started: float = about["started"]
        self.command: list[str] = about["command"]
        self.data: dict[str, Any] = about["data"]
        self.digest: str = header["data"]
        self.short = self.space.short_names()
        logarithmic = [
            path for path, item in self.space.vary.items() if isinstance(item, Range) and item.log
        ]
        self.log_axes = {self.short[path]: f"log10_{self.short[path]}" for path in logarithmic}

    def tags(self, kind: str) -> dict[str, str]:
        """Tags that identify the runs of this search; `kind` is `search`, `trial` or `final`."""
        return {
            "reskeras.kind": kind,
            "reskeras.search_id": self.search_id,
            "reskeras.search": self.name,
            "reskeras.objective": self.objective,
            "reskeras.version": reskeras.__version__,
        }

    def cost(self, values: Mapping[str, Any]) -> tuple[int, int] | None:
        """Depth and MACs of a trial's network; None if its values make none."""
        return depth_and_macs(self.space, self.space.point(values))

    def params(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """A trial's searched values by short name, with the logarithms that charts need."""
        found = {self.short[path]: value for path, value in self.space.point(values).items()}
        return found | {
            log: math.log10(found[short]) for short, log in self.log_axes.items() if short in found
        }
