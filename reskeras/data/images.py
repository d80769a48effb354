"""The value that every source returns: splits of (image, label) pairs, and facts about them."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from reskeras.spec import ImageShape
from reskeras.tasks import Task

CACHE_BYTES = 1 << 30
"""Splits up to this size in float32 stay in memory."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImageData:
    """Images with labels or masks, in splits `train`, `val` and, if there is one, `test`."""

    name: str
    """Their name in reports."""
    task: Task
    image_shape: ImageShape
    classes: int
    sizes: Mapping[str, int]
    """Number of images of each split."""
    digest: str
    """Changes when the data do: a search cannot resume on other data."""
    open_split: Callable[[str], Any]
    """Maps a split's name to an unbatched `tf.data.Dataset` of image [H,W,C] (float32, bytes scaled
    to 0..1) and label (int) or mask [H,W] (int), in a fixed order. Can be pickled, so other
    processes can open the splits too."""
    source: str = ""
    """The value of `--data` that opens them again, from any folder; empty for arrays in memory."""
    class_names: tuple[str, ...] = ()
    """Empty unless the source names its classes."""
    _tensors: dict[str, Any] = dataclasses.field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def split(self, name: str) -> Any:
        """A split as an unbatched `tf.data.Dataset`, cached in memory if it is small enough."""
        dataset = self.open_split(name)
        return dataset.cache() if self.in_memory else dataset

    @property
    def in_memory(self) -> bool:
        """Whether every split is small enough to stay in memory."""
        height, width, channels = self.image_shape
        return max(self.sizes.values()) * height * width * channels * 4 <= CACHE_BYTES

    def tensors(self, name: str) -> tuple[Any, Any]:
        """A split of data `in_memory`, decoded once: images [N,H,W,C], and labels or masks."""
        if name not in self._tensors:
            self._tensors[name] = next(iter(self.open_split(name).batch(self.sizes[name])))
        images, labels = self._tensors[name]
        return images, labels

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_tensors": {}}  # another process decodes its own

    def describe(self) -> str:
        """One line for people: `digits: 1,077 train, 360 val images of 8x8x1 in 10 classes`."""
        sizes = ", ".join(f"{size:,} {split}" for split, size in self.sizes.items())
        return (
            f"{self.name}: {sizes} images of {'x'.join(map(str, self.image_shape))} in "
            f"{self.classes} classes"
        )
