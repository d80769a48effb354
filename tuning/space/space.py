"""A search space: a base recipe, and ranges for what varies, by path in the spec.

A path names its hyperparameter everywhere. `*` stands for every entry of a list; these share one
value:

    stages.*.blocks: {low: 1, high: 3}
    block.kind: [plain, basic, bottleneck, dense]
    train.learning_rate: {low: 1e-3, high: 3e-2, log: true}
"""

import copy
import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any, get_args

import yaml
from pydantic import ConfigDict, Field, Strict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from reskeras.errors import RequestError, did_you_mean
from reskeras.spec import UNIONS, Augmentation, NormOrder, Recipe
from reskeras.spec.recipes import by_recipe
from reskeras.spec.text import (
    dump_document,
    error_lines,
    parse_recipe,
    read_document,
    spelled_out,
    to_document,
)
from reskeras.tasks import Facts, Task

Scalar = str | int | float | bool

_RATE = "train.learning_rate"

_FIXED = {
    "family": "a family cannot vary; make a space for each",
    "name": "a name makes no difference",
    "input_shape": "the data determine it",
    "head.classes": "the data determine it",
    "train.resize": "all trials of a search read the same images",
    "train.seed": "a search has one seed, and derives each trial's from it",
}
"""Paths that cannot vary, and why."""


@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))
class Range:
    """Numbers from low to high, inclusive; whole numbers if the spec's field is whole."""

    low: float
    high: float
    step: Annotated[float, Field(gt=0)] | None = None
    log: Annotated[bool, Strict()] = False
    """Whether values are spaced by ratio rather than by difference."""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high)):
            raise ValueError(f"a range has finite ends (got low {self.low:g}, high {self.high:g})")
        if self.low >= self.high:
            raise ValueError(
                f"an empty range: low {self.low:g} must be less than high {self.high:g}"
            )
        if self.log and self.low <= 0:
            raise ValueError(f"a range with log: true must start above 0 (got low {self.low:g})")
        if self.log and self.step is not None:
            raise ValueError("a range has a step or log: true, not both")


Vary = Range | tuple[Scalar, ...]


class Space:
    """A base recipe and what varies in it.

    Args:
        base: a spec or a recipe, which sets every value that does not vary.
        vary: maps paths in the spec to a `Range` or a list of values. A path below a kind that also
            varies (such as `block.growth_rate` with `block.kind`) applies only to the kinds that
            have it.
        start: known good points, tried right after the base: values by path; missing paths take the
            base's value.
        where: start of each line of an error.

    Raises:
        RequestError: one line for every path that is not in the spec and every range that is empty
            or holds a wrong value.
    """

    def __init__(
        self,
        base: Any,
        vary: Mapping[str, Any],
        *,
        start: Sequence[Mapping[str, Any]] = (),
        where: str = "space",
    ) -> None:
        self.base = base if isinstance(base, Recipe) else Recipe(spec=base)
        self._document: dict[str, Any] = to_document(self.base.spec) | {
            "train": to_document(self.base.train)
        }
        if any(str(path).startswith("train.augment.") for path in vary):
            # A name, such as `shift`, has no fields that could vary.
            self._document["train"]["augment"] = spelled_out(self.base.train.augment)
        problems: list[str] = []
        self.vary: dict[str, Vary] = {}
        if not vary:
            problems.append(
                f"{where}: vary: nothing varies; name at least one path, such as stages.*.blocks"
            )
        for path, given in vary.items():
            try:
                self.vary[path] = _parse_vary(given)
            except ValidationError as error:
                problems += error_lines(error, given, where, prefix=f"vary.{path}")
            except ValueError as error:
                problems.append(f"{where}: vary.{path}: {error}")
        for path, range_ in self.vary.items():
            problems += [f"{where}: vary.{path}: {line}" for line in self._misfits(path, range_)]
        self.start = tuple(dict(point) for point in start)
        if not problems:
            problems += [
                f"{where}: start.{number}: {line}"
                for number, point in enumerate(start)
                for line in self._strange(point)
            ]
        if problems:
            raise RequestError("\n".join(problems))

    def fit_to(self, spec: Any) -> "Space":
        """The same space around another base network, such as one fitted to the data."""
        return Space(dataclasses.replace(self.base, spec=spec), self.vary, start=self.start)

    def with_train(self, **changes: Any) -> "Space":
        """The same space with other fixed training settings.

        Raises:
            RequestError: the settings do not go together with the others.
        """
        try:
            train = dataclasses.replace(self.base.train, **changes)
        except ValidationError as error:
            raise RequestError("\n".join(error_lines(error, changes, "train"))) from error
        return Space(dataclasses.replace(self.base, train=train), self.vary, start=self.start)

    def trained_by(self, name: str) -> "Space":
        """The same space with a named recipe's training (see `by_recipe`), for as many epochs."""
        train = self.base.train
        found = dataclasses.replace(by_recipe(name, train), epochs=train.epochs)
        return Space(dataclasses.replace(self.base, train=found), self.vary, start=self.start)

    def with_rates(self, low: float, high: float, rate: float) -> "Space":
        """The same space with other learning rates.

        Args:
            low: start of the range, if the space varies the learning rate.
            high: its end.
            rate: the base's learning rate.
        """
        return self._with_rates(rate, Range(low=low, high=high, log=True))

    def with_rates_of(self, other: "Space") -> "Space":
        """The same space with the learning rates of another one."""
        return self._with_rates(other.base.train.learning_rate, other.vary.get(_RATE))

    def _with_rates(self, rate: float, item: Vary | None) -> "Space":
        train = dataclasses.replace(self.base.train, learning_rate=rate)
        vary, start = dict(self.vary), [dict(point) for point in self.start]
        if _RATE in vary and item is not None:
            vary[_RATE] = item
            for point in start:
                if _RATE in point and isinstance(item, Range):
                    point[_RATE] = min(max(point[_RATE], item.low), item.high)
        return Space(dataclasses.replace(self.base, train=train), vary, start=start)

    def to_document(self) -> dict[str, Any]:
        """The space as plain mappings, in the form of its file."""
        vary = {
            path: list(item)
            if isinstance(item, tuple)
            else {k: v for k, v in dataclasses.asdict(item).items() if v}
            | {"low": _whole(item.low), "high": _whole(item.high)}
            for path, item in self.vary.items()
        }
        return (
            self._document
            | {"vary": vary}
            | ({"start": [dict(point) for point in self.start]} if self.start else {})
        )

    def dump(self) -> str:
        """The space as YAML that `load_space` reads."""
        document = self.to_document()
        text = dump_document(
            {key: document.pop(key) for key in ("vary", "start") if key in document}
        )
        return dump_document(document) + text

    def short_names(self) -> dict[str, str]:
        """Short names by path: the shortest tail that no other path shares (`blocks`, `lr`)."""
        tails = {path: _tail(path) for path in self.vary}
        short = {}
        for path, parts in tails.items():
            for length in range(1, len(parts) + 1):
                tail = parts[-length:]
                if sum(other[-length:] == tail for other in tails.values()) == 1:
                    break
            short[path] = ".".join(tail)
        return short

    def recipe(self, values: Mapping[str, Any]) -> Recipe:
        """The recipe at a point of the space.

        Raises:
            RequestError: the values do not make a valid spec together.
        """
        document = copy.deepcopy(self._document)
        for path in sorted(values, key=lambda path: not path.endswith(".kind")):
            _assign(document, path, values[path])
        return parse_recipe(document, where="sample")

    def augmentations(self) -> list[Augmentation]:
        """Augmentations that have all that any of the space has: the base's, and each end's."""
        found = [self.base.train.augment]
        for path, item in self.vary.items():
            if not path.startswith("train.augment"):
                continue
            if isinstance(item, Range):
                ends: tuple[Any, ...] = (int(item.high) if self.is_whole(path) else item.high,)
            else:
                ends = item
            found += [self.recipe({path: end}).train.augment for end in ends]
        return found

    def condition(self, path: str) -> tuple[str, list[str]] | None:
        """The kind path and kinds to which a path applies; None if it always applies."""
        field, _, key = path.partition(".")
        kinds = self.vary.get(f"{field}.kind")
        if field not in UNIONS or key in ("", "kind") or not isinstance(kinds, tuple):
            return None
        having = [str(kind) for kind in kinds if key in _fields_of_kind(field, str(kind))]
        return (f"{field}.kind", having) if len(having) < len(kinds) else None

    def base_value(self, path: str) -> Any:
        """The base's value at a path; None if it has none."""
        found = _lookup(self._document, path.split("."))
        return found[0] if found else None

    def value(self, path: str, recorded: Any) -> Any:
        """Converts a record's value to the spec's: Keras Tuner has some values as text."""
        item = self.vary[path]
        listed = item if isinstance(item, tuple) else ()
        return next(
            (value for value in listed if _known_label(value) == _known_label(recorded)), recorded
        )

    def point(self, recorded: Mapping[str, Any]) -> dict[str, Any]:
        """The values of a record that apply to its network, as the spec has them."""
        values = {path: self.value(path, recorded[path]) for path in self.vary if path in recorded}
        conditions = {path: self.condition(path) for path in values}
        return {
            path: value
            for path, value in values.items()
            if (c := conditions[path]) is None or str(values.get(c[0])) in c[1]
        }

    def is_whole(self, path: str) -> bool:
        """Whether a range at this path is one of whole numbers."""
        value = self.base_value(path)
        if value is None:
            range_ = self.vary[path]
            return (
                isinstance(range_, Range)
                and range_.low.is_integer()
                and range_.high.is_integer()
                and not range_.log
            )
        return isinstance(value, int)

    def _strange(self, point: Mapping[str, Any]) -> list[str]:
        """Describes what is wrong with a start point."""
        lines = []
        for path, value in point.items():
            item = self.vary.get(path)
            if item is None:
                lines.append(f"{path} does not vary{did_you_mean(str(path), list(self.vary))}")
            elif isinstance(item, tuple):
                if label(value) not in map(label, item):
                    lines.append(f"{path} is one of {', '.join(map(label, item))} (got {value!r})")
            elif (
                isinstance(value, bool)
                or not isinstance(value, int | float)
                or not item.low <= value <= item.high
            ):
                lines.append(
                    f"{path} is a number from {item.low:g} to {item.high:g} (got {value!r})"
                )
        return lines

    def _misfits(self, path: str, range_: Vary) -> list[str]:
        if reason := _FIXED.get(path.partition(".")[0]) or _FIXED.get(path):
            return [reason]
        if not _lookup(self._document, path.split(".")):
            condition = self.condition(path)
            if condition is None or not condition[1]:
                known = sorted(set(_paths(self._document)))
                return [f"no such path in the spec{did_you_mean(path, known)}"]
        elif isinstance(self.base_value(path), dict | list):
            below = [known for known in _paths(self._document) if known.startswith(f"{path}.")]
            return [
                "this is not a single value; vary what is in it"
                f"{': ' + ', '.join(dict.fromkeys(below)) if below else ''}"
            ]
        if isinstance(range_, tuple):
            ends: list[Any] = list(range_)
        else:
            ends = [range_.low, range_.high]
            if self.is_whole(path):
                if not all(float(number).is_integer() for number in (*ends, range_.step or 1)):
                    step = f" in steps of {range_.step:g}" if range_.step else ""
                    return [f"this is a whole number (got {range_.low:g} to {range_.high:g}{step})"]
                ends = [int(end) for end in ends]
        lines = []
        for end in ends:
            values = {path: end}
            if (condition := self.condition(path)) is not None:
                values[condition[0]] = condition[1][0]
            try:
                self.recipe(values)
            except RequestError as error:
                lines += [line.removeprefix("sample: ") for line in str(error).splitlines()]
        return lines


def load_space(path: str | Path) -> Space:
    """Reads a space from a YAML file: a spec, its optional `train:` section, and `vary:`.

    Raises:
        RequestError: one line for every mistake in the file.
    """
    return parse_space(read_document(path), where=str(path))


def parse_space(document: dict[str, Any], where: str) -> Space:
    """Builds a space from the content of its file; see `load_space`.

    Args:
        document: as read from YAML or returned by `Space.to_document`.
        where: start of each line of an error.
    """
    vary, start = document.pop("vary", None), document.pop("start", [])
    problems = []
    if not isinstance(vary, dict):
        found = "is missing" if vary is None else f"is a {type(vary).__name__}"
        problems.append(
            f"{where}: vary: this section {found}; it maps paths to ranges, as in "
            f"`stages.*.blocks: {{low: 1, high: 3}}`"
        )
    if not isinstance(start, list) or not all(isinstance(point, dict) for point in start):
        problems.append(f"{where}: start: a list of points, each of which maps paths to values")
    try:
        recipe = parse_recipe(document, where=where)
    except RequestError as error:
        raise RequestError("\n".join([str(error), *problems])) from error
    if problems:
        raise RequestError("\n".join(problems))
    return Space(recipe, {str(key): value for key, value in vary.items()}, start=start, where=where)


def default_space(facts: Facts, task: Task) -> Space:
    """The default space of `reskeras tune`: depth, block kind, norm order, learning rate.

    Raises:
        RequestError: no network for the task takes such images.
    """
    recipe, depths = task.default_space(facts)
    return Space(recipe, {**depths, **_DEFAULT_VARY})


_DEFAULT_VARY: dict[str, Any] = {
    "block.kind": ["plain", "basic", "bottleneck", "dense"],
    "norm_order": list(get_args(NormOrder)),
    _RATE: Range(low=1e-3, high=3e-2, log=True),
}
"""The ranges in the default spaces of all tasks, besides depth."""


def sample(hp: Any, space: Space) -> Recipe:
    """Draws one recipe. A pure function: an `hp` with preset values replays a trial.

    Args:
        hp: a `keras_tuner.HyperParameters`, or anything with its `Int`, `Float`, `Choice` and
            `conditional_scope`.
        space: the space.

    Raises:
        RequestError: the drawn values do not make a valid spec together.
    """
    values: dict[str, Any] = {}
    for path in sorted(space.vary, key=lambda path: not path.endswith(".kind")):
        condition = space.condition(path)
        scope = nullcontext() if condition is None else hp.conditional_scope(*condition)
        with scope:
            value = _draw(hp, path, space)
        if condition is None or str(values[condition[0]]) in condition[1]:
            values[path] = value
    return space.recipe(values)


def _draw(hp: Any, path: str, space: Space) -> Any:
    item, base = space.vary[path], space.base_value(path)
    if isinstance(item, tuple):
        if {type(value) for value in item} in ({str}, {int}, {float}):
            return hp.Choice(path, list(item), default=base if base in item else None)
        # Keras Tuner's Choice turns booleans into numbers and refuses mixed types. Such values are
        # passed as text.
        by_label = {label(value): value for value in item}
        return by_label[
            hp.Choice(path, list(by_label), default=label(base) if base in item else None)
        ]
    sampling = "log" if item.log else "linear"
    default = base if base is not None and item.low <= base <= item.high else None
    if space.is_whole(path):
        step = None if item.log else int(item.step or 1)
        return hp.Int(
            path, int(item.low), int(item.high), step=step, sampling=sampling, default=default
        )
    return hp.Float(path, item.low, item.high, step=item.step, sampling=sampling, default=default)


def label(value: Any) -> str:
    """The text of a list's value, for Keras Tuner lists of text."""
    return value if isinstance(value, str) else str(yaml.safe_dump(value)).split("\n")[0]


_known_label = functools.lru_cache(maxsize=1024, typed=True)(label)
"""Cached for the same few values; scalars only."""


def _parse_vary(given: Any) -> Vary:
    if isinstance(given, Range):
        return given
    if isinstance(given, dict):
        return TypeAdapter(Range).validate_python(given)
    if isinstance(given, list | tuple):
        if not given:
            raise ValueError("an empty list; name at least one value")
        if strange := [value for value in given if not isinstance(value, str | int | float | bool)]:
            raise ValueError(f"values are words, numbers or booleans (got {strange[0]!r})")
        if len(set(map(label, given))) < len(given):
            raise ValueError("a value is there twice")
        return tuple(given)
    raise ValueError(f"a range is a list of values or {{low: ..., high: ...}} (got {given!r})")


def _tail(path: str) -> list[str]:
    parts = [part for part in path.split(".") if part != "*"]
    if parts[-1] == "kind":
        parts.pop()
    # The one abbreviation that everybody in the field uses. MLflow cuts column names at twelve
    # characters.
    return ["lr" if part == "learning_rate" else part for part in parts]


def _lookup(document: Any, parts: list[str]) -> list[Any]:
    """All values that a path leads to."""
    if not parts:
        return [document]
    head, rest = parts[0], parts[1:]
    if isinstance(document, list):
        entries = (
            document
            if head == "*"
            else [document[int(head)]]
            if head.isdecimal() and head.isascii() and int(head) < len(document)
            else []
        )
        return [value for entry in entries for value in _lookup(entry, rest)]
    if isinstance(document, dict) and head in document:
        return _lookup(document[head], rest)
    return []


def _assign(document: Any, path: str, value: Any) -> None:
    *parents, last = path.split(".")
    for parent in _lookup(document, parents):
        if isinstance(parent, list):
            for index in range(len(parent)) if last == "*" else [int(last)]:
                parent[index] = value
        elif last == "kind" and value != parent["kind"]:
            fields = _fields_of_kind(parents[-1], value)
            for key in set(parent) - fields:
                del parent[key]
            parent["kind"] = value
        else:
            parent[last] = value


def _fields_of_kind(field: str, kind: str) -> set[str]:
    for cls in UNIONS.get(field, ()):
        fields = {f.name: f.default for f in dataclasses.fields(cls)}
        if fields["kind"] == kind:
            return set(fields)
    return set()


def _paths(document: Any, prefix: str = "") -> list[str]:
    if isinstance(document, dict):
        return [
            path
            for key, value in document.items()
            for path in _paths(value, f"{prefix}.{key}" if prefix else key)
        ]
    if isinstance(document, list) and document and isinstance(document[0], dict):
        return [path for value in document for path in _paths(value, f"{prefix}.*")]
    return [prefix]


def _whole(number: float) -> float:
    return int(number) if float(number).is_integer() else number
