"""The one match over families."""

from typing import Any

from reskeras.nets.densenet import densenet
from reskeras.nets.hourglass import hourglass
from reskeras.nets.primitives import Layers
from reskeras.nets.resnet import resnet
from reskeras.nets.unet import unet
from reskeras.spec import AnySpec, DenseNet, Hourglass, ResNet, UNet
from reskeras.spec.presets import preset


def assemble(spec: AnySpec, layers: Layers) -> tuple[Any, Any]:
    """Builds the network from the given layers; returns its input and output (or outputs).

    Raises:
        RequestError: the parts of the spec do not fit each other.
    """
    match spec:
        case ResNet():
            return resnet(spec, layers)
        case DenseNet():
            return densenet(spec, layers)
        case UNet():
            return unet(spec, layers)
        case Hourglass():
            return hourglass(spec, layers)


def as_spec(spec: AnySpec | str) -> AnySpec:
    """Returns a spec unchanged, or the spec of a preset by its name.

    Raises:
        RequestError: no preset has this name.
        TypeError: it is neither a spec nor a name.
    """
    if isinstance(spec, str):
        spec = preset(spec)
    if not isinstance(spec, AnySpec):
        raise TypeError(
            f"expected a spec or a preset's name, not a {type(spec).__name__}: {spec!r}"
        )
    return spec
