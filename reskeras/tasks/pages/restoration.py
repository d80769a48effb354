"""Restoration: another image of the same sides, sharper (super-resolution) or cleaner."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from reskeras.spec import AnySpec, Recipe, Regressor, TrainSpec
from reskeras.tasks.labels import Labels
from reskeras.tasks.metrics import LOSS, PSNR, Better, Metric, Unit
from reskeras.tasks.networks import map_space
from reskeras.tasks.task import Baseline, Facts, Output, Statistics, Task

_SSIM = Metric(name="ssim", label="SSIM", better=Better.HIGHER, unit=Unit.NUMBER, decimals=4)
_WINDOW, _SIGMA = 11, 1.5
"""Of SSIM (Wang 2004)."""


class Restoration(Task):
    """The network learns the residual to its input (arXiv 1511.04587); scored by PSNR.

    For super-resolution, the input is the small image, enlarged by bicubic interpolation.
    """

    name = "restoration"
    metrics = (PSNR, LOSS, _SSIM)
    losses = ("l1", "l2", "charbonnier")
    labels = Labels.IMAGE
    noun = "images"
    answers = "another image"
    told = "restored"
    resize = "stretch"

    def fit_head(self, spec: AnySpec, facts: Facts) -> Any:
        if not isinstance(spec.head, Regressor):
            raise ValueError(
                "the data have images for images and need a head 'regression', which a network of "
                f"the family 'unet' or 'resnet' without strides can have (the network is of the "
                f"family {spec.family!r} with head {spec.head.kind!r})"
            )
        if spec.data_format == "channels_first":
            raise ValueError("images are trained with data_format 'channels_last'")
        same = facts.classes == facts.image_shape[-1]
        return Regressor(channels=facts.classes, add_input=spec.head.add_input and same)

    def default_space(self, facts: Facts) -> tuple[Recipe, dict[str, Any]]:
        same = facts.classes == facts.image_shape[-1]
        head = Regressor(channels=facts.classes, add_input=same)
        return map_space(facts, head, halvings=2)

    def gives(self, output: Output) -> bool:
        return len(output.shape) > 2 and output.activation == "linear"

    def targets(self, label: Any, outputs: Mapping[str, Output], facts: Facts) -> dict[str, Any]:
        return {name: _reduced(label, output.shape[1:-1]) for name, output in outputs.items()}

    def loss(self, output: Output, facts: Facts) -> Any:
        import keras

        return keras.losses.MeanAbsoluteError(name="loss")

    def trained_loss(
        self, output: Output, facts: Facts, train: TrainSpec, weights: tuple[float, ...] = ()
    ) -> Any:
        import keras

        from reskeras.tasks.losses import Charbonnier

        match train.loss:
            case "l2":
                return keras.losses.MeanSquaredError(name="loss")
            case "charbonnier":
                return Charbonnier(name="loss")
            case _:
                return self.loss(output, facts)

    def keras_metrics(self, output: Output, facts: Facts) -> list[Any]:
        return []

    def statistics(self, target: Any, output: Any, form: Output, facts: Facts) -> Statistics:
        """PSNR and SSIM of each image, whose values are limited to 0..1."""
        from keras import ops

        target = ops.cast(target, "float32")
        output = ops.clip(ops.cast(output, "float32"), 0, 1)
        axes = list(range(1, len(form.shape)))
        error = ops.mean(ops.square(target - output), axis=axes)
        return {
            PSNR.name: -10 * ops.log(ops.maximum(error, 1e-10)) / np.log(10),
            _SSIM.name: _ssim(target, output),
            "images": ops.ones_like(error),
        }

    def scores(self, sums: Statistics, facts: Facts) -> dict[str, Any]:
        from keras import ops

        count = ops.maximum(sums["images"], 1e-9)
        return {name: sums[name] / count for name in (PSNR.name, _SSIM.name)}

    def badness(self, statistics: Statistics, losses: Any, facts: Facts) -> Any:
        """The least PSNR."""
        return -statistics[PSNR.name]

    def baselines(
        self, images: Any, labels: Any, form: Output, facts: Facts
    ) -> tuple[Baseline, ...]:
        """The image as it is; for super-resolution, that is bicubic interpolation."""
        if facts.classes != facts.image_shape[-1]:
            return ()

        def same(images: Any) -> Any:
            return np.stack([np.asarray(_reduced(image, form.shape[1:-1])) for image in images])

        linear = Output(form.shape, "linear")
        return (Baseline("the input as it is", same, linear, self.metrics),)

    def answer(self, outputs: Any, form: Output, facts: Facts) -> Any:
        return np.clip(outputs, 0, 1)

    def describe(self, answer: Any, names: Sequence[str], top: int) -> Any:
        return {"mean": float(answer.mean()), "size": list(answer.shape)}

    def write(self, described: Any) -> str:
        return "x".join(map(str, described["size"]))

    def cells(self, described: Any) -> dict[str, Any]:
        return {"size": self.write(described), "mean": described["mean"]}

    def in_file(self, answer: Any, stored: Any) -> Any:
        return stored.image(answer[..., 0] if answer.shape[-1] == 1 else answer)

    def picture(self, image: Any, answer: Any, described: Any) -> Any:
        from PIL import Image

        from reskeras.tasks.pictures import beside, seen_well

        # Gray, or the first three of more channels.
        shown = answer[..., :3] if answer.shape[-1] >= 3 else np.repeat(answer[..., :1], 3, -1)
        after = Image.fromarray(np.rint(255 * shown).astype(np.uint8))
        before = image.resize(after.size, Image.Resampling.BICUBIC)
        return beside([(seen_well(before)[0], "given"), (seen_well(after)[0], "restored")])


def _reduced(image: Any, sides: Sequence[int]) -> Any:
    """The mean of each patch of an image, for a head of lower resolution."""
    import tensorflow as tf

    if tuple(image.shape[:-1]) == tuple(sides):
        return image
    parts = [
        size
        for whole, part in zip(image.shape[:-1], sides, strict=True)
        for size in (part, whole // part)
    ]
    split = tf.reshape(image, [*parts, image.shape[-1]])
    return tf.reduce_mean(split, axis=list(range(1, 2 * len(sides), 2)))


def _ssim(a: Any, b: Any) -> Any:
    """The structural similarity [N] of images [N,*sides,C] in 0..1 (Wang 2004).

    As `tf.image.ssim`, which other backends than TensorFlow do not have, nor signals and volumes.
    """
    from keras import ops

    rank, channels = len(a.shape) - 2, a.shape[-1]
    size = min(_WINDOW, *a.shape[1:-1])
    line = np.exp(-((np.arange(size) - (size - 1) / 2) ** 2) / (2 * _SIGMA**2))
    line = (line / line.sum()).astype("float32")

    def mean(x: Any) -> Any:
        # Channels become images: a convolution along each axis in turn.
        x = ops.moveaxis(x, -1, 1)
        x = ops.reshape(x, (-1, *x.shape[2:], 1))
        for axis in range(rank):
            shape = [1] * rank
            shape[axis] = size
            x = ops.conv(x, line.reshape(*shape, 1, 1), padding="valid")
        return x

    means = mean(a), mean(b)
    squares = mean(ops.square(a)) - ops.square(means[0]), mean(ops.square(b)) - ops.square(means[1])
    both = mean(a * b) - means[0] * means[1]
    c1, c2 = 0.01**2, 0.03**2
    ratio = (2 * means[0] * means[1] + c1) * (2 * both + c2)
    ratio /= (ops.square(means[0]) + ops.square(means[1]) + c1) * (squares[0] + squares[1] + c2)
    each = ops.mean(ratio, axis=list(range(1, rank + 2)))
    return ops.mean(ops.reshape(each, (-1, channels)), axis=1)


TASK = Restoration()
ORDER = 50
