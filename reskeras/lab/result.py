"""What an experiment finds: a table, a figure, and verdicts of theory against measurement."""

import csv
import dataclasses
import enum
import io
import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any


class Verdict(enum.Enum):
    """Whether what is measured agrees with theory."""

    PASS = "pass"
    FAIL = "fail"
    NO_THEORY = "no theory"
    """The theory's assumptions do not hold for this network, or nothing was claimed."""


class Bound(enum.Enum):
    """On which side of the expected number theory wants the measured one."""

    EQUAL = "="
    AT_LEAST = ">="
    AT_MOST = "<="


@dataclasses.dataclass(frozen=True, kw_only=True)
class Check:
    """One claim, the number that theory expects, and the number that is measured."""

    claim: str
    """A sentence."""
    source: str
    """Who claims it: paper and formula."""
    measured: float
    expected: float | None = None
    """None if theory says nothing about this network."""
    bound: Bound = Bound.EQUAL
    tolerance: float = 0.0
    """How far the measured value may be from the expected one, or on its wrong side; the experiment
    says why. A negative one is how far beyond a bound it must be, so that chance explains it no
    more."""
    why_not: str = ""
    """Why theory says nothing, if it does not."""

    @property
    def verdict(self) -> Verdict:
        """Whether the measured value is within the tolerance."""
        if self.expected is None:
            return Verdict.NO_THEORY
        match self.bound:
            case Bound.EQUAL:
                beyond = abs(self.measured - self.expected)
            case Bound.AT_LEAST:
                beyond = self.expected - self.measured
            case Bound.AT_MOST:
                beyond = self.measured - self.expected
        return Verdict.PASS if beyond <= self.tolerance else Verdict.FAIL

    def document(self) -> dict[str, Any]:
        """This check as JSON."""
        return {
            "claim": self.claim,
            "source": self.source,
            "bound": self.bound.value,
            "expected": self.expected,
            "measured": _number(self.measured),
            "tolerance": None if self.expected is None else self.tolerance,
            "verdict": self.verdict.value,
            "why_not": self.why_not,
        }


@dataclasses.dataclass(frozen=True, kw_only=True)
class Table:
    """Rows of numbers and words."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]

    def dicts(self) -> list[dict[str, Any]]:
        """Each row by column; numbers that JSON lacks are None."""
        return [
            {name: _number(cell) for name, cell in zip(self.columns, row, strict=True)}
            for row in self.rows
        ]

    def csv(self) -> str:
        """The table as CSV."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(self.columns)
        writer.writerows(self.rows)
        return out.getvalue()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Result:
    """What an experiment finds."""

    name: str
    """The experiment's."""
    network: str
    """What it was done on."""
    checks: Sequence[Check]
    """The claims; the first is the main one."""
    table: Table
    text: str
    """What it shows, in a few sentences."""
    draw: Callable[[], Any]
    """Makes the figure."""
    settings: Mapping[str, Any]
    """What the numbers depend on: seed, images, data."""

    @property
    def figure(self) -> Any:
        """The figure, a new `matplotlib.figure.Figure`."""
        return self.draw()

    @property
    def verdict(self) -> Verdict:
        """Fail if any check fails, else pass if any passes."""
        found = {check.verdict for check in self.checks}
        for each in (Verdict.FAIL, Verdict.PASS):
            if each in found:
                return each
        return Verdict.NO_THEORY

    def document(self) -> dict[str, Any]:
        """This result as JSON; the numbers are those of the check that decides."""
        main = next(check for check in self.checks if check.verdict is self.verdict)
        about = main.document()
        return {
            "name": self.name,
            "network": self.network,
            "verdict": self.verdict.value,
            "expected": about["expected"],
            "measured": about["measured"],
            "tolerance": about["tolerance"],
            "text": self.text,
            "checks": [check.document() for check in self.checks],
            "settings": dict(self.settings),
            "table": self.table.dicts(),
        }

    def json(self) -> str:
        """This result as a JSON document."""
        return json.dumps(self.document(), indent=2)


def _number(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
