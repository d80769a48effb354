"""What tasks share whose labels are class numbers, of images or of pixels."""

from typing import Any

from reskeras.spec import TrainSpec
from reskeras.tasks import class_labels
from reskeras.tasks.task import Facts, Output, Task


class ClassTask(Task):
    """Cross-entropy and other losses of classes, and shares of classes as answers."""

    smooths = True
    weighs = True
    told = "classes"

    def suits(self, shape: tuple[Any, ...], classes: int) -> bool:
        # One channel says which of two classes it is.
        return super().suits(shape, 1 if (classes, shape[-1]) == (2, 1) else classes)

    def dense(self, target: Any, output: Output) -> Any:
        return class_labels.dense(target, output)

    def loss(self, output: Output, facts: Facts) -> Any:
        from reskeras.tasks.losses import cross_entropy

        return cross_entropy(output)

    def trained_loss(
        self, output: Output, facts: Facts, train: TrainSpec, weights: tuple[float, ...] = ()
    ) -> Any:
        from reskeras.tasks.losses import trained

        return trained(output, facts, train, weights)

    def counts(self, target: Any, output: Output) -> Any:
        return class_labels.classes_in(target, output)[1]

    def answer(self, outputs: Any, form: Output, facts: Facts) -> Any:
        import keras

        if form.activation == "sigmoid" and form.shape[-1] > 1:
            return outputs  # each is a probability of its own
        return keras.ops.convert_to_numpy(class_labels.shares(outputs, form))
