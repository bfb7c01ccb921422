"""One function per step of the generation plan: scores (B, V) in, scores out, -inf where a token is removed."""

import numpy as np
from keras import ops


def ranks(scores):
    """Returns each token's place in the order of falling scores; of equal ones the lower id comes first."""
    order = ops.top_k(scores, scores.shape[-1])[1]  # of equal values the lower index comes first
    return ops.argsort(order, axis=-1)


def before(scores, order):
    """Returns for each token the probability of all that come before it, places (B, V) of an order."""
    p = ops.softmax(scores, axis=-1)
    sorted_p = ops.take_along_axis(p, ops.argsort(order, axis=-1), axis=-1)
    return ops.take_along_axis(ops.cumsum(sorted_p, axis=-1) - sorted_p, order, axis=-1)


def masked(scores, removed):
    """Returns scores with -inf where a token is removed."""
    return ops.where(removed, ops.cast(-np.inf, scores.dtype), scores)


def remove(scores, removed, order, least):
    """Returns scores without the removed tokens, but with the first ones of an order."""
    return masked(scores, removed & (order >= least))


def repetition_penalty(scores, value, least):
    """Makes tokens less likely by factors (B, V), 1 where a token is new."""
    return ops.where(scores < 0, scores * value, scores / value)


def ban(scores, value, least):
    return masked(scores, value)


def temperature(scores, value, least):
    return scores / value


def highest(scores, count):
    """Returns which are the `count` highest of each row, of equal ones those of lower ids; without sorting them all."""
    bound = ops.top_k(scores, count)[0][:, -1:]
    above, equal = scores > bound, scores == bound
    room = count - ops.sum(ops.cast(above, "int32"), axis=-1, keepdims=True)
    return above | (equal & (ops.cumsum(ops.cast(equal, "int32"), axis=-1) <= room))


def top_k(scores, value, least):
    return masked(scores, ~highest(scores, min(max(value, least), scores.shape[-1])))


def top_p(scores, value, least):
    """Keeps the likeliest tokens that together reach the probability `value`, the one that reaches it included."""
    order = ranks(scores)
    return remove(scores, before(scores, order) >= value, order, least)


def min_p(scores, value, least):
    """Keeps tokens at least `value` times as likely as the likeliest."""
    p = ops.softmax(scores, axis=-1)
    return remove(scores, p < value * ops.max(p, axis=-1, keepdims=True), ranks(scores), least)


def typical_p(scores, value, least):
    """Keeps the tokens as surprising as is to be expected, that together reach the probability `value`."""
    logs = ops.log_softmax(scores, axis=-1)
    entropy = -ops.sum(ops.where(logs > -np.inf, ops.exp(logs) * logs, 0.0), axis=-1, keepdims=True)
    order = ranks(-ops.abs(-logs - entropy))
    return remove(scores, before(scores, order) >= value, order, least)


STEPS = {
    "repetition_penalty": repetition_penalty,
    "ban": ban,
    "temperature": temperature,
    "top_k": top_k,
    "top_p": top_p,
    "min_p": min_p,
    "typical_p": typical_p,
}


def process(scores, steps, values):
    """Returns scores after steps, whose arguments are given as tensors."""
    for step, value in zip(steps, values, strict=True):
        scores = STEPS[step.name](scores, step.value if isinstance(step.value, int) else value, step.least)
    return scores


def draw(scores, uniforms):
    """Returns by inverse CDF the token (B,) of each number (B,): where the sum of the probabilities passes it."""
    reached = ops.cumsum(ops.softmax(ops.cast(scores, "float64"), axis=-1), axis=-1)
    return ops.argmax(ops.cast(reached > uniforms[:, None] * reached[:, -1:], "int32"), axis=-1)


def pick(scores, uniforms):
    """Returns the next token (B,): the likeliest, or the drawn one."""
    return ops.argmax(scores, axis=-1) if uniforms is None else draw(scores, uniforms)


def best(scores, running, count, uniforms):
    """Returns (values, indices), (N, count), of scores (N*beams, V) added to those of their beams, running (N, beams).

    The highest, of equal ones the lower index first; or drawn with numbers (count, N), each from what is left.
    """
    N, beams = running.shape
    sums = ops.reshape(scores, (N, beams, -1)) + running[..., None]
    sums = ops.reshape(sums, (N, -1))  # (N, beams * V)
    if uniforms is None:
        return ops.top_k(sums, count)  # of equal ones the lower index comes first
    left, found = sums, []
    for i in range(count):
        found.append(draw(left, uniforms[i]))
        left = masked(left, ops.arange(sums.shape[-1])[None] == found[-1][:, None])
    indices = ops.stack(found, axis=-1)
    return ops.take_along_axis(sums, indices, axis=-1), indices
