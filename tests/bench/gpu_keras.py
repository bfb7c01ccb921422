"""What gpu.py times of gpt2_tf, on the backend of Keras that sees the device."""

import functools
import importlib.util
import os

import numpy as np

from tests.bench.gpu_contenders import DECAY, EPSILON, RATE, Writer, continued


def backend_of(device):
    """Returns the backend of Keras that computes on such a device, made ready to leave memory to PyTorch."""
    wanted = "gpu" if device == "cuda" else "cpu"
    told = os.environ.get("KERAS_BACKEND")
    for name in filter(importlib.util.find_spec, [told] if told else ["jax", "tensorflow"]):
        if name == "jax":
            os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
            import jax

            fits = jax.default_backend() == wanted
        else:
            import tensorflow as tf

            gpus = tf.config.list_physical_devices("GPU")
            fits = wanted == "cpu" or bool(gpus)
            for gpu in gpus:
                tf.config.experimental.set_memory_growth(gpu, True)
        if fits:
            os.environ["KERAS_BACKEND"] = name
            return name
    raise ImportError(f"neither JAX nor TensorFlow, for Keras, is installed and sees a {wanted.upper()}")


def model_of(config, policy):
    from gpt2_tf import TFGPT2LMHeadModel

    return TFGPT2LMHeadModel(config, seed=0, dtype=policy)


def compiled_step(model, backend):
    """Returns a Keras model's step through XLA; on JAX with its weights as arguments and the cache in its place."""
    if backend == "tensorflow":
        import tensorflow as tf

        return tf.function(model.step, jit_compile=True, autograph=False)
    import jax
    import keras

    weights, step = model.weights, model.step

    def run(values, given, cache, every):
        with keras.StatelessScope(state_mapping=list(zip(weights, values, strict=True))):
            return step(*given, cache, every=every)

    read = jax.jit(run, static_argnums=3)
    go_on = jax.jit(run, static_argnums=3, donate_argnums=2)  # not of an empty cache, whose parts share their memory

    def replaced(input_ids, position_ids, kept, places, past, encoder=None, encoder_mask=None, every=False):
        values, given = [weight.value for weight in weights], (input_ids, position_ids, kept, places)
        return (go_on if input_ids.shape[1] == 1 else read)(values, given, past, every)

    return replaced


def writers(config, setting):
    backend = backend_of(setting.device)
    model = model_of(config, setting.dtype)

    def write(step, ids, new):
        return np.asarray(continued(model, step, ids, new))[:, -new:]

    steps = {", XLA": compiled_step(model, backend)}
    if backend == "tensorflow":  # JAX would run the step one operation after the other
        steps[""] = None
    return {f"gpt2_tf on {backend}{name}": Writer(functools.partial(write, step), True) for name, step in steps.items()}


def learners(config, setting):
    backend = backend_of(setting.device)

    def make():
        import keras

        model = model_of(config, "mixed_bfloat16" if setting.dtype == "bfloat16" else setting.dtype)
        model.compile(keras.optimizers.AdamW(RATE, weight_decay=DECAY, epsilon=EPSILON))
        return lambda ids: model.train_on_batch(ids, ids)  # a number: it waits for the GPU

    return {f"gpt2_tf on {backend}": make}
