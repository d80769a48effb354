"""What every source of images gives: three splits of (image, label) pairs and the facts about them."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from reskeras.spec import ImageShape
from reskeras.tasks import Task

CACHE_BYTES = 1 << 30
"""Splits up to this size in float32 are kept in memory."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImageData:
    """Images with labels or masks, in splits `train`, `val` and, where there is one, `test`."""

    name: str
    """What reports call them."""
    task: Task
    image_shape: ImageShape
    classes: int
    sizes: Mapping[str, int]
    """Number of images of each split."""
    digest: str
    """Changes when the data do: a search is not resumed on other data."""
    open_split: Callable[[str], Any]
    """From a split's name to an unbatched `tf.data.Dataset` of image [H,W,C] (float32, bytes scaled to 0..1) and label
    (int) or mask [H,W] (int), in a fixed order. It can be pickled: other processes open the splits too."""
    source: str = ""
    """What `--data` takes to open them again, from any folder; empty for arrays in memory."""
    class_names: tuple[str, ...] = ()
    """Where the source names its classes."""
    _tensors: dict[str, Any] = dataclasses.field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def split(self, name: str) -> Any:
        """A split as an unbatched `tf.data.Dataset`, cached in memory where it is small enough."""
        dataset = self.open_split(name)
        return dataset.cache() if self.in_memory else dataset

    @property
    def in_memory(self) -> bool:
        """Whether each split is small enough to be kept in memory."""
        height, width, channels = self.image_shape
        return max(self.sizes.values()) * height * width * channels * 4 <= CACHE_BYTES

    def tensors(self, name: str) -> tuple[Any, Any]:
        """A split of data `in_memory`, decoded once: images [N,H,W,C], and labels [N] or masks [N,H,W]."""
        if name not in self._tensors:
            self._tensors[name] = next(iter(self.open_split(name).batch(self.sizes[name])))
        images, labels = self._tensors[name]
        return images, labels

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_tensors": {}}  # another process decodes for itself

    def describe(self) -> str:
        """One line for a person: `digits: 1,077 train, 360 val, 360 test images of 8x8x1 in 10 classes`."""
        sizes = ", ".join(f"{size:,} {split}" for split, size in self.sizes.items())
        return f"{self.name}: {sizes} images of {'x'.join(map(str, self.image_shape))} in {self.classes} classes"
