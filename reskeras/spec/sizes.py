"""Image sizes that can be halved as often as a network halves them."""

from reskeras.errors import RequestError

_LARGEST_IMAGE = 1 << 14


def check_sizes(input_shape: tuple[int, ...], trims: tuple[int, ...]) -> None:
    """Refuses an image that cannot be halved between the levels after the given trims.

    Raises:
        RequestError: names the side, its size and the nearest sizes that work.
    """
    for axis, size in enumerate(input_shape[:-1]):
        if output_size(size, trims) is None:
            down = next((s for s in range(size - 1, 0, -1) if output_size(s, trims)), None)
            up = fitting_size(size, trims)
            nearest = (
                " and ".join(str(s) for s in (down, up) if s) or f"none up to {_LARGEST_IMAGE}"
            )
            raise RequestError(
                f"input_shape.{axis}: {size} cannot be halved {len(trims) - 1} times"
                f"{' with valid padding' if any(trims) else ''}; the nearest sizes that work: "
                f"{nearest}"
            )


def fitting_size(size: int, trims: tuple[int, ...]) -> int | None:
    """The smallest size from this one up that can be halved between the levels, or None."""
    # Sizes that work recur every 2^halvings. Beyond the largest image there are none, because
    # blocks trim everything away.
    return next(
        (
            s
            for s in range(size, max(_LARGEST_IMAGE, size + 2 ** len(trims)))
            if output_size(s, trims)
        ),
        None,
    )


def output_size(size: int, trims: tuple[int, ...]) -> int | None:
    """Side in pixels of a U-Net's maps for an input side; None if a level's is odd or used up.

    `trims` are the pixels that each level's blocks trim, from the full resolution down to the
    bridge.
    """
    for lost in trims[:-1]:
        size -= lost
        if size <= 0 or size % 2:
            return None
        size //= 2
    size -= trims[-1]
    if size <= 0:
        return None
    for lost in reversed(trims[:-1]):
        size = 2 * size - lost
    return size if size > 0 else None
