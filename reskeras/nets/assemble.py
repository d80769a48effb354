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
    """The network's input and its output (a dict where it has several), made of these layers.

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
    """A spec as it is, a preset's name as its spec.

    Raises:
        RequestError: no preset has this name.
        TypeError: neither.
    """
    if isinstance(spec, str):
        spec = preset(spec)
    if not isinstance(spec, AnySpec):
        raise TypeError(
            f"a spec or a preset's name is needed, not a {type(spec).__name__}: {spec!r}"
        )
    return spec
