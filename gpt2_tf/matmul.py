"""Products, some of which are computed in another way where TensorFlow's own, by Eigen, is slow on this processor."""

import contextlib
import contextvars
import functools

import keras
from keras import ops

_by_xla = contextvars.ContextVar("whether a step of fit is traced whose products XLA is to compute", default=False)
_one_row = contextvars.ContextVar("whether what is traced is for XLA and for one row", default=False)
_WIDE = ("float32", "float64")
_LEAST = 2**12  # numbers of a row of a batch for which it pays: each size takes some hundredths of a second to compile
_PARTS = 16  # of one row, at most, which XLA multiplies side by side
_ROWS = 256  # that Eigen multiplies by a table of words faster if the table comes first: 2 to 7 in a fifth of the time


@contextlib.contextmanager
def products_by_xla(model):
    """Has XLA compute the products that it computes faster, where this suits it, while a step of `fit` is traced."""
    token = _by_xla.set(may_compile(model) and not has_onednn())
    try:
        yield
    finally:
        _by_xla.reset(token)


@contextlib.contextmanager
def one_row():
    """Has the one row of what is traced for XLA multiplied in parts."""
    token = _one_row.set(True)
    try:
        yield
    finally:
        _one_row.reset(token)


def may_compile(model):
    """Whether a step becomes a graph on a CPU, parts of which Keras was left free to compile."""
    if keras.config.backend() != "tensorflow" or model.asked_to_compile != "auto":
        return False
    import tensorflow as tf

    # jit_compile: they are compiled with the rest of a step
    return not model.jit_compile and not tf.executing_eagerly() and can_compile()


def can_compile():
    """Whether XLA can compile parts of a graph, which is for the CPU alone."""
    import tensorflow as tf

    return not tf.distribute.has_strategy() and on_cpu() and has_xla()


def on_cpu():
    """Whether TensorFlow has no other processor than the CPU."""
    import tensorflow as tf

    return all(device.device_type == "CPU" for device in tf.config.list_logical_devices())


@functools.cache
def has_xla():
    """Whether this build of TensorFlow compiles for the processor."""
    import tensorflow as tf

    with tf.init_scope():
        try:
            tf.function(lambda: tf.constant(0), jit_compile=True)()
        except tf.errors.OpError:
            return False
    return True


@functools.cache
def has_onednn():
    """Whether TensorFlow multiplies by oneDNN, as it does on processors with VNNI; elsewhere Eigen does."""
    try:
        from tensorflow.python.util import _pywrap_util_port

        return _pywrap_util_port.IsMklEnabled()
    except (ImportError, AttributeError):  # TensorFlow promises no such function
        return True


def product(x, weight):
    """Returns x (..., n_in) times weight (n_in, n_out), as a product of two axes: of more Keras asks TensorFlow for the
    shape by nine operations, which take longer than one row does."""
    if len(x.shape) == 2:
        return ops.matmul(x, weight)
    n_in, n_out = weight.shape
    flat = ops.reshape(x, (-1, n_in))
    flat = by_xla(flat, weight) if suits(x) else in_parts(flat, weight) if _one_row.get() else ops.matmul(flat, weight)
    return ops.reshape(flat, (-1, *ops.shape(x)[1:-1], n_out))


def scores(x, rows):
    """Returns x (..., C) times each of rows (K, C), (..., K)."""
    if keras.config.backend() != "tensorflow":
        return product(x, ops.transpose(rows))
    import tensorflow as tf

    # Keras has no product that transposes as it multiplies: it would copy a table of words in each eager call, and
    # its gradient in each step of training
    K, C = rows.shape
    flat = ops.reshape(x, (-1, C))
    if suits(x):
        flat = by_xla(flat, rows, transposed=True)
    elif not has_onednn() and on_cpu() and (flat.shape[0] or 1) <= _ROWS:  # a graph may not know how many: as of few
        flat = table_first(flat, rows)
    else:
        flat = tf.matmul(flat, rows, transpose_b=True)
    return flat if len(x.shape) == 2 else ops.reshape(flat, (-1, *ops.shape(x)[1:-1], K))


def similarities(q, k):
    """Returns each query of q (B, H, T, D) times each key of k (B, H, S, D), (B, H, T, S)."""
    if suits(q, k):
        return by_xla(q, k, transposed=True)
    if not _one_row.get():
        return ops.matmul(q, ops.transpose(k, (0, 1, 3, 2)))
    import tensorflow as tf

    return tf.matmul(q, k, transpose_b=True)  # as they lie: XLA would copy keys that are transposed beforehand


def weighted(w, v):
    """Returns the sums of values v (B, H, S, D) by weights w (B, H, T, S), (B, H, T, D)."""
    return by_xla(w, v) if suits(w, v) else ops.matmul(w, v)


def table_first(x, rows):
    """Returns x (N, C) times each of rows (K, C), (N, K)."""
    import tensorflow as tf

    return tf.transpose(tf.matmul(rows, x, transpose_b=True))


def in_parts(x, weight):
    """Returns x (1, n_in) times weight (n_in, n_out), as a sum of products of parts, which XLA gives to all cores."""
    import tensorflow as tf

    n_in, n_out = weight.shape
    parts = next(parts for parts in range(_PARTS, 0, -1) if n_in % parts == 0)
    shares = tf.reshape(x, (parts, 1, -1)) @ tf.reshape(weight, (parts, -1, n_out))  # (parts, 1, n_out)
    return tf.reduce_sum(shares, axis=0)


def suits(*factors):
    """Whether XLA may compute products of these, (B, ..., T, N): it compiles anew for each size, of which only B may
    change from step to step."""
    return _by_xla.get() and all(
        x.dtype.name in _WIDE and len(x.shape) > 2 and None not in x.shape[1:] and x.shape[-2] * x.shape[-1] >= _LEAST
        for x in factors
    )


def by_xla(a, b, transposed=False):
    """Returns a times b, which may be transposed; it and its gradients are each computed by what computes it faster."""
    import tensorflow as tf

    @tf.custom_gradient
    def run(a, b):
        def gradients(share):
            of_a = multiply(share, b, transpose_b=not transposed)
            of_b = multiply(share, a, transpose_a=True) if transposed else multiply(a, share, transpose_a=True)
            return of_a, of_b

        return multiply(a, b, transpose_b=transposed), gradients

    return run(a, tf.convert_to_tensor(b))


def multiply(a, b, transpose_a=False, transpose_b=False):
    """a times b: by XLA where b is transposed and of batches of matrices, else by Eigen, which is then as fast."""
    import tensorflow as tf

    run = compiled(tf.matmul) if transpose_b or len(a.shape) > 2 else tf.matmul
    return run(a, b, transpose_a, transpose_b)


@functools.cache
def compiled(function):
    """Returns a function that XLA compiles, once for each size of what it is given."""
    import tensorflow as tf

    return tf.function(function, jit_compile=True, autograph=False)
