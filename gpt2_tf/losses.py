"""What the heads minimise: means, in float32 at least."""

import keras
import numpy as np
from keras import ops

from .layers import as_int32, wide


def cross_entropy(logits, labels):
    """Mean over the labels (...), each one of the K of logits (..., K); -100 does not count."""
    K = ops.shape(logits)[-1]
    dtype = wide(keras.backend.standardize_dtype(logits.dtype))
    labels = ops.reshape(as_int32(labels), (-1,))
    inside = ops.logical_and(labels >= 0, labels < K)
    predicted = ops.reshape(ops.cast(logits, dtype), (-1, K))
    losses = entropies(predicted, ops.where(inside, labels, 0))
    # a graph cannot refuse a label that is none of the K: NaN tells of it
    losses = ops.where(inside, losses, ops.where(labels == -100, 0.0, np.nan))
    return ops.sum(losses) / ops.sum(ops.cast(labels != -100, dtype))


def entropies(logits, labels):
    """Returns log(sum(exp(logits))) - logits[label] of each row of logits (N, K), (N,)."""
    if keras.config.backend() != "tensorflow":
        return ops.sparse_categorical_crossentropy(labels, logits, from_logits=True)
    import tensorflow as tf

    # TensorFlow's own computes each exponential twice, one at a time, and takes up to twice as long as all of this; the
    # largest of its softmax is no 1 / sums: some processors round it twice, and a single class gets a loss
    @tf.custom_gradient
    def run(logits):
        above = tf.exp(logits - tf.reduce_max(logits, axis=1, keepdims=True))
        sums = tf.reduce_sum(above, axis=1)
        picked = tf.gather(logits, labels, batch_dims=1)
        losses = (tf.reduce_max(logits, axis=1) - picked) + tf.math.log(sums)

        def gradient(share):
            places = tf.stack([tf.range(tf.shape(labels)[0]), labels], axis=1)
            return tf.tensor_scatter_nd_sub(above * (share / sums)[:, None], places, share)

        return losses, gradient

    return run(logits)


def language_model_loss(logits, labels):
    """Cross entropy of each next token."""
    # the last logits have none: they do not count, and are not cut off, which would copy all others' gradients
    labels = as_int32(labels)
    labels = ops.concatenate([labels[..., 1:], ops.full_like(labels[..., :1], -100)], axis=-1)
    return cross_entropy(logits, labels)


def classification_loss(logits, labels, problem):
    """The loss of logits (B, num_labels) for one of the core's PROBLEM_TYPES."""
    if problem == "single_label_classification":
        return cross_entropy(logits, labels)
    logits = ops.cast(logits, wide(keras.backend.standardize_dtype(logits.dtype)))
    labels = ops.reshape(ops.cast(labels, logits.dtype), ops.shape(logits))
    if problem == "regression":
        return ops.mean(ops.square(logits - labels))
    return ops.mean(ops.binary_crossentropy(labels, logits, from_logits=True))


def answer_loss(logits, positions):
    """Cross entropy of a place (B,) among logits (B, T); places that were cut off do not count."""
    T = ops.shape(logits)[1]
    positions = ops.reshape(as_int32(positions), (-1,))
    return cross_entropy(logits, ops.where(positions >= T, -100, positions))


def answers_loss(start_logits, starts, end_logits, ends):
    """Mean of the losses of where the answers start and where they end."""
    return (answer_loss(start_logits, starts) + answer_loss(end_logits, ends)) / 2
