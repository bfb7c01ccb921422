"""The optimizer's updates by XLA: one pass over the weights, where TensorFlow's own operations make ten."""

import contextlib
import functools

import keras

from .matmul import may_compile


@contextlib.contextmanager
def updates_by_xla(model):
    """Has the optimizer, where this suits it, compile what it does to the weights while a step of `fit` is traced."""
    if not suits(model):
        yield
        return
    optimizer = vars(model.optimizer)
    optimizer["apply"] = functools.partial(apply, model, model.optimizer.apply)
    try:
        yield
    finally:
        del optimizer["apply"]


def suits(model):
    """Whether a step may compile its updates, and they are of Keras' own code alone."""
    optimizer = model.optimizer
    return (
        may_compile(model)
        and is_kerass(optimizer)
        and "apply" not in vars(optimizer)
        and is_kerass(optimizer._learning_rate)  # a schedule
        and all(weight.constraint is None for weight in model.trainable_variables)
        # conditions, for which XLA copies the weights
        and not isinstance(optimizer, keras.optimizers.LossScaleOptimizer)
        and not optimizer.gradient_accumulation_steps
    )


def is_kerass(x):
    """Whether an object's class is Keras' own: what users write may do what XLA cannot."""
    return type(x).__module__.startswith("keras.src.")


def apply(model, plain, gradients, weights):
    """The optimizer's `apply`, compiled once for all graphs of a step that one `compile` of the model leads to."""
    import tensorflow as tf

    weights = list(weights)
    if not model.optimizer.built:  # XLA makes no variables
        model.optimizer.build(weights)
    kept, run = model.__dict__.get("_updates", ((), None))
    key = (model.train_function, *weights)
    if len(kept) != len(key) or any(a is not b for a, b in zip(kept, key, strict=True)):
        run = tf.function(lambda gradients: plain(gradients, weights), jit_compile=True, autograph=False)
        model.__dict__["_updates"] = key, run
    # a table's gradient may be some rows of it: XLA would compile each number of them
    run([None if gradient is None else tf.convert_to_tensor(gradient) for gradient in gradients])
