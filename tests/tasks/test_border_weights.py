"""The U-Net paper's weights of pixels: numbers worked out by hand, and the formula term by term."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reskeras.tasks import IGNORED
from reskeras.tasks.border_weights import border_weights


def test_a_gap_between_two_cells_by_hand() -> None:
    """d1 + d2 is 4 at each of the three pixels between the cells: 10 exp(-16 / 50) = 7.2615."""
    mask = np.array([[1, 1, 0, 0, 0, 1]])
    expected = [[1, 1, 8.2615, 8.2615, 8.2615, 1]]
    np.testing.assert_allclose(border_weights(mask), expected, atol=1e-4)


def test_distances_are_euclidean_and_of_two_cells() -> None:
    """From (4, 3), cells at (0, 0) and (0, 6) are 5 away: 10 exp(-100 / 50) = 1.3534. A third one,
    further away, changes nothing."""
    mask = np.zeros((12, 7), int)
    mask[0, 0], mask[0, 6] = 1, 2
    assert border_weights(mask)[4, 3] == pytest.approx(2.3534, abs=1e-4)
    mask[11, 3] = 1
    assert border_weights(mask)[4, 3] == pytest.approx(2.3534, abs=1e-4)
    # Of pixels twice as high, they are 8 and 3 away, the square root of 73.
    tall = border_weights(mask, spacing=(2, 1))[4, 3]
    assert tall == pytest.approx(1 + 10 * np.exp(-4 * 73 / 50), abs=1e-4)


def test_one_cell_has_no_border_and_classes_have_weights() -> None:
    mask = np.array([[0, 1, 1], [0, 0, IGNORED]])
    assert border_weights(mask).tolist() == [[1, 1, 1], [1, 1, 0]]
    assert border_weights(np.full((2, 2), IGNORED)).tolist() == [[0, 0], [0, 0]]
    assert border_weights(mask, [0.5, 3]).tolist() == [[0.5, 3, 3], [0.5, 0.5, 0]]
    with pytest.raises(ValueError, match="1 class weights for class 1"):
        border_weights(mask, [2.0])
    with pytest.raises(ValueError, match="sigma must be above 0"):
        border_weights(mask, sigma=0)


@given(
    centers=st.lists(
        st.tuples(st.integers(0, 19), st.integers(0, 29), st.integers(1, 2)), max_size=5
    ),
    sigma=st.floats(0.3, 6),
)
def test_weights_follow_the_formula(centers: list[tuple[int, int, int]], sigma: float) -> None:
    """Distances of all pixels to all pixels of each cell, found by filling from its first pixel."""
    mask = np.zeros((20, 30), int)
    for top, left, value in centers:
        mask[top : top + 3, left : left + 2] = value
    cells: list[set[tuple[int, int]]] = []
    for seed in zip(*np.nonzero(mask), strict=True):
        if not any(seed in cell for cell in cells):
            cell, todo = set(), [tuple(map(int, seed))]
            while todo:
                y, x = todo.pop()
                inside = 0 <= y < 20 and 0 <= x < 30
                if inside and (y, x) not in cell and mask[y, x] == mask[seed]:
                    cell.add((y, x))
                    todo += [(y + 1, x), (y - 1, x), (y, x + 1), (y, x - 1)]
            cells.append(cell)
    expected = np.ones(mask.shape)
    if len(cells) > 1:
        for y, x in zip(*np.nonzero(mask == 0), strict=True):
            near = sorted(min(np.hypot(y - v, x - u) for v, u in cell) for cell in cells)
            expected[y, x] += 10 * np.exp(-((near[0] + near[1]) ** 2) / (2 * sigma**2))
    np.testing.assert_allclose(border_weights(mask, sigma=sigma), expected, atol=1e-5)
