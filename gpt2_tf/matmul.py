"""Products, some of which are computed in another way where TensorFlow's own, by Eigen, is slow on this processor."""

import contextlib
import contextvars
import functools
import math

import keras
from keras import ops

_by_xla = contextvars.ContextVar("whether a step of fit is traced whose products XLA is to compute", default=False)
_rows_by_xla = contextvars.ContextVar("whether a step of generate is, and XLA is to multiply one row", default=False)
_WIDE = ("float32", "float64")
_LEAST = 2**12  # numbers of a row of a batch for which it pays: each size takes some hundredths of a second to compile
_LARGE = 2**20  # numbers of a matrix that XLA multiplies one row by sooner than Eigen, which takes one core for it
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
def rows_by_xla():
    """Has XLA multiply one row, where this suits it, while a step of `generate` is traced."""
    token = _rows_by_xla.set(in_graph_on_cpu() and not has_onednn())
    try:
        yield
    finally:
        _rows_by_xla.reset(token)


def may_compile(model):
    """Whether a step becomes a graph on a CPU, parts of which Keras was left free to compile."""
    if keras.config.backend() != "tensorflow" or model.asked_to_compile != "auto":
        return False
    return not model.jit_compile and in_graph_on_cpu()  # jit_compile: they are compiled with the rest of a step


def in_graph_on_cpu():
    """Whether TensorFlow traces a graph for the CPU alone, parts of which XLA can compile."""
    import tensorflow as tf

    return not tf.executing_eagerly() and not tf.distribute.has_strategy() and on_cpu() and has_xla()


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
    flat = by_xla(flat, weight) if suits(x) else chosen(flat, weight, ops.matmul, in_parts)
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
        flat = chosen(flat, rows, table_first, table_first)
    else:
        flat = tf.matmul(flat, rows, transpose_b=True)
    return flat if len(x.shape) == 2 else ops.reshape(flat, (-1, *ops.shape(x)[1:-1], K))


def similarities(q, k):
    """Returns each query of q (B, H, T, D) times each key of k (B, H, S, D), (B, H, T, S)."""
    return by_xla(q, k, transposed=True) if suits(q, k) else ops.matmul(q, ops.transpose(k, (0, 1, 3, 2)))


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


def chosen(x, matrix, plain, alone):
    """Returns plain(x, matrix) of rows x (N, C); in a step of `generate`, of one row, alone(x, matrix) by XLA."""
    if not (_rows_by_xla.get() and x.dtype.name in _WIDE and math.prod(matrix.shape) >= _LARGE):
        return plain(x, matrix)
    import tensorflow as tf

    matrix = tf.convert_to_tensor(matrix)
    # what TensorFlow makes of its own `cond`, two functions of which would take half a second or more of a first call
    several, one = tf.raw_ops.Switch(data=x, pred=tf.equal(tf.shape(x)[0], 1))
    return tf.raw_ops.Merge(inputs=[plain(several, matrix), compiled(alone)(one, matrix)]).output


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
