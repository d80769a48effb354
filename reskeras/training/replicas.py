"""An optimizer for the replicas of a `tf.distribute.Strategy`."""

from typing import Any


def whole_gradients(replica: list[Any]) -> list[Any]:
    """The sums of the gradients over all replicas, within one of them: those of the whole batch."""
    import tensorflow as tf

    context = tf.distribute.get_replica_context()
    sums: list[Any] = context.all_reduce(tf.distribute.ReduceOp.SUM, replica)
    return sums


def for_replicas(kind: type) -> type:
    """A class of Keras' optimizers that takes the `whole_gradients`, in each replica.

    Keras itself takes those of one replica and sums them when it is about to update, after it has
    clipped them; and it fails to accumulate: "merge_call called while defining a new graph".

    Args:
        kind: `keras.optimizers.SGD`, say.
    """
    import tensorflow as tf

    class Replicated(kind):  # type: ignore[misc]
        def _all_reduce_sum_gradients(self, grads_and_vars: Any) -> Any:
            """They are summed already."""
            return grads_and_vars

        def _backend_apply_gradients(self, grads: Any, variables: Any) -> None:
            batches = self.gradient_accumulation_steps
            if not batches or tf.__internal__.distribute.strategy_supports_no_merge_call():
                super()._backend_apply_gradients(grads, variables)
                return

            # An update calls functions across replicas, which is forbidden in a condition within a
            # replica. So the condition is put across the replicas, as in Keras' LossScaleOptimizer.
            def across(strategy: Any, grads: Any) -> None:
                def each(function: Any) -> None:
                    strategy.extended.call_for_each_replica(function, args=(grads,))

                last = tf.equal((self._iterations + 1) % batches, 0)
                tf.cond(last, lambda: each(update), lambda: each(another))

            sums = [self._accumulated_gradients[self._get_variable_index(v)] for v in variables]

            def another(grads: Any) -> None:
                for total, grad in zip(sums, grads, strict=True):
                    self.assign_add(total, grad)

            def update(grads: Any) -> None:
                pairs = zip(sums, grads, strict=True)
                means = self._clip_gradients([(total + grad) / batches for total, grad in pairs])
                self._apply_weight_decay(variables)
                self._backend_update_step(means, variables, self.learning_rate)
                self._backend_reset_gradient_accumulators()

            tf.distribute.get_replica_context().merge_call(across, args=(grads,))
            if self.use_ema:
                self._update_model_variables_moving_average(self._trainable_variables)

    return Replicated
