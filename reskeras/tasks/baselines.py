"""Trivial answers that several tasks have, from the labels of training images."""

from collections.abc import Callable
from typing import Any

import numpy as np

from reskeras.tasks.class_labels import IGNORED, ratio
from reskeras.tasks.task import Facts


def named(name: str, learned: Any, facts: Facts) -> str:
    """A baseline's name, which says if it has learned from a part of the training examples."""
    is_all = facts.images in (None, len(learned))
    return name if is_all else f"{name} of {len(learned):,} training examples"


def always(output: Any) -> Callable[[Any], Any]:
    """The same output [...] for each image."""
    return lambda images: np.broadcast_to(output, (len(images), *np.shape(output)))


def class_shares(labels: Any, classes: int) -> Any:
    """The share of each class [K] in class numbers, without those that are `IGNORED`: float32."""
    labels = np.asarray(labels)
    counts = np.bincount(labels[labels != IGNORED].ravel(), minlength=classes)
    return (counts / max(1, counts.sum())).astype("float32")


def mean_places(labels: Any) -> Any:
    """The mean place of each point [K,2] in labels [N,K,2], NaN where a point is not there.

    A point that no image has is in the middle of the others.
    """
    labels = np.asarray(labels, "float64")
    there = np.isfinite(labels).all(axis=-1, keepdims=True)
    sums = np.where(there, labels, 0).sum(axis=0)
    places = ratio(sums, np.broadcast_to(there.sum(axis=0), sums.shape))
    known = np.isfinite(places).all(axis=-1)
    if known.any():
        places[~known] = places[known].mean(axis=0)
    return places


def nearest(images: Any, labels: Any, classes: int) -> Callable[[Any], Any]:
    """The class of the training image whose pixels are nearest, as shares of classes [N,K].

    Args:
        images: training images [M,*sides,C].
        labels: their classes [M].
        classes: how many there are (K).
    """
    from sklearn.neighbors import KNeighborsClassifier

    neighbor = KNeighborsClassifier(n_neighbors=1).fit(_flat(images), labels)

    def outputs(images: Any) -> Any:
        return np.eye(classes, dtype="float32")[neighbor.predict(_flat(images))]

    return outputs


def _flat(images: Any) -> Any:
    return np.reshape(images, (len(images), -1))
