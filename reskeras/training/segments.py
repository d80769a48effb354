"""Runs a model block by block, so equal blocks are traced once and can be recomputed.

Keras traces a training step layer by layer, and its graph grows with the depth: ten ops and more
for a batch norm, as many for the update of a variable. `SegmentedModel` runs the same layers in
*segments*: stretches of the graph, in topological order, that end where a block ends (see `_cut`).
A segment is a pure function of its inputs and of the values of its variables. Segments of one
structure (their layers differ only in names and variables) share one traced function that takes the
variables as arguments, so a network of hundreds of equal blocks is hundreds of calls of a handful
of functions.

With `recompute` a segment forgets its inner activations and computes them again when its gradient
is needed (arXiv 1604.06174), without touching moving statistics or random seeds a second time.
"""

import json
from collections.abc import Callable, Iterable
from typing import Any

import keras
import tensorflow as tf

from reskeras.errors import RequestError

_BLOCK_ENDS = (keras.layers.Add, keras.layers.Concatenate)
_POOLS = (keras.layers.AveragePooling2D, keras.layers.MaxPooling2D)
_RECOMPUTED_CUTS = 3
"""Cuts that one recomputed segment spans. More cuts keep fewer tensors between segments but more
alive while one is recomputed."""

_NOT_INLINED = {"_noinline": True}
_INLINED = 40
"""A model of up to this many segments is inlined, which runs slightly faster. Inlining more makes
the first step slower."""


class SegmentedModel:
    """A Functional model as segments, and the traced functions that they share.

    Args:
        model: the model; its layers must not pass masks on.
        recompute: keep only the activations between segments and compute those inside a segment
            twice: less memory, more time.
        functions: traced functions by structure, which several models can share.

    Attributes:
        states: the variables of each segment; those of any model of the same `structure` fit.
        structure: equal for models that differ only in names, initial values and seeds.
    """

    def __init__(
        self, model: keras.Model, recompute: bool, functions: dict[Any, Any] | None = None
    ) -> None:
        self.recompute = recompute
        cuts = _cut(model)
        size = _RECOMPUTED_CUTS if recompute else 1
        parts = [
            [node for cut in cuts[start : start + size] for node in cut]
            for start in range(0, len(cuts), size)
        ]
        makers = {
            id(tensor): number
            for number, part in enumerate(parts)
            for node in part
            for tensor in node.outputs
        }
        wanted = {id(tensor) for tensor in model.outputs}
        for number, part in enumerate(parts):
            taken = {id(tensor) for node in part for tensor in node.input_tensors}
            wanted |= {key for key in taken if makers.get(key) != number}
        self.segments = [_Segment(part, wanted) for part in parts]
        self.functions = {} if functions is None else functions
        self.states = [segment.state for segment in self.segments]
        keys = [
            id(tensor)
            for tensor in (
                *model.inputs,
                *(tensor for part in parts for node in part for tensor in node.outputs),
            )
        ]
        numbers = {key: number for number, key in enumerate(keys)}
        self.structure = (
            recompute,
            *(
                (part.structure, part.switches(), *(numbers[key] for key in part.inputs))
                for part in self.segments
            ),
            *(numbers[id(tensor)] for tensor in model.outputs),
        )

    def run(
        self, tensors: dict[int, Any], training: bool, states: list[list[Any]] | None = None
    ) -> None:
        """Adds the segments' outputs to `tensors`, whose keys are ids of symbolic tensors."""
        for segment, state in zip(
            self.segments, self.states if states is None else states, strict=True
        ):
            inputs = [tensors[key] for key in segment.inputs]
            recompute = self.recompute and training
            inline = not recompute and len(self.segments) <= _INLINED
            key = (segment.structure, segment.switches(), training, recompute, inline)
            if key not in self.functions:
                self.functions[key] = (
                    _recomputed(segment)
                    if recompute
                    else _forward(segment, training, inline=inline)
                )
            outputs, logits = self.functions[key](inputs, state)
            for number, value in logits.items():
                outputs[number]._keras_logits = value
            tensors.update(zip(segment.outputs, outputs, strict=True))


class _Segment:
    """A stretch of the graph: its nodes, input and output tensors (by id) and variables."""

    def __init__(self, nodes: list[Any], wanted: set[int]) -> None:
        made = [id(tensor) for node in nodes for tensor in node.outputs]
        taken = [id(tensor) for node in nodes for tensor in node.input_tensors]
        self.nodes = nodes
        self.inputs = list(dict.fromkeys(key for key in taken if key not in made))
        self.outputs = [key for key in made if key in wanted]
        self.layers = [
            op
            for op in dict.fromkeys(node.operation for node in nodes)
            if isinstance(op, keras.Layer)
        ]
        self.variables = list(
            {
                id(variable): variable for layer in self.layers for variable in layer.variables
            }.values()
        )
        # Handles (tf.Variable), not values: the function reads and assigns them, so they cost the
        # graph of the step no ops.
        self.state = [variable.value for variable in self.variables]
        numbers = {key: number for number, key in enumerate([*self.inputs, *made])}
        shapes = {id(tensor): tensor.shape for node in nodes for tensor in node.input_tensors}
        self.structure = (
            *(_describe(node, numbers) for node in nodes),
            *(shapes[key] for key in self.inputs),
            *(numbers[key] for key in self.outputs),
        )

    def switches(self) -> tuple[bool, ...]:
        """Which layers and variables are trainable: this can change between compilations."""
        return tuple(part.trainable for part in (*self.layers, *self.variables))

    def run(
        self, inputs: Iterable[Any], state: Iterable[Any], training: bool
    ) -> tuple[list[Any], list[Any], dict[int, Any]]:
        """Outputs, new values of the variables, and logits, without side effects.

        The logits, by output number, are what a softmax or sigmoid attaches to its output for
        Keras' cross-entropies. Without them, the cross-entropies clip probabilities below 1e-7.
        """
        tensors = dict(zip(self.inputs, inputs, strict=True))
        with keras.StatelessScope(list(zip(self.variables, state, strict=True))) as scope:
            for node in self.nodes:
                args, kwargs = node.arguments.fill_in(tensors)
                if training and _fusible(node):
                    results = _fused_norm(node.operation, args[0])
                elif isinstance(node.operation, keras.Layer):
                    results = node.operation(*args, **{**kwargs, "training": training})
                else:
                    results = node.operation(*args, **kwargs)
                for tensor, result in zip(node.outputs, keras.tree.flatten(results), strict=True):
                    if getattr(result, "_keras_mask", None) is not None:
                        raise RequestError(
                            "compiled training does not support masks, but "
                            f"{node.operation.name!r} makes one"
                        )
                    tensors[id(tensor)] = result
        after = [scope.get_current_value(variable) for variable in self.variables]
        outputs = [tensors[key] for key in self.outputs]
        logits = {
            number: tensor._keras_logits
            for number, tensor in enumerate(outputs)
            if hasattr(tensor, "_keras_logits")
        }
        return outputs, after, logits


def _cut(model: keras.Model) -> list[list[Any]]:
    """The nodes of a graph in topological order, cut where a block ends.

    A block ends at an addition, a concatenation or the input of a pooling layer, if every other
    tensor made since the last cut has been consumed. One tensor crosses a cut, besides tensors of
    earlier cuts (the skips of a U-Net).
    """
    depths = model._nodes_by_depth
    order = [
        node
        for depth in sorted(depths, reverse=True)
        for node in depths[depth]
        if not node.is_input
    ]
    last_use = {
        id(tensor): number for number, node in enumerate(order) for tensor in node.input_tensors
    }
    pooled = {id(node.input_tensors[0]) for node in order if isinstance(node.operation, _POOLS)}
    cuts: list[list[Any]] = [[]]
    live: set[int] = set()
    for number, node in enumerate(order):
        cuts[-1].append(node)
        live = {key for key in (*live, *map(id, node.outputs)) if last_use.get(key, 0) > number}
        ends = isinstance(node.operation, _BLOCK_ENDS) or id(node.outputs[0]) in pooled
        if ends and live == {id(node.outputs[0])}:
            cuts.append([])
            live = set()
    return cuts if cuts[-1] else cuts[:-1]


def _describe(node: Any, numbers: dict[int, int]) -> Any:
    """What a node computes, without names, initial values and seeds; tensors become numbers."""
    arguments = keras.tree.map_structure(
        lambda part: numbers[id(part)] if isinstance(part, keras.KerasTensor) else repr(part),
        (node.arguments.args, node.arguments.kwargs),
    )
    if not isinstance(node.operation, keras.Layer):
        return id(node.operation)
    config = {
        k: v
        for k, v in node.operation.get_config().items()
        if k not in ("name", "seed") and not k.endswith("_initializer")
    }
    shapes = [(v.shape, v.dtype) for v in node.operation.variables]
    return (
        type(node.operation),
        json.dumps(config, sort_keys=True, default=repr),
        repr(shapes),
        repr(arguments),
    )


def _forward(segment: _Segment, training: bool, *, inline: bool) -> Any:
    """`(inputs, state) -> (outputs, logits)` for every segment of this structure.

    The state is as in `_Segment.state`. Without inlining, the graph optimizer works on a handful of
    small functions instead of one huge graph.
    """

    def forward(inputs: list[Any], state: list[Any]) -> Any:
        before = [tf.convert_to_tensor(value) for value in state]
        outputs, after, logits = segment.run(inputs, before, training)
        for variable, old, new in zip(state, before, after, strict=True):
            if new is not old:
                variable.assign(new)
        return outputs, logits

    return function(forward, inline=inline)


def _recomputed(segment: _Segment) -> Any:
    """As `_forward` in training, with a gradient that runs the segment again.

    It is not inlined, so the second run cannot start before its upstream gradients arrive.
    """
    forward = _forward(segment, training=True, inline=False)
    trainable = [variable.trainable for variable in segment.variables]

    def backward(
        wanted: list[Any], inputs: list[Any], state: list[Any], upstream: list[Any]
    ) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(wanted)
            given = iter(wanted)
            inputs = [next(given) if value is None else value for value in inputs]
            state = [next(given) if value is None else value for value in state]
            outputs, _, logits = segment.run(inputs, state, training=True)
        return tape.gradient(
            [*outputs, *logits.values()],
            wanted,
            upstream,
            unconnected_gradients=tf.UnconnectedGradients.ZERO,
        )

    gradients = function(backward, inline=False)

    def run(inputs: list[Any], state: list[Any]) -> Any:
        # Read before `forward` advances seeds and statistics, so the second run repeats the first.
        before = [tf.convert_to_tensor(value) for value in state]
        wanted = [value for value in inputs if value.dtype.is_floating]
        wanted += [value for value, needed in zip(before, trainable, strict=True) if needed]
        fixed_inputs = [None if value.dtype.is_floating else value for value in inputs]
        fixed_state = [
            None if needed else value for value, needed in zip(before, trainable, strict=True)
        ]
        # Pass handles only of what may be assigned: tf.custom_gradient accepts no trainable
        # variable, frozen or not.
        handles = [
            value if variable.trainable else variable
            for value, variable in zip(before, state, strict=True)
        ]
        handles = [
            None if needed else handle for handle, needed in zip(handles, trainable, strict=True)
        ]
        numbers: list[int] = []
        logits_from = 0

        def call(*wanted: Any) -> Any:
            nonlocal logits_from
            given = iter(wanted)
            outputs, logits = forward(
                [next(given) if value is None else value for value in fixed_inputs],
                [next(given) if value is None else value for value in handles],
            )
            logits_from = len(outputs)
            numbers[:] = logits
            return (*outputs, *logits.values()), lambda *upstream: gradients(
                list(wanted), fixed_inputs, fixed_state, list(upstream)
            )

        results = tf.custom_gradient(call)(*wanted)
        logits = dict(zip(numbers, results[logits_from:], strict=True))
        return list(results[:logits_from]), logits

    return run


def function(
    python: Callable[..., Any], *, inline: bool = True, reduce_retracing: bool = False
) -> Any:
    """A `tf.function` without autograph."""
    attributes = None if inline else _NOT_INLINED
    made = tf.function(
        python,
        autograph=False,
        experimental_attributes=attributes,
        reduce_retracing=reduce_retracing,
    )
    # TensorFlow counts traces by source line and would warn, although each structure traces once.
    made._omit_frequent_tracing_warning = True
    return made


def _fusible(node: Any) -> bool:
    """Whether a node's layer is a batch norm that TensorFlow's fused op can compute."""
    layer, x = node.operation, node.input_tensors[0]
    return (
        type(layer) is keras.layers.BatchNormalization
        and layer.trainable
        and not getattr(layer, "renorm", False)  # absent in Keras 3.12
        and not layer.synchronized
        and len(x.shape) == 4
        and layer.axis in (-1, 3)
        and layer.variable_dtype == "float32"
    )


def _fused_norm(layer: keras.layers.BatchNormalization, x: Any) -> Any:
    """Training-mode batch norm [N,H,W,C] in one op.

    The moving variance is the population's, as in Keras.
    """
    channels = x.shape[-1]
    y, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
        x=tf.cast(x, "float32"),
        scale=layer.gamma.value if layer.scale else tf.ones([channels]),
        offset=layer.beta.value if layer.center else tf.zeros([channels]),
        mean=tf.constant([], "float32"),
        variance=tf.constant([], "float32"),
        epsilon=layer.epsilon,
        is_training=True,
    )
    count = tf.cast(tf.size(x) // channels, "float32")
    variance *= tf.maximum(count - 1, 1) / count  # the op returns the sample variance
    for average, value in ((layer.moving_mean, mean), (layer.moving_variance, variance)):
        average.assign(average.value * layer.momentum + value * (1.0 - layer.momentum))
    return tf.cast(y, layer.compute_dtype)


Update = Callable[[list[Any], Any, list[Any], list[list[Any]], list[Any]], None]
"""`(rates, step, variables, their slots, their gradients)`: updates variables and slots in place.
Each variable has a rate. Steps count from 1."""


def fused_update(optimizer: keras.optimizers.Optimizer) -> tuple[list[list[Any]], Update] | None:
    """Each variable's slots and the update rule, in few ops; None for other optimizers of Keras.

    The optimizer must be built. The rule is its update step alone, without weight decay, clipping,
    accumulation or averaging.
    """
    ops = tf.raw_ops

    def sgd(
        rates: list[Any],
        step: Any,
        variables: list[Any],
        slots: list[list[Any]],
        gradients: list[Any],
    ) -> None:
        momentum = tf.constant(optimizer.momentum, tf.float32)
        for rate, var, slot, grad in zip(rates, variables, slots, gradients, strict=True):
            if not slot:
                ops.ResourceApplyGradientDescent(var=var.handle, alpha=rate, delta=grad)
            else:
                ops.ResourceApplyKerasMomentum(
                    var=var.handle,
                    accum=slot[0].handle,
                    lr=rate,
                    grad=grad,
                    momentum=momentum,
                    use_nesterov=optimizer.nesterov,
                )

    def adam(
        rates: list[Any],
        step: Any,
        variables: list[Any],
        slots: list[list[Any]],
        gradients: list[Any],
    ) -> None:
        beta1, beta2, epsilon = (
            tf.constant(value, tf.float32)
            for value in (optimizer.beta_1, optimizer.beta_2, optimizer.epsilon)
        )
        shared = {
            "beta1": beta1,
            "beta2": beta2,
            "beta1_power": beta1**step,
            "beta2_power": beta2**step,
            "epsilon": epsilon,
        }
        for rate, var, (m, v), grad in zip(rates, variables, slots, gradients, strict=True):
            ops.ResourceApplyAdam(
                var=var.handle, m=m.handle, v=v.handle, lr=rate, grad=grad, **shared
            )

    def rmsprop(
        rates: list[Any],
        step: Any,
        variables: list[Any],
        slots: list[list[Any]],
        gradients: list[Any],
    ) -> None:
        rho = optimizer.rho
        for rate, var, (v,), grad in zip(rates, variables, slots, gradients, strict=True):
            v.assign(rho * v + (1 - rho) * tf.square(grad))
            var.assign_sub(rate * grad / tf.sqrt(v + optimizer.epsilon))

    def lion(
        rates: list[Any],
        step: Any,
        variables: list[Any],
        slots: list[list[Any]],
        gradients: list[Any],
    ) -> None:
        beta1, beta2 = optimizer.beta_1, optimizer.beta_2
        for rate, var, (m,), grad in zip(rates, variables, slots, gradients, strict=True):
            var.assign_sub(rate * tf.sign(beta1 * m + (1 - beta1) * grad))
            m.assign(beta2 * m + (1 - beta2) * grad)

    if type(optimizer) is keras.optimizers.SGD:
        moments = [optimizer.momentums] if optimizer.momentum else []
        rule: Update = sgd
    elif type(optimizer) is keras.optimizers.RMSprop and not (
        optimizer.momentum or optimizer.centered
    ):
        moments = [optimizer._velocities]
        rule = rmsprop
    elif type(optimizer) is keras.optimizers.Lion:
        moments = [optimizer._momentums]
        rule = lion
    elif (
        type(optimizer) in (keras.optimizers.Adam, keras.optimizers.AdamW) and not optimizer.amsgrad
    ):
        moments = [optimizer._momentums, optimizer._velocities]
        rule = adam
    else:
        return None
    return [
        [moment[number].value for moment in moments]
        for number in range(len(optimizer._trainable_variables))
    ], rule
