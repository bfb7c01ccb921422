"""Dropout from seeds that are arguments: one seed a training step, a numbered place of it for each layer that drops."""

import keras
from keras import ops


class Drawn(keras.random.SeedGenerator):
    """A seed (2,) that was drawn before, so that what drops by it drops the same when it is computed again."""

    def __init__(self, seed):
        self.seed = seed

    def next(self, ordered=True):
        return self.seed


def place(seed, n):
    """Returns the seed of the n-th place of those that share a seed; None stays None."""
    return None if seed is None else seed + ops.convert_to_tensor([n, 0], seed.dtype)


def dropout(x, rate, seed, n=0):
    """Returns x, a part `rate` of it set to 0 and the rest grown, by the n-th place's seed; None drops nothing."""
    return x if seed is None or rate == 0 else keras.random.dropout(x, rate, seed=Drawn(place(seed, n)))
