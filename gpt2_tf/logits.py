"""One function per step of the generation plan: scores (B, V) in, scores out, -inf where a token is removed."""

import numpy as np
from keras import ops


def remove(scores):
    """Returns the score of a removed token."""
    return ops.cast(-np.inf, scores.dtype)


def ranks(scores):
    """Returns each token's place in the order of falling scores; of equal ones the lower id comes first."""
    order = ops.top_k(scores, scores.shape[-1])[1]  # of equal values the lower index comes first
    return ops.argsort(order, axis=-1)


def temperature(scores, value):
    return scores / value


def top_k(scores, value):
    return ops.where(ranks(scores) >= ops.cast(value, "int32"), remove(scores), scores)


def top_p(scores, value):
    """Keeps the likeliest tokens that together reach the probability `value`, the one that reaches it included."""
    probabilities = ops.flip(ops.sort(ops.softmax(scores, axis=-1), axis=-1), axis=-1)
    before = ops.cumsum(probabilities, axis=-1) - probabilities  # of all likelier tokens
    kept = ops.sum(ops.cast(before < value, "int32"), axis=-1, keepdims=True)
    return ops.where(ranks(scores) >= kept, remove(scores), scores)


STEPS = {"temperature": temperature, "top_k": top_k, "top_p": top_p}


def pick(logits, steps, uniforms):
    """Returns the next token (B,): the likeliest, or by inverse CDF of the plan's uniform number, in float64."""
    if uniforms is None:
        return ops.argmax(logits, axis=-1)
    scores = ops.cast(logits, "float64")
    for step in steps:
        scores = STEPS[step.name](scores, step.value)
    reached = ops.cumsum(ops.softmax(scores, axis=-1), axis=-1)
    return ops.argmax(ops.cast(reached > uniforms[:, None] * reached[:, -1:], "int32"), axis=-1)
