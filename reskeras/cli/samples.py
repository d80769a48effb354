"""Real images for a trained network: those it was trained on, or other data, or random ones."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from reskeras.cli.models import Found
from reskeras.data.options import NO_OPTIONS, DataOptions
from reskeras.errors import RequestError, in_a_line

CHECKED = 32
"""Images that a file is checked with."""
CALIBRATED = 128
"""Images that show the range of values inside a network."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Samples:
    """A few images as the network sees them: bytes, or float32, which are scaled already."""

    images: Any
    """For checks: [N,*shape]."""
    training: Any
    """For calibration, from the training split: [N,*shape]; None without data."""
    origin: str
    """What they are, in words."""
    missing: str = ""
    """Why they are not real; empty if they are."""


def samples(found: Found, data: str | None, shape: Sequence[int | None]) -> Samples:
    """Takes images from the validation split of the data, or makes random ones.

    Args:
        found: the network; its own data are the default.
        data: the value of `--data`.
        shape: of one image as the network sees it, channels last; free sides are None.

    Raises:
        RequestError: `data` cannot be opened, or have images of another kind.
    """
    source, asked = str(found.data.get("source") or ""), found.data.get("options", {})
    if data is not None and data != source:
        # Other labels of the same task, it may be; how they are written is not known.
        how = NO_OPTIONS.over({key: asked[key] for key in asked if key == "task"})
        return _real(data, found, how, shape)
    if not source:
        missing = (
            "it was trained on arrays in memory" if found.data else "its data are not recorded"
        )
    else:
        try:
            how = NO_OPTIONS.over(asked)
            _check_at_hand(source, how)
            return _real(source, found, how, shape)
        except (RequestError, OSError) as error:
            if data is not None:
                raise
            missing = in_a_line(error)
    random = np.random.default_rng(0)
    # Free sides: whatever an hourglass or a U-Net can halve a few times.
    sides = [64 if side is None else side for side in shape]
    images = random.integers(0, 256, (CHECKED, *sides), np.uint8)
    return Samples(images=images, training=None, origin="random images", missing=missing)


def _check_at_hand(source: str, how: DataOptions) -> None:
    """Raises RequestError for a TFDS data set that would have to be downloaded first."""
    if source.startswith("/"):  # paths are recorded as absolute ones
        return
    from reskeras.data.embedded import embedded
    from reskeras.data.tfds_prepare import builder_of

    if embedded(source, how.data_dir) is None and not (
        builder_of(source, how.data_dir).is_prepared()
    ):
        raise RequestError(f"the data set {source!r} is not on this machine")


def _real(data: str, found: Found, how: DataOptions, shape: Sequence[int | None]) -> Samples:
    from reskeras.data import load
    from reskeras.data.images import sample
    from reskeras.data.pixels import resized

    how = dataclasses.replace(how, resize=found.data.get("resize", "stretch"))
    known = tuple(side for side in shape if side is not None)
    wanted: Any = known if len(shape) == len(known) == 3 else None
    images = load(data, wanted, how)

    def fitting(pixels: Any) -> Any:
        given = pixels.shape[1:]
        if len(given) == len(shape) and given[-1] == shape[-1]:
            if len(shape) == 3 and None not in shape:
                return resized(pixels, (known[0], known[1]), images.resize)
            if all(size in (side, side or size) for size, side in zip(given, shape, strict=True)):
                return pixels
        told = "x".join("?" if side is None else str(side) for side in shape)
        raise RequestError(
            f"--data {data}: images of {'x'.join(map(str, given))}; {found.called} takes {told}"
        )

    places = sample(images.sizes["val"], CHECKED, None)
    dataset = images.reader.chosen("val", places).map(lambda image, _: image)
    checked = fitting(next(iter(dataset.batch(CHECKED))).numpy())
    return Samples(
        images=checked,
        training=fitting(images.sampled(CALIBRATED)),
        origin=f"{len(checked)} images of {images.name} (val)",
    )
