"""How a layer makes a weight, which Keras does through an initializer."""

from keras import ops


class Start:
    """Initial values of a weight: zeros, or what `read` returns if it is set before Keras asks."""

    read = None

    def __call__(self, shape, dtype=None):
        read, self.read = self.read, None
        return ops.zeros(shape, dtype) if read is None else read()


def parameter(layer, name, *shape, autocast=True):
    """Returns a new weight of `layer`, zeros until values are assigned; autocast: mixed precision may narrow it."""
    start = Start()
    weight = layer.add_weight(shape=shape, name=name, initializer=start, autocast=autocast)
    weight.start = start
    return weight
