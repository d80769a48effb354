"""What a sign of trouble is, and what is found of it."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from reskeras.data.images import ImageData
from reskeras.lab.result import Bound
from reskeras.spec import AnySpec, PlainBlock, Recipe, ResNet, UNet
from reskeras.words import three_digits


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Case:
    """What is examined: a network, how it is trained, and the data.

    Equal if they are the same object, so that signs can share what they measure.
    """

    recipe: Recipe
    data: ImageData
    memory: int | None = None
    """Bytes that training may need; None is no limit."""
    seed: int = 0

    @property
    def spec(self) -> AnySpec:
        """The network, fitted to the data."""
        return self.recipe.spec

    def changed(self, remedy: "Remedy") -> "Case":
        """The same case after a change.

        Raises:
            ValueError: there is no such network.
        """
        recipe = Recipe(
            spec=dataclasses.replace(self.spec, **remedy.spec),
            train=dataclasses.replace(self.recipe.train, **remedy.train),
        )
        return dataclasses.replace(self, recipe=recipe)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Remedy:
    """A change of a spec that may heal a sign."""

    words: str
    spec: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Other values of the network's fields."""
    train: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Other values of the training's fields."""


@dataclasses.dataclass
class Changes:
    """Changes of a network's fields that add up, remedy by remedy."""

    words: tuple[str, ...] = ()
    fields: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def with_(self, words: str, **fields: Any) -> Remedy:
        """All changes so far, and these."""
        return Remedy(words=", ".join([*self.words, words]), spec={**self.fields, **fields})

    def also(self, words: str, **fields: Any) -> Remedy:
        """The same, and later remedies have these changes too."""
        remedy = self.with_(words, **fields)
        self.words, self.fields = (*self.words, words), remedy.spec
        return remedy


def is_plain(spec: AnySpec) -> bool:
    """Whether blocks could have shortcuts, and have none."""
    return isinstance(spec, ResNet | UNet) and isinstance(spec.block, PlainBlock)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Finding:
    """One number of a network, and how large or small it should be."""

    sign: str
    number: float
    says: str
    """What the number is, in words that hold it."""
    bound: Bound
    limit: float
    source: str
    """Where the limit is from."""
    advice: str
    """What to change if the number is beyond the limit."""
    shown_limit: str = ""
    """The limit in words, if three digits do not do."""

    @property
    def healthy(self) -> bool:
        """Whether the number is within the limit."""
        if self.bound is Bound.AT_LEAST:
            return self.number >= self.limit
        return self.number <= self.limit

    @property
    def told_limit(self) -> str:
        """The limit in words: `at least 16`."""
        word = "at least" if self.bound is Bound.AT_LEAST else "at most"
        return f"{word} {self.shown_limit or three_digits(float(self.limit))}"

    def document(self) -> dict[str, Any]:
        """This finding as JSON."""
        fields = dataclasses.asdict(self)
        return fields | {"bound": self.bound.value, "healthy": self.healthy}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sign:
    """Something that foretells that a training fails."""

    name: str
    looks: str
    """What it looks at, in a line."""
    examine: Callable[[Case], Finding | None]
    """None if it says nothing about such a case."""
    remedies: Callable[[Case], Iterator[Remedy]]
    """Changes that may heal it, the first choice first; some may make no network at all."""
