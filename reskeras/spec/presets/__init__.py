"""Named specs, each under its paper's name.

One module per family. A new preset is a function and a line in its module's `PRESETS`.

Imports: reskeras.spec.
Imported by: reskeras, reskeras.cli, reskeras.models, reskeras.nets.
"""

import dataclasses
import fnmatch

from reskeras.errors import RequestError, did_you_mean
from reskeras.spec import AnySpec
from reskeras.spec.presets import densenet, hourglass, resnet, unet
from reskeras.spec.presets.named import Named

_ALL: dict[str, Named] = {**resnet.PRESETS, **densenet.PRESETS, **unet.PRESETS, **hourglass.PRESETS}


def preset(name: str) -> AnySpec:
    """The spec of a named network.

    Raises:
        RequestError: no preset has this name; the message names the nearest.
    """
    if name not in _ALL and name.endswith((".yaml", ".yml", ".json")):
        raise RequestError(f"{name!r} is not a preset; reskeras.load_spec({name!r}) reads a file")
    if name not in _ALL:
        raise RequestError(
            f"unknown preset {name!r}{did_you_mean(name, _ALL) or ';'} `reskeras presets` lists "
            f"all {len(_ALL)}"
        )
    return dataclasses.replace(_ALL[name].make(), name=name)


def presets(pattern: str = "*") -> list[str]:
    """The names of the presets that match a shell pattern, as `reskeras presets` lists them."""
    return [name for name in _ALL if fnmatch.fnmatchcase(name, pattern)]


def source(name: str) -> str:
    """Where a preset comes from, in a line."""
    return _ALL[name].source
