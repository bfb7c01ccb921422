"""How a layer makes a weight, which Keras does through an initializer."""

import keras
import numpy as np
from keras import ops

_ALIGNED = 64  # bytes that TensorFlow has its tensors begin at a multiple of


class Start:
    """Initial values of a weight: zeros, or what `read` returns if it is set before Keras asks."""

    read = None

    def __call__(self, shape, dtype=None):
        read, self.read = self.read, None
        return ops.zeros(shape, dtype) if read is None else read()


def tensor_of(values):
    """Returns an array that no one else holds as a tensor of TensorFlow, which by itself copies it twice.

    Here it is copied once, or not at all where it is aligned as TensorFlow needs it. As it is on other backends.
    """
    if keras.config.backend() != "tensorflow":
        return values
    import tensorflow as tf

    bits = values.view(np.uint16) if values.dtype.name == "bfloat16" else values  # a type that numpy's DLPack lacks
    if bits.ctypes.data % _ALIGNED or not bits.flags.c_contiguous:
        memory = np.empty(bits.nbytes + _ALIGNED, np.uint8)
        start = -memory.ctypes.data % _ALIGNED
        aligned = memory[start : start + bits.nbytes].view(bits.dtype).reshape(bits.shape)
        np.copyto(aligned, bits)
        bits = aligned
    tensor = tf.experimental.dlpack.from_dlpack(bits.__dlpack__())
    return tf.bitcast(tensor, tf.bfloat16) if values.dtype.name == "bfloat16" else tensor


def parameter(layer, name, *shape, autocast=True):
    """Returns a new weight of `layer`, zeros until values are assigned; autocast: mixed precision may narrow it."""
    start = Start()
    weight = layer.add_weight(shape=shape, name=name, initializer=start, autocast=autocast)
    weight.start = start
    return weight
