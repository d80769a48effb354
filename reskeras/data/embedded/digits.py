"""scikit-learn's 1,797 handwritten digits as a TFDS builder: real images without a download."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

_SPLIT_SEED = 20_151_210
"""Fixes the split for good, so scores of different searches stay comparable."""


class Digits(tfds.core.GeneratorBasedBuilder):  # type: ignore[misc]
    """8x8 gray digits: E. Alpaydin and C. Kaynak, UCI Machine Learning Repository, 1998.

    The part in scikit-learn's `load_digits`, split by class, 60 / 20 / 20: 1,077 train, 360
    validation, 360 test.
    """

    VERSION = tfds.core.Version("1.0.0")

    def _info(self) -> Any:
        features = tfds.features.FeaturesDict(
            {
                "image": tfds.features.Image(shape=(8, 8, 1), dtype=np.uint8),
                "label": tfds.features.ClassLabel(num_classes=10),
            }
        )
        return tfds.core.DatasetInfo(
            builder=self, features=features, supervised_keys=("image", "label")
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        del dl_manager  # nothing is downloaded
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split

        labels = load_digits().target
        indices = np.arange(len(labels))
        rest, test = train_test_split(
            indices, test_size=360, stratify=labels, random_state=_SPLIT_SEED
        )
        train, validation = train_test_split(
            rest, test_size=360, stratify=labels[rest], random_state=_SPLIT_SEED
        )
        return {
            name: self._generate_examples(split)
            for name, split in {"train": train, "validation": validation, "test": test}.items()
        }

    def _generate_examples(self, indices: Any) -> Iterator[tuple[int, dict[str, Any]]]:
        from sklearn.datasets import load_digits

        digits = load_digits()
        for index in indices:
            # A pixel counts the inked dots, 0 to 16, of a 4x4 patch.
            image = np.round(digits.images[index] * (255 / 16)).astype(np.uint8)[..., np.newaxis]
            yield int(index), {"image": image, "label": int(digits.target[index])}
