"""Limits on a network's cost, checked by arithmetic before anything is built."""

import dataclasses

from reskeras.nets.cost import cost
from reskeras.spec import Recipe


@dataclasses.dataclass(frozen=True, kw_only=True)
class Limits:
    """Upper limits on the network of a trial; None is no limit."""

    params: int | None = None
    """Trainable parameters."""
    macs: int | None = None
    """Multiply-adds for one image."""
    memory: int | None = None
    """Bytes in training and scoring (`Cost.training_bytes`)."""

    def refusal(self, recipe: Recipe) -> str | None:
        """The limit that a recipe exceeds, in words; None if it exceeds none."""
        found = cost(recipe.spec)
        if self.params is not None and found.trainable_params > self.params:
            return f"more than {self.params:,} parameters"
        if self.macs is not None and found.macs > self.macs:
            return f"more than {self.macs:,} multiply-adds"
        needed = found.training_bytes(recipe.train.batch_size)
        if self.memory is not None and needed > self.memory:
            return f"more than {self.memory:,} bytes of memory"
        return None
