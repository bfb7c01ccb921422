"""How a layer makes a weight, which Keras does through an initializer."""

import keras
import numpy as np
from keras import ops


class Start:
    """Initial values of a weight: zeros, or what `read` returns if it is set before Keras asks."""

    read = None

    def __call__(self, shape, dtype=None):
        read, self.read = self.read, None
        return ops.zeros(shape, dtype) if read is None else read()


def tensor_of(values):
    """Returns an array that no one else holds as a tensor of TensorFlow, which by itself would copy it twice.

    As it is on other backends, and where it is not aligned as TensorFlow needs it, to 64 bytes.
    """
    if keras.config.backend() != "tensorflow" or values.ctypes.data % 64 or not values.flags.c_contiguous:
        return values
    import tensorflow as tf

    narrow = values.dtype.name == "bfloat16"  # a type that numpy's DLPack lacks
    bits = values.view(np.uint16) if narrow else values
    tensor = tf.experimental.dlpack.from_dlpack(bits.__dlpack__())
    return tf.bitcast(tensor, tf.bfloat16) if narrow else tensor


def parameter(layer, name, *shape, autocast=True):
    """Returns a new weight of `layer`, zeros until values are assigned; autocast: mixed precision may narrow it."""
    start = Start()
    weight = layer.add_weight(shape=shape, name=name, initializer=start, autocast=autocast)
    weight.start = start
    return weight
