"""Named training recipes: how the papers trained, each under its paper's name.

A `train:` section may be a name, or have a key `recipe`; the recipe sets what is not given. A new
recipe is a function and a line in `_ALL`. Where a paper is silent, the docstring says what is
chosen.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from reskeras.errors import RequestError, did_you_mean
from reskeras.spec.augment import AUGMENTATIONS, NO_AUGMENTATION, Augmentation, ColorJitter
from reskeras.spec.training import TrainSpec

_NOT_OF_RECIPES = (
    "seed",
    "init",
    "freeze",
    "layer_decay",
    "loss",
    "class_weight",
    "border_weight",
    "precision",
    "recompute",
)


class _Named(NamedTuple):
    make: Callable[[], TrainSpec]
    source: str
    """Where it comes from, in a line."""


def training_recipe(name: str) -> TrainSpec:
    """How a named recipe trains.

    Raises:
        RequestError: no recipe has this name; the message names the nearest.
    """
    if name not in _ALL:
        raise RequestError(
            f"unknown training recipe {name!r}{did_you_mean(name, _ALL) or ';'} known: "
            f"{', '.join(_ALL)}"
        )
    return _ALL[name].make()


def by_recipe(name: str, train: TrainSpec) -> TrainSpec:
    """A named recipe with those settings of a training that it is not about.

    `resize` is one of these unless the recipe sets it.

    Raises:
        RequestError: as `training_recipe`.
    """
    found = training_recipe(name)
    kept = {field: getattr(train, field) for field in _NOT_OF_RECIPES}
    return dataclasses.replace(found, **kept, resize=found.resize or train.resize)


def training_recipes() -> Mapping[str, str]:
    """The names of all recipes, each with its source in a line."""
    return {name: named.source for name, named in _ALL.items()}


def filled(train: Any) -> Any:
    """A `train:` section with all fields of the recipe that it names, if it names one.

    Raises:
        RequestError: no recipe has this name.
    """
    if isinstance(train, str):
        train = {"recipe": train}
    if not isinstance(train, dict) or "recipe" not in train:
        return train
    recipe = training_recipe(str(train["recipe"]))
    named = {field.name: getattr(recipe, field.name) for field in dataclasses.fields(recipe)}
    return named | {name: value for name, value in train.items() if name != "recipe"}


_SGD = TrainSpec(
    batch_size=128,
    optimizer="sgd",
    learning_rate=0.1,
    schedule="step",
    weight_decay=1e-4,
    weight_decay_kind="l2",
    augment=AUGMENTATIONS["shift_flip"],
)
"""What the papers of residual networks share; each has momentum 0.9."""


def _he2015_cifar() -> TrainSpec:
    """As in arXiv 1512.03385, Section 4.2.

    The rate is divided by 10 after 32,000 and 48,000 of 64,000 steps, which are 182 epochs of
    45,000 images. The warm-up of its 110-layer network is in `he2016_cifar`.
    """
    return dataclasses.replace(_SGD, epochs=182, nesterov=False)


def _he2016_cifar() -> TrainSpec:
    """As in arXiv 1603.05027, Appendix.

    The 64,000 steps are 164 epochs of 50,000 images, and 400 steps of warm-up are one. The paper
    warms up at a constant rate of 0.01; here the rate rises linearly. Nesterov's momentum is that
    of the published code.
    """
    return dataclasses.replace(_SGD, epochs=164, warmup=1.0)


def _densenet_cifar() -> TrainSpec:
    """As in arXiv 1608.06993, Section 4.2."""
    return dataclasses.replace(_SGD, epochs=300, batch_size=64)


def _wrn_cifar() -> TrainSpec:
    """As in arXiv 1605.07146, Section 3: the rate falls to a fifth after 60, 120 and 160 epochs."""
    return dataclasses.replace(
        _SGD, epochs=200, milestones=(0.3, 0.6, 0.8), step_factor=0.2, weight_decay=5e-4
    )


def _unet_2015() -> TrainSpec:
    """As in arXiv 1505.04597, Section 3: momentum 0.99 and one image in a batch.

    The paper states neither the rate nor the number of epochs: 0.001 and 100 are ours, and so are
    the sizes of shifts, rotations and changes of gray. Its elastic deformations have a standard
    deviation of 10 of 512 pixels.
    """
    return TrainSpec(
        epochs=100,
        batch_size=1,
        optimizer="sgd",
        momentum=0.99,
        nesterov=False,
        learning_rate=1e-3,
        schedule="constant",
        augment=Augmentation(
            shift=0.125, rotate=15, elastic=10 / 512, color=ColorJitter(brightness=0.1)
        ),
    )


def _he2015_imagenet() -> TrainSpec:
    """As in arXiv 1512.03385, Section 3.4: 600,000 steps, which are 120 epochs.

    The paper divides the rate by 10 when the error plateaus; here after 30, 60 and 90 epochs, the
    first two of which its Figure 4 shows. Random crops of images of 256 to 480 pixels are shifts
    and a zoom by up to 1.37, the square root of their ratio; the color augmentation is that of
    Krizhevsky et al. 2012.
    """
    return dataclasses.replace(
        _SGD,
        epochs=120,
        batch_size=256,
        nesterov=False,
        milestones=(0.25, 0.5, 0.75),
        resize="crop",
        augment=Augmentation(shift=0.125, flip="horizontal", scale=0.37, pca_noise=0.1),
    )


def _fast() -> TrainSpec:
    """Ours: the best of those in benchmarks/fast_recipe.py after 8 epochs on digits."""
    return dataclasses.replace(
        _SGD,
        epochs=8,
        batch_size=32,
        schedule="one_cycle",
        weight_decay=5e-4,
        augment=NO_AUGMENTATION,
    )


_ALL: dict[str, _Named] = {
    "he2015_cifar": _Named(_he2015_cifar, "arXiv 1512.03385, Section 4.2"),
    "he2016_cifar": _Named(_he2016_cifar, "arXiv 1603.05027, Appendix"),
    "densenet_cifar": _Named(_densenet_cifar, "arXiv 1608.06993, Section 4.2"),
    "wrn_cifar": _Named(_wrn_cifar, "arXiv 1605.07146, Section 3"),
    "unet_2015": _Named(_unet_2015, "arXiv 1505.04597, Section 3"),
    "he2015_imagenet": _Named(_he2015_imagenet, "arXiv 1512.03385, Section 3.4"),
    "fast": _Named(_fast, "ours: benchmarks/fast_recipe.py"),
}
