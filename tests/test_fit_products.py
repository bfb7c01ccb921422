"""Products of a step of `fit` by XLA: TensorFlow's own numbers, and only where sizes are known beforehand."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from gpt2_core.parity import require_close
from gpt2_core.weights import HEADS
from gpt2_tf import TFGPT2LMHeadModel, matmul
from tests.comparing import measured_by_the_largest
from tests.frameworks import Keras
from tests.heads import CONFIG, TARGETS, labelled
from tests.random_cases import random_config
from tests.test_random_parity import compare_trees, random_inputs_of

HAS_ONEDNN = matmul.has_onednn.__wrapped__


@pytest.fixture(autouse=True)
def multiplied(monkeypatch):
    """Has small products compiled too, as where TensorFlow has no oneDNN; returns the shapes that XLA is given."""
    shapes, function = [], matmul.compiled
    monkeypatch.setattr(matmul, "_LEAST", 0)
    monkeypatch.setattr(matmul, "has_onednn", lambda: False)

    def noted(run):
        return lambda a, *rest: (shapes.append(tuple(a.shape)), function(run)(a, *rest))[1]

    monkeypatch.setattr(matmul, "compiled", noted)
    return shapes


def create(head="lm_head", dtype="float64", **given):
    model = Keras().create(head, CONFIG, seed=1, dtype=dtype)
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9), **given)
    return model


def fitted(model, head="lm_head", rows=6):
    """Returns the losses of two epochs of full batches and a smaller one, dropout included."""
    inputs, targets = labelled(head, rows)
    return model.fit({**inputs, **targets}, epochs=2, batch_size=4, shuffle=False, verbose=0).history["loss"]


@pytest.mark.parametrize("head", TARGETS)
def test_the_same_weights(head, multiplied):
    """The products of two rows of text are compiled as those of four are: a graph does not know how many there are."""
    model, plain = create(head), create(head, jit_compile=False)
    losses = fitted(model, head)
    assert {len(shape) for shape in multiplied} == {2, 4} and None in {shape[0] for shape in multiplied}
    multiplied.clear()
    assert losses == pytest.approx(fitted(plain, head), rel=1e-12) and not multiplied
    weights = [Keras().weights(x) for x in (model, plain)]
    require_close(*(measured_by_the_largest(x, weights[1], "float64") for x in weights), 1e-10)


def test_the_same_weights_where_they_are_computed_again(multiplied):
    models = [create(), create(jit_compile=False)]
    for model in models:
        model.gradient_checkpointing_enable()
    losses = [fitted(model) for model in models]
    assert losses[0] == pytest.approx(losses[1], rel=1e-12) and multiplied
    require_close(*(Keras().weights(model) for model in models), 1e-10)


@pytest.fixture
def always(monkeypatch):
    """Has every product by XLA, as if each graph were a step's."""
    monkeypatch.setattr(matmul, "_by_xla", type("Always", (), {"get": staticmethod(lambda: True)}))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("head", HEADS)
def test_the_other_framework_s_numbers(head, seed, always, multiplied):
    """Every output and every gradient, also of a past, an encoder, masks; in float64 and in float32."""
    compare_trees(Keras(mode="graph"), head, random_config(seed, head), random_inputs_of(head, seed), seed)
    assert multiplied


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("batch", [(), (2, 3)], ids=["two axes", "four"])
def test_second_gradients(batch, transposed):
    """As a penalty of a gradient asks for."""
    r = np.random.default_rng(0)
    a = tf.constant(r.normal(size=(*batch, 4, 5)))
    b = tf.constant(r.normal(size=(*batch, 6, 5) if transposed else (*batch, 5, 6)))

    def derived(function):
        with tf.GradientTape() as outer:
            outer.watch([a, b])
            with tf.GradientTape() as inner:
                inner.watch([a, b])
                y = tf.sin(function(a, b))
            first = inner.gradient(y, [a, b])
            y = sum(tf.reduce_sum(tf.cos(x)) for x in first)
        return [*first, *outer.gradient(y, [a, b])]

    expected = derived(lambda a, b: tf.matmul(a, b, transpose_b=transposed))
    for function in (derived, tf.function(derived)):
        found = function(lambda a, b: matmul.by_xla(a, b, transposed))
        for ours, theirs in zip(found, expected, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-12)


PLAIN = {
    "asked not to": {"jit_compile": False},
    "all of the step": {"jit_compile": True},
    "step by step": {"run_eagerly": True},
    "16 bits": {"dtype": "bfloat16"},
}


@pytest.mark.parametrize("given", PLAIN.values(), ids=PLAIN)
def test_where_they_are_left_alone(given, multiplied):
    fitted(create(**given))
    assert not multiplied


def test_texts_of_any_length_are_left_alone(multiplied):
    """XLA would compile anew for each."""
    ids = tf.TensorSpec([None, None], "int32")
    batches = (np.full((2, T), T) for T in (5, 7))
    texts = tf.data.Dataset.from_generator(
        lambda: ({"input_ids": x, "labels": x} for x in batches), output_signature={"input_ids": ids, "labels": ids}
    )
    create().fit(texts, verbose=0)
    assert not multiplied


@pytest.mark.parametrize("change", ["has_onednn", "small", "no XLA"])
def test_processors_and_sizes_for_which_they_are_not(change, multiplied, monkeypatch):
    changes = {
        "has_onednn": ("has_onednn", lambda: True),
        "small": ("_LEAST", 2**20),
        "no XLA": ("has_xla", lambda: False),
    }
    monkeypatch.setattr(matmul, *changes[change])
    fitted(create())
    assert not multiplied


def test_only_steps_of_training(multiplied):
    """Nor do they stay with the thread, or the model."""
    model = create()
    fitted(model)
    multiplied.clear()
    inputs, targets = labelled("lm_head")
    model.predict(inputs, verbose=0)
    model.evaluate({**inputs, **targets}, verbose=0)
    tf.function(lambda ids: model(ids, training=True).logits)(tf.constant(inputs["input_ids"]))
    model.generate([[5, 6]], max_new_tokens=2)
    assert not multiplied


def test_an_error_leaves_nothing_behind(multiplied):
    model = create()
    inputs, targets = labelled("lm_head")
    with pytest.raises(Exception, match="loss takes no weights"):
        model.fit(inputs, targets["labels"], sample_weight=np.ones(8), verbose=0)
    assert matmul._by_xla.get() is False


def test_what_tensorflow_multiplies_by_is_known():
    """It says so to who asks for it; a version that does not is left alone."""
    assert HAS_ONEDNN() in (True, False)


def test_a_model_s_user_may_have_a_step_of_their_own(multiplied):
    class Mine(TFGPT2LMHeadModel):
        def train_step(self, x):
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean(self(**x, training=True).loss)
            self.optimizer.apply(tape.gradient(loss, self.trainable_variables), self.trainable_variables)
            return {"loss": loss}

    model = Mine(CONFIG, seed=1)
    model.compile(keras.optimizers.SGD(0.1))
    before = Keras().weights(model)
    fitted(model)
    assert all(np.abs(x - before[name]).max() > 0 for name, x in Keras().weights(model).items()) and not multiplied
