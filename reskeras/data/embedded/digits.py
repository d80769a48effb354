"""scikit-learn's 1,797 handwritten digits as a TFDS builder: real images without a download."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from reskeras.data.embedded.real_digits import SPLITS, digits_by_split


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
        return {split: self._generate_examples(split) for split in SPLITS}

    def _generate_examples(self, split: str) -> Iterator[tuple[int, dict[str, Any]]]:
        for digit in digits_by_split()[split]:
            image = np.round(digit.ink * 255).astype(np.uint8)[..., np.newaxis]
            yield digit.source, {"image": image, "label": digit.label}
