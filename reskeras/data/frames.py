"""How an image got the sides of a network's input, and the way back for the network's answers."""

import dataclasses
from typing import Any

import numpy as np
from PIL import Image

from reskeras.data.decode import central_box, inner_box
from reskeras.spec import Resize
from reskeras.tasks import IGNORED, Labels


@dataclasses.dataclass(frozen=True)
class Frame:
    """An image in its file and in a network's input, each with the part that the other shows."""

    size: tuple[int, ...]
    """The image's sides as a viewer shows it."""
    sides: tuple[int, ...]
    """The sides that it was given; `size` if it was not resized."""
    resize: Resize = "stretch"
    enlarge: int = 1
    """How many times larger the answer's sides are to be than `size`."""

    @property
    def shrinks(self) -> float:
        """How many times smaller a side became, at most."""
        seen, inner = self._seen, self._inner
        return max(
            (stop - start) / (end - begin)
            for (start, stop), (begin, end) in zip(seen, inner, strict=True)
        )

    def cut(self, answer: Any) -> Any:
        """The part [*,K] of an answer with sides that is about the image, not about borders."""
        parts = []
        for (start, stop), side, known in zip(self._inner, self.sides, answer.shape, strict=False):
            # An answer may be coarser than the input, or finer.
            first = start * known // side
            parts.append(slice(first, max(first + 1, -(-stop * known // side))))
        return answer[tuple(parts)]

    def placed(self, answer: Any, labels: Labels) -> Any:
        """An answer for the network's input as one for the image in its file.

        Args:
            answer: a mask [*sides], an image [*sides,K], both after `cut`; points [K,2 or more], x
                and y first; other answers stay as they are.
            labels: the kind of it.

        Returns:
            A mask or an image with the sides `size` times `enlarge`; what was cropped away is
            `IGNORED` or black. Points in pixels of the file, where the center of the first is 0.
        """
        match labels:
            case Labels.POINTS:
                return self._points(answer)
            case Labels.MASK:
                return self._on_canvas(self._nearest(answer), IGNORED)
            case Labels.IMAGE:
                return self._on_canvas(self._smooth(answer), 0)
            case _:
                return answer

    @property
    def _whole(self) -> bool:
        return len(self.size) != 2 or self.size == self.sides

    @property
    def _seen(self) -> tuple[tuple[int, int], ...]:
        """Where the part that the network sees begins and ends in the file, for each side."""
        if self._whole or self.resize != "crop":
            return tuple((0, side) for side in self.size)
        height, width = self.size
        left, top, right, bottom = central_box((width, height), self.sides)
        return (top, bottom), (left, right)

    @property
    def _inner(self) -> tuple[tuple[int, int], ...]:
        """Where this part begins and ends in the network's input, for each side."""
        if self._whole or self.resize != "pad":
            return tuple((0, side) for side in self.sides)
        height, width = self.size
        left, top, right, bottom = inner_box((width, height), self.sides)
        return (top, bottom), (left, right)

    @property
    def _wanted(self) -> tuple[int, ...]:
        """The sides of an answer for the part that the network sees."""
        return tuple((stop - start) * self.enlarge for start, stop in self._seen)

    def _points(self, points: Any) -> Any:
        found = np.array(points, np.float32)
        for column, axis in ((0, 1), (1, 0)):  # x runs along the second side
            (start, stop), (begin, end) = self._seen[axis], self._inner[axis]
            scale = (stop - start) / (end - begin)
            found[..., column] = (found[..., column] + 0.5 - begin) * scale + start - 0.5
        return found

    def _nearest(self, mask: Any) -> Any:
        """A mask with the wanted sides; each pixel is the nearest one."""
        mask = mask.astype(np.int32)
        if len(mask.shape) == 2:
            return self._resized(mask, Image.Resampling.NEAREST)
        # Signals and volumes are not resized, but their masks may be coarser.
        pairs = zip(self._wanted, mask.shape, strict=True)
        places = [(2 * np.arange(side) + 1) * known // (2 * side) for side, known in pairs]
        return mask[np.ix_(*places)]

    def _smooth(self, image: Any) -> Any:
        planes = np.moveaxis(np.asarray(image, np.float32), -1, 0)
        resized = [self._resized(plane, Image.Resampling.BICUBIC) for plane in planes]
        return np.stack(resized, axis=-1).clip(0, 1)

    def _resized(self, plane: Any, resampling: Image.Resampling) -> Any:
        if plane.shape == self._wanted:
            return plane
        if len(self._wanted) != 2:
            raise ValueError(f"an answer of {plane.shape} for an image of {self._wanted}")
        height, width = self._wanted
        image = Image.fromarray(np.ascontiguousarray(plane))
        return np.asarray(image.resize((width, height), resampling))

    def _on_canvas(self, part: Any, fill: int) -> Any:
        sides = tuple(side * self.enlarge for side in self.size)
        if self._wanted == sides:
            return part
        canvas = np.full((*sides, *part.shape[len(sides) :]), fill, part.dtype)
        canvas[
            tuple(slice(start * self.enlarge, stop * self.enlarge) for start, stop in self._seen)
        ] = part
        return canvas
