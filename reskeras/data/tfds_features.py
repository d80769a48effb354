"""Which features of a TFDS data set are the image and its label."""

import dataclasses
import enum
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from reskeras.errors import RequestError, did_you_mean
from reskeras.tasks import Labels, task_called

_SIGNAL_CHANNELS = 3
"""A feature [L,C] with more is no signal."""
_LISTED = 8
"""Features that a message names."""


class Label(enum.Enum):
    """What a label is."""

    CLASS = "a class label"
    """Its feature says how many classes there are."""
    NUMBER = "a whole number"
    """Of a class."""
    MASK = "a mask"
    CLASSES = "several class labels"
    """The numbers of those that are there, or for each 0 or 1."""
    NUMBERS = "numbers"
    POINTS = "points"
    IMAGE = "an image"

    @property
    def kind(self) -> Labels:
        """The kind of label that it becomes."""
        return Labels.CLASS if self is Label.NUMBER else Labels(self.name.lower())


@dataclasses.dataclass(frozen=True)
class Field:
    """A feature of a data set: the keys that lead to it."""

    keys: tuple[str, ...]
    feature: Any

    @property
    def path(self) -> str:
        """What people call it."""
        return "/".join(self.keys)

    def of(self, record: Any) -> Any:
        """Its value in a record."""
        for key in self.keys:
            record = record[key]
        return record

    def spec(self, value: Any) -> Any:
        """A value in the nested form of the features."""
        for key in reversed(self.keys):
            value = {key: value}
        return value

    @property
    def is_encoded(self) -> bool:
        """Whether records hold the bytes of an image file."""
        import tensorflow_datasets as tfds

        return isinstance(self.feature, tfds.features.Image)


@dataclasses.dataclass(frozen=True)
class Chosen:
    """The two features that are used."""

    image: Field
    label: Field
    kind: Label


def named_in(text: str, option: str, known: Iterable[str], example: str) -> dict[str, str]:
    """The parts of `known=value,...`, as `--splits` and `--features` are written.

    Raises:
        RequestError: it is not written so.
    """
    found: dict[str, str] = {}
    for part in text.split(","):
        ours, is_there, theirs = (word.strip() for word in part.partition("="))
        if not is_there or not theirs or ours not in known:
            raise RequestError(
                f"{option} {text}: {part.strip()!r} does not say which is {', '.join(known)}; "
                f"write {option} {example}"
            )
        if ours in found:
            raise RequestError(f"{option} {text}: {ours} is there twice")
        found[ours] = theirs
    return found


def choose(info: Any, name: str, text: str | None, task: str | None = None) -> Chosen:
    """The features that are the image and its label.

    The ones of `text`; for those it does not name, the data set's `supervised_keys`, and otherwise
    the only ones that can be.

    Args:
        info: of the data set.
        name: of the data set.
        text: the value of `--features`.
        task: the name of the task that the label is for; None: it says so itself.

    Raises:
        RequestError: there are none, or several, or the label is for other tasks.
    """
    fields = _fields(info.features) if hasattr(info.features, "keys") else {}
    told = _told(info.features) if fields else "none"
    where = f"data set {name!r}"
    named: dict[str, Field] = {}
    if text is not None:
        example = "image=image,label=label"
        for ours, path in named_in(text, "--features", ("image", "label"), example).items():
            if path not in fields:
                near = did_you_mean(path, fields) or f"; it has {told}"
                raise RequestError(f"--features {text}: {where} has no feature {path!r}{near}")
            named[ours] = fields[path]
    keys = info.supervised_keys
    if not keys or len(keys) != 2 or not all(isinstance(k, str) and k in fields for k in keys):
        keys = (None, None)
    image = named.get("image") or _image(fields, named.get("label"), keys[0], where, told)
    if not _is_image(image.feature):
        raise RequestError(
            f"--features {text}: {image.path} of {where} is {_kind_of(image.feature)}, and no "
            "image: an Image, or a Tensor of numbers [H,W,C]"
        )
    label = named.get("label")
    wanted = None if task is None else task_called(task).labels
    kind = None if label is None else _named_kind(label.feature, image.feature, wanted)
    if label is None:
        label, kind = _label(fields, image, keys[1], where, told, wanted)
    elif kind is None:
        raise RequestError(
            f"--features {text}: {label.path} of {where} is {_kind_of(label.feature)}, and no "
            f"label: a ClassLabel, a number, numbers [K], points [K,2], or a mask of one channel"
            f"{_others(fields, image)}"
        )
    assert kind is not None, "`_label` returns the kind, too"
    if label.path == image.path:
        raise RequestError(f"{where}: {image.path} cannot be the image and its label")
    if wanted not in (None, kind.kind):
        raise RequestError(
            f"{where}: {label.path} is {kind.value}, which task {task!r} does not take; it takes "
            f"{task_called(str(task)).noun}"
        )
    return Chosen(image, label, kind)


def _fields(features: Mapping[str, Any], above: tuple[str, ...] = ()) -> dict[str, Field]:
    """All features by their paths; those in a Sequence are no fields of their own."""
    import tensorflow_datasets as tfds

    found: dict[str, Field] = {}
    for key, feature in sorted(features.items()):  # TFDS reads them from a file in any order
        if isinstance(feature, tfds.features.FeaturesDict):
            found |= _fields(feature, (*above, key))
        else:
            field = Field((*above, key), feature)
            found[field.path] = field
    return found


def _image(
    fields: Mapping[str, Field], label: Field | None, supervised: str | None, where: str, told: str
) -> Field:
    if supervised is not None and _is_image(fields[supervised].feature):
        return fields[supervised]
    others = [field for field in fields.values() if field is not label]
    found = [field for field in others if field.is_encoded]
    if len(found) > 1:
        found = [field for field in found if _label_kind(field.feature) is None] or found
    found = found or [field for field in others if _is_image(field.feature)]
    if len(found) == 1:
        return found[0]
    if not found:
        raise RequestError(f"{where} holds no images (its features: {told})")
    raise RequestError(
        f"{where} holds several images for each example ({_few(f.path for f in found)}); choose "
        f"one, such as --features image={found[0].path}"
    )


def _label(
    fields: Mapping[str, Field],
    image: Field,
    supervised: str | None,
    where: str,
    told: str,
    wanted: Labels | None,
) -> tuple[Field, Label]:
    if supervised is not None and supervised != image.path:
        kind = _named_kind(fields[supervised].feature, image.feature, wanted)
        if kind is not None:
            return fields[supervised], kind
    for kind, found in _labels(fields, image).items():
        if len(found) == 1:
            return found[0], kind
        if found:
            raise RequestError(
                f"{where} holds several labels for each image ({_few(f.path for f in found)}); "
                f"choose one, such as --features label={found[0].path}"
            )
    raise RequestError(
        f"{where} does not hold one label for each image: a ClassLabel, a whole number, or a mask "
        f"of one channel (its features: {told})"
    )


def _labels(fields: Mapping[str, Field], image: Field) -> dict[Label, list[Field]]:
    """The features that can be labels; booleans before other numbers, which may be coordinates."""
    found: dict[Label, list[Field]] = {Label.CLASS: [], Label.MASK: [], Label.NUMBER: []}
    for field in fields.values():
        kind = None if field is image else _label_kind(field.feature)
        # A number may be that of the image.
        if kind is not None and not (
            kind is Label.NUMBER and field.keys[-1].lower().endswith("id")
        ):
            found[kind].append(field)
    found[Label.NUMBER].sort(key=lambda field: field.feature.np_dtype != np.bool_)
    return found


def _others(fields: Mapping[str, Field], image: Field) -> str:
    """The end of a message: labels that the data set has."""
    found = [field.path for some in _labels(fields, image).values() for field in some]
    return f"; it has {_few(found)}" if found else ""


def _is_image(feature: Any) -> bool:
    import tensorflow_datasets as tfds

    if isinstance(feature, tfds.features.Image):
        return True
    if type(feature) is not tfds.features.Tensor or np.dtype(feature.np_dtype).kind not in "uif":
        return False
    match feature.shape:
        case (_, _, int()):
            return True
        case (_, int()):  # a signal; the pairs of a list are points
            return feature.shape[0] is not None and feature.shape[1] <= _SIGNAL_CHANNELS
        case (*sides, _):  # a volume
            return len(sides) == 3 and None not in feature.shape
        case _:
            return False


def _named_kind(feature: Any, image: Any, wanted: Labels | None) -> Label | None:
    """What a feature is that is said to be the label, by a person or the data set; None: nothing.

    Args:
        feature: any.
        image: the feature of its image.
        wanted: what the task takes, if there is a choice.
    """
    import tensorflow_datasets as tfds

    if isinstance(feature, tfds.features.Image):
        times = times_as_large(feature, image)
        if wanted is Labels.IMAGE or (wanted is None and times is not None and times > 1):
            return Label.IMAGE
        return _label_kind(feature, is_named=True)
    if isinstance(feature, tfds.features.Sequence):
        inner = feature.feature
        named = isinstance(inner, tfds.features.ClassLabel) and inner.num_classes is not None
        return Label.CLASSES if named else None
    shape, kind = tuple(feature.shape or ()), _label_kind(feature)
    if type(feature) not in (tfds.features.Tensor, tfds.features.Scalar):
        return kind
    letter = np.dtype(feature.np_dtype).kind
    if letter not in "uifb" or None in shape:
        return kind
    match shape:
        case ():
            is_number = letter == "f" or wanted is Labels.NUMBERS
            return Label.NUMBERS if is_number else kind
        case (_,):
            several = wanted is Labels.CLASSES or (wanted is None and letter in "b")
            return Label.CLASSES if several else Label.NUMBERS
        case (_, 2):
            return Label.POINTS
        case _:
            return kind


def times_as_large(label: Any, image: Any) -> int | None:
    """How many times as large the sides of a label are as those of its image, by their features.

    None if the features do not say, or it is no whole number.
    """
    sides = [tuple(feature.shape[:2]) for feature in (label, image)]
    if any(None in pair for pair in sides):
        return None
    ratios = {(large / small) for large, small in zip(*sides, strict=True)}
    (ratio,) = ratios if len(ratios) == 1 else (0.5,)
    return int(ratio) if float(ratio).is_integer() else None


def _label_kind(feature: Any, *, is_named: bool = False) -> Label | None:
    """What a feature is as a label; None: nothing.

    Args:
        feature: any.
        is_named: whether it is said to be the label: then an image with three channels is a mask,
            too, if they are equal.
    """
    import tensorflow_datasets as tfds

    if isinstance(feature, tfds.features.ClassLabel):
        return Label.NUMBER if feature.num_classes is None else Label.CLASS
    if isinstance(feature, tfds.features.Image):
        channels = (1, 3) if is_named else (1,)
        is_mask = feature.shape[2] in channels and feature.np_dtype == np.uint8
        return Label.MASK if is_mask else None
    if type(feature) in (tfds.features.Tensor, tfds.features.Scalar) and feature.shape == ():
        return Label.NUMBER if np.dtype(feature.np_dtype).kind in "uib" else None
    return None


def _told(features: Any) -> str:
    """The features of a data set in a message."""
    return _few(f"{key}: {_kind_of(feature)}" for key, feature in sorted(features.items()))


def _kind_of(feature: Any) -> str:
    import tensorflow_datasets as tfds

    if isinstance(feature, tfds.features.FeaturesDict):
        return f"{len(feature)} features"
    if isinstance(feature, tfds.features.Sequence):
        inner = feature.feature
        if isinstance(inner, tfds.features.FeaturesDict):
            return f"Sequence({', '.join(inner.keys())})"
        return f"Sequence({_kind_of(inner)})"
    kind = type(feature).__name__
    if kind in ("Tensor", "Scalar"):
        sides = ",".join("?" if side is None else str(side) for side in feature.shape)
        kind = np.dtype(feature.np_dtype).name if feature.np_dtype != np.object_ else "text"
        return f"{kind} [{sides}]" if sides else kind
    return kind


def _few(names: Iterable[str]) -> str:
    listed = list(names)
    if len(listed) <= _LISTED:
        return ", ".join(listed)
    return ", ".join([*listed[:_LISTED], f"and {len(listed) - _LISTED:,} more"])
