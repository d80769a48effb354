"""The way from a network's input back to the file, against Pillow's resizing."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from reskeras.data.decode import central_box, in_sides, inner_box
from reskeras.data.frames import Frame
from reskeras.spec import Resize
from reskeras.tasks import IGNORED, Labels

RESIZED: list[Resize] = ["stretch", "crop", "pad"]
sides = st.tuples(st.integers(6, 40), st.integers(6, 40))


@given(size=sides, given=sides, resize=st.sampled_from(RESIZED))
def test_points_go_back_to_where_the_resized_pixel_comes_from(
    size: tuple[int, int], given: tuple[int, int], resize: Resize
) -> None:
    height, width = size
    frame = Frame(size, given, resize)
    row, column = np.mgrid[: given[0], : given[1]]
    points = np.stack([column, row], axis=-1).reshape(-1, 2)
    found = frame.placed(points, Labels.POINTS).reshape(*given, 2)
    for axis, plane in enumerate(np.mgrid[:height, :width][::-1]):
        # A ramp that tells the place of each pixel, also after it was interpolated.
        ramp = Image.fromarray((plane + 100).astype("float32"))
        moved = np.asarray(in_sides(ramp, given, resize, Image.Resampling.BILINEAR))
        box, inner = (0, 0, width, height), (0, 0, given[1], given[0])
        if resize == "crop":
            box = central_box((width, height), given)
        if resize == "pad":
            inner = inner_box((width, height), given)
        first, last = box[axis], box[axis + 2]
        # Beside a rim, the filter sees one side of the ramp; elsewhere, it is right to 0.1 pixel.
        wide = (last - first) / (inner[axis + 2] - inner[axis]) + 1
        inside = (moved >= 100 + first + wide) & (moved <= 99 + last - wide)
        np.testing.assert_allclose(found[inside][:, axis], moved[inside] - 100, atol=0.1)


@given(size=sides, given=sides, resize=st.sampled_from(RESIZED), seed=st.integers(0, 99))
def test_masks_go_back_to_the_nearest_pixels_of_their_part(
    size: tuple[int, int], given: tuple[int, int], resize: Resize, seed: int
) -> None:
    mask = np.random.default_rng(seed).integers(0, 5, given)
    frame = Frame(size, given, resize)
    cut = frame.cut(mask[..., np.newaxis])[..., 0]
    found = frame.placed(cut, Labels.MASK)
    assert found.shape == size
    height, width = size
    left, top, right, bottom = (0, 0, width, height)
    if resize == "crop":
        left, top, right, bottom = central_box((width, height), given)
    if resize != "pad":
        assert cut.shape == given
    resized = Image.fromarray(cut.astype("uint8")).resize(
        (right - left, bottom - top), Image.Resampling.NEAREST
    )
    np.testing.assert_array_equal(found[top:bottom, left:right], np.asarray(resized))
    outside = np.ones(size, bool)
    outside[top:bottom, left:right] = False
    assert (found[outside] == IGNORED).all()


def test_borders_are_cut_off_and_an_enlarged_answer_is_as_much_larger() -> None:
    image = np.arange(8 * 4, dtype="float32").reshape(8, 4, 1) / 32
    frame = Frame((8, 4), (8, 8), "pad")
    padded = np.zeros((8, 8, 1), "float32")
    padded[:, 2:6] = image
    np.testing.assert_array_equal(frame.placed(frame.cut(padded), Labels.IMAGE), image)
    double = Frame((8, 4), (8, 8), "pad", enlarge=2)
    large = padded.repeat(2, 0).repeat(2, 1)
    np.testing.assert_array_equal(
        double.placed(double.cut(large), Labels.IMAGE), image.repeat(2, 0).repeat(2, 1)
    )
    assert double.placed(image, Labels.NUMBERS) is image
    assert (Frame((90, 40), (9, 8)).shrinks, frame.shrinks) == (10, 1)
    with pytest.raises(ValueError, match="for an image of"):
        Frame((4, 4, 4), (4, 4, 4)).placed(np.zeros((2, 2, 2, 1)), Labels.IMAGE)
