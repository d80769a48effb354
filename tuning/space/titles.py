"""Points of a space in words."""

import re
from typing import Any

from reskeras.words import three_digits
from tuning.space.space import Space

_STAGE_BLOCKS = re.compile(r"stages\.(\*|\d+)\.blocks")


def title(values: Any, space: Space) -> str:
    """A point of the space in one line: `dense · full_preact · 3-3-3 · lr 0.0123`.

    Words and the numbers of blocks have no name in front.
    """
    words, numbers = [], []
    depths = _blocks_of_stages(values, space)
    if depths:
        numbers.append("-".join(map(str, depths)))
    for path, short in space.short_names().items():
        value = values.get(path)
        if isinstance(value, str):
            words.append(value)
        elif value is not None and not (depths and _STAGE_BLOCKS.fullmatch(path)):
            numbers.append(f"{short} {three_digits(value)}")
    return " · ".join([*words, *numbers])


def _blocks_of_stages(values: Any, space: Space) -> list[int]:
    """The number of blocks of each stage, if it is searched and every stage has blocks."""
    stages = getattr(space.base.spec, "stages", ())
    varied = [path for path in space.vary if path in values and _STAGE_BLOCKS.fullmatch(path)]
    if not varied:
        return []
    found = [stage.blocks for stage in stages]
    for path in varied:
        for index in range(len(found)) if "*" in path else [int(path.split(".")[1])]:
            found[index] = values[path]
    return found
