"""The losses of gpt2_tf: TensorFlow's own cross entropy in less time, and every derivative that it has."""

import numpy as np
import pytest
import tensorflow as tf

from gpt2_tf.losses import entropies

LABELS = np.array([0, 3, 6, 6, 2, 1, 5, 4, 0], "int32")
LOGITS = 3 * np.random.default_rng(0).normal(size=(9, 7))
CHANGE = np.random.default_rng(1).normal(size=(9, 7))


def by_tensorflow(logits, labels):
    return tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)


def first(loss, logits):
    with tf.GradientTape() as tape:
        tape.watch(logits)
        losses = loss(logits, LABELS)
        total = tf.reduce_sum(losses**2)  # a share of its own for each row
    return losses, tape.gradient(total, logits)


def second(loss, logits):
    with tf.GradientTape() as tape:
        tape.watch(logits)
        total = tf.reduce_sum(first(loss, logits)[1] * CHANGE)
    return tape.gradient(total, logits)


def forward(loss, logits):
    with tf.autodiff.ForwardAccumulator(logits, tf.constant(CHANGE)) as accumulator:
        losses, gradient = first(loss, logits)
    return accumulator.jvp(losses), accumulator.jvp(gradient)


MODES = {
    "eager": lambda run: run,
    "graph": tf.function,
    "xla": lambda run: tf.function(run, jit_compile=True),
}


@pytest.mark.parametrize("mode", MODES.values(), ids=MODES)
@pytest.mark.parametrize("derivative", [first, second, forward])
def test_derivatives_are_tensorflows(derivative, mode):
    logits = tf.constant(LOGITS)
    ours, theirs = (
        tf.nest.flatten(mode(lambda x, loss=loss: derivative(loss, x))(logits)) for loss in (entropies, by_tensorflow)
    )
    for x, y in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-13, atol=1e-14)


def exact(logits, labels):
    x = logits.astype(np.float64)
    x = x - x.max(1, keepdims=True)
    sums = np.exp(x).sum(1)
    rows = np.arange(len(x))
    gradient = np.exp(x) / sums[:, None]
    gradient[rows, labels] -= 1
    return np.log(sums) - x[rows, labels], gradient


@pytest.mark.parametrize("spread, offset", [(1, 0), (30, 0), (1, 3e4), (300, -1e4)])
def test_float32_is_rounded_no_more_than_tensorflows(spread, offset):
    """Also where a loss is small beside its logits, or a chance too small for the type."""
    r = np.random.default_rng(2)
    logits = (spread * r.normal(size=(64, 5000)) + offset).astype("float32")
    labels = r.integers(0, 5000, 64).astype("int32")
    labels[::2] = logits[::2].argmax(1)
    losses, gradient = exact(logits, labels)
    errors = {}
    for name, loss in (("ours", entropies), ("TensorFlow's", by_tensorflow)):
        x = tf.constant(logits)
        with tf.GradientTape() as tape:
            tape.watch(x)
            found = loss(x, labels)
        share = tape.gradient(found, x).numpy() - gradient
        errors[name] = np.abs((found - losses) / (losses + 1e-7)).max(), np.abs(share).max()
    assert errors["ours"][0] <= max(1.5 * errors["TensorFlow's"][0], 3e-7)
    assert errors["ours"][1] <= max(1.5 * errors["TensorFlow's"][1], 3e-7)


def test_no_rows_and_what_is_not_finite():
    assert entropies(tf.zeros((0, 7)), tf.zeros((0,), tf.int32)).shape == (0,)
    logits = LOGITS.astype("float32")
    logits[0, 1], logits[1, 2], logits[2, 6] = np.nan, -np.inf, -np.inf
    np.testing.assert_array_equal(
        np.isfinite(entropies(tf.constant(logits), LABELS)), [False, True, False, *[True] * 6]
    )
