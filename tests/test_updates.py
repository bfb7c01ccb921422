"""The optimizer's updates by XLA: the same weights as by TensorFlow's own operations, and only where they compile."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from gpt2_core import GPT2Error
from gpt2_core.parity import require_close
from gpt2_tf import TFGPT2LMHeadModel, matmul
from tests.frameworks import Keras
from tests.heads import CONFIG

SMALL = dataclasses.replace(CONFIG, n_layer=1, embd_pdrop=0.0, attn_pdrop=0.0, resid_pdrop=0.0)
FALLING = keras.optimizers.schedules.ExponentialDecay(0.01, 1, 0.5)
OPTIMIZERS = {
    "SGD": lambda: keras.optimizers.SGD(0.1, momentum=0.9, nesterov=True),
    "Adam": lambda: keras.optimizers.Adam(0.01, amsgrad=True, use_ema=True, ema_overwrite_frequency=2),
    "AdamW by a schedule": lambda: keras.optimizers.AdamW(FALLING, weight_decay=0.1, clipnorm=0.1),
    "Lamb": lambda: keras.optimizers.Lamb(0.01, global_clipnorm=0.5),
    "Nadam": lambda: keras.optimizers.Nadam(0.01),
}


def tokens(T=7, seed=0):
    return np.random.default_rng(seed).integers(1, 50, (4, T))


def trained(model, lengths=(7, 7, 7)):
    """Returns the losses of one step for each batch, given a length."""
    batches = [tokens(T, seed) for seed, T in enumerate(lengths)]
    return [float(model.train_on_batch({"input_ids": ids, "labels": ids})) for ids in batches]


def compiled(model):
    """Whether XLA made the model's updates."""
    return "_updates" in vars(model)


def create(optimizer, config=SMALL, dtype="float32", **given):
    model = TFGPT2LMHeadModel(config, seed=1, dtype=dtype)
    model.compile(optimizer, **given)
    return model


@pytest.mark.parametrize("name, tied", [*((name, True) for name in OPTIMIZERS), ("SGD", False)])
def test_the_same_weights(name, tied):
    """Of two tables the gradient of one is but the rows that were looked up."""
    optimizer = OPTIMIZERS[name]
    config = dataclasses.replace(SMALL, tie_word_embeddings=tied)
    # in float32 Adam's first steps make as much of a gradient that is only rounding as of any other
    models = [create(optimizer(), config, "float64", jit_compile=asked) for asked in ("auto", False)]
    losses = [trained(model) for model in models]
    assert [compiled(model) for model in models] == [True, False]
    assert losses[0] == pytest.approx(losses[1], rel=1e-12) and losses[0][-1] != losses[0][0]
    require_close(*(Keras().weights(model) for model in models), 1e-10)
    assert int(models[0].optimizer.iterations) == 3
    pairs = zip(*(model.optimizer.variables for model in models), strict=True)
    require_close(*({str(i): x.numpy() for i, x in enumerate(side)} for side in zip(*pairs, strict=True)), 1e-10)


class Halved(keras.optimizers.SGD):
    """What a user may write, and XLA cannot compile."""

    def update_step(self, gradient, variable, learning_rate):
        half = tf.numpy_function(lambda x: x / 2, [tf.convert_to_tensor(gradient)], gradient.dtype)
        super().update_step(tf.ensure_shape(half, variable.shape), variable, learning_rate)


class Stepwise(keras.optimizers.schedules.LearningRateSchedule):
    """Likewise."""

    def __call__(self, step):
        rate = tf.numpy_function(lambda n: np.float32(0.1 / (n + 1)), [tf.convert_to_tensor(step)], tf.float32)
        return tf.ensure_shape(rate, ())


SGD = keras.optimizers.SGD
PLAIN = {
    "asked not to": lambda: create(SGD(0.1), jit_compile=False),
    "all of the step": lambda: create(SGD(0.1), jit_compile=True),
    "step by step": lambda: create(SGD(0.1), run_eagerly=True),
    "a user's optimizer": lambda: create(Halved(0.1)),
    "a user's schedule": lambda: create(SGD(Stepwise())),
    "a function as rate": lambda: create(SGD(lambda: 0.1)),
    "accumulation": lambda: create(SGD(0.1, gradient_accumulation_steps=2)),
    "a scaled loss": lambda: create(keras.optimizers.LossScaleOptimizer(SGD(0.1), initial_scale=4.0)),
}


@pytest.mark.parametrize("make", PLAIN.values(), ids=PLAIN)
def test_where_they_are_left_alone(make):
    model = make()
    before = Keras().weights(model)
    trained(model)
    assert not compiled(model)
    after = Keras().weights(model)
    assert all(np.abs(after[name] - before[name]).max() > 0 for name in before)


def test_a_weight_s_constraint_is_the_user_s():
    model = create(SGD(0.1))
    # a constraint that XLA cannot compile
    model.transformer.ln_f.weight.constraint = lambda x: tf.ensure_shape(
        tf.numpy_function(lambda w: np.minimum(w, 0.5), [tf.convert_to_tensor(x)], tf.float32), x.shape
    )
    trained(model)
    assert not compiled(model) and model.transformer.ln_f.weight.numpy().max() == 0.5


def test_without_xla(monkeypatch):
    def unknown(function, **given):
        def run(*args):
            raise tf.errors.NotFoundError(None, None, "no device XLA_CPU_JIT")

        return run if given.get("jit_compile") else function

    with monkeypatch.context() as patch:
        patch.setattr(tf, "function", unknown)
        assert matmul.has_xla.__wrapped__() is False
    assert matmul.has_xla.__wrapped__() is True
    monkeypatch.setattr(matmul, "has_xla", lambda: False)
    model = create(SGD(0.1))
    trained(model)
    assert not compiled(model)


def test_one_compilation_for_every_length():
    model = create("adam", dataclasses.replace(SMALL, tie_word_embeddings=False))
    trained(model, [5, 6, 7, 8])
    assert model._updates[1].experimental_get_tracing_count() == 1


def test_compiling_again_takes_what_has_changed():
    model = create(SGD(0.1))
    trained(model)
    moved = Keras().weights(model)
    model.optimizer.clipvalue = 1e-30
    model.compile(model.optimizer)
    trained(model)
    require_close(Keras().weights(model), moved, 1e-12)
    model.optimizer.clipvalue = None
    model.transformer.wpe.trainable = False
    model.compile(model.optimizer)
    trained(model)
    now = Keras().weights(model)
    still = {name for name in now if np.array_equal(now[name], moved[name])}
    assert still == {"transformer.wpe.weight"}


def test_an_optimizer_is_as_it_was_afterwards():
    model = create("adam")
    trained(model, [7])
    assert "apply" not in vars(model.optimizer)
    other = TFGPT2LMHeadModel(SMALL, seed=1)
    other.compile("adam")
    with pytest.raises(GPT2Error, match="the model's own loss takes no weights"):
        other.fit(tokens(), tokens(), sample_weight=np.ones(4), verbose=0)
    assert "apply" not in vars(other.optimizer)


@pytest.mark.parametrize("asked", ["auto", False, True])
def test_a_loaded_model_goes_on(asked, tmp_path):
    model = create(OPTIMIZERS["AdamW by a schedule"](), jit_compile=asked)
    trained(model)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert again.asked_to_compile == asked and again.jit_compile is (asked is True)
    assert trained(again) == pytest.approx(trained(model), rel=1e-6)
    assert compiled(again) is (asked == "auto")


def test_a_model_saved_without_being_compiled(tmp_path):
    TFGPT2LMHeadModel(SMALL, seed=1).save(tmp_path / "model.keras")
    assert keras.saving.load_model(tmp_path / "model.keras").compiled is False
    create(None).save(tmp_path / "model.keras")
    assert keras.saving.load_model(tmp_path / "model.keras").optimizer is None
