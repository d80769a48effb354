"""From a spec to a Keras model.

Not called `build`: importing a module of that name would put it in the place of the function `reskeras.build`.
"""

import keras

from reskeras.densenet import build_densenet
from reskeras.presets import preset
from reskeras.resnet import build_resnet
from reskeras.spec import DenseNet, ResNet, UNet
from reskeras.unet import build_unet


def build(spec: ResNet | DenseNet | UNet | str) -> keras.Model:
    """Builds the network that a spec (or a preset's name) describes.

    Returns:
        A Functional `keras.Model` of stock layers, not compiled, from images [N,H,W,C] (float32) to the head's float32 output.

    Raises:
        RequestError: no preset has this name.
        TypeError: not a spec.
    """
    if isinstance(spec, str):
        spec = preset(spec)
    match spec:
        case ResNet():
            return build_resnet(spec)
        case DenseNet():
            return build_densenet(spec)
        case UNet():
            return build_unet(spec)
        case _:
            raise TypeError(f"build takes a spec or a preset's name, not a {type(spec).__name__}: {spec!r}")
