"""A token of one row by XLA in Keras' `generate`: TensorFlow's own numbers, only where it pays, as users made it."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from gpt2_tf import TFGPT2LMHeadModel, attention, layers, matmul
from gpt2_tf.inference import decoder, graphs
from tests.heads import CONFIG
from tests.test_random_parity import random_config

ENDLESS = {"eos_token_id": [], "pad_token_id": 0, "return_dict_in_generate": True, "output_scores": True}
PROMPTS = {"one token": [[5]], "one row": [[5, 6, 7]], "three rows": [[5, 6, 7], [8, 9], [3]]}


@pytest.fixture
def wrong(monkeypatch):
    """Has what `direct` returns score all words by 0, which tells where it was asked."""
    plain = decoder.direct

    def direct(model):
        step = plain(model)

        def run(*given):
            logits, cache = step(*given)
            return 0 * logits, cache

        return step and run

    monkeypatch.setattr(decoder, "direct", direct)


def model_of(config=CONFIG, dtype="float64"):
    return TFGPT2LMHeadModel(config, seed=1, dtype=dtype)


def written(prompts, model=None, new=6, **given):
    return (model or model_of()).generate(prompts, max_new_tokens=new, **ENDLESS, **given)


def plainly(*given, **more):
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(decoder, "direct", lambda model: None)
        return written(*given, **more)


def assert_same(ours, plain, tolerance=1e-12):
    largest = max(np.abs(x).max() for x in plain.scores)
    np.testing.assert_allclose(np.stack(ours.scores), np.stack(plain.scores), rtol=0, atol=tolerance * largest)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("n_in, n_out", [(48, 7), (30, 31), (17, 5), (1, 3)])  # of 16, 15, 1 and 1 parts
def test_whole_numbers_are_exact(n_in, n_out, dtype):
    r = np.random.default_rng(0)
    x, weight = (r.integers(-9, 10, size) for size in [(1, 1, n_in), (n_in, n_out)])
    for layer, matrix in [(layers.Conv1D(n_in, n_out, dtype=dtype), weight), (layers.Linear(n_in, n_out), weight.T)]:
        run = graphs.shared(layer)(layer.call)
        values = [tf.Variable(matrix, dtype=layer.dtype), *([tf.ones(n_out, dtype)] * (layer.bias is not None))]
        found = run(values, tf.constant(x, layer.dtype))
        assert np.array_equal(found, x @ weight + (layer.bias is not None))
        assert not np.any(layer.weight)  # its own is left alone


@pytest.mark.parametrize("prompts", PROMPTS.values(), ids=PROMPTS)
@pytest.mark.parametrize("seed", range(4))
def test_the_same_logits(seed, prompts):
    """In float64 to its rounding, in float32 to its own, the same tokens; of random shapes and options."""
    config = dataclasses.replace(random_config(seed, "lm_head"), add_cross_attention=False)
    for dtype, tolerance in [("float64", 1e-12), ("float32", 1e-5)]:
        model = model_of(config, dtype)
        ours, plain = written(prompts, model), plainly(prompts, model)
        assert_same(ours, plain, tolerance)
        assert dtype == "float32" or np.array_equal(ours.sequences, plain.sequences)


def test_a_cache_that_grows_is_followed():
    """From 128 slots to 256, whose attention is compiled anew."""
    model = model_of(dataclasses.replace(CONFIG, n_positions=256))
    assert_same(written([[5, 6]], model, new=160), plainly([[5, 6]], model, new=160))


def test_which_way_is_taken(wrong):
    """One token of one row, which may be all of a prompt; not a prompt of several, nor several rows."""
    for prompts in PROMPTS.values():
        ours, plain = (np.stack(run(prompts).scores) for run in (written, plainly))
        if len(prompts) > 1:
            assert np.array_equal(ours, plain)
            continue
        first, rest = ours[0], ours[1:]
        assert not np.any(rest) and np.any(first) == (len(prompts[0]) > 1)


def test_one_block_is_traced_for_all(monkeypatch):
    """And once for every prompt, length and call."""
    traced, attend = [], attention.MultiHead.attend
    monkeypatch.setattr(attention.MultiHead, "attend", lambda *given: (traced.append(1), attend(*given))[1])
    model = model_of(dataclasses.replace(CONFIG, n_layer=3))
    for prompt in ([[5]], [[6]]):
        written(prompt, model)
        assert len(traced) == 1
    written([[5, 6, 7]], model)
    assert len(traced) == 1 + 3  # the prompt's are each block's


def test_weights_that_change_are_followed():
    model = model_of()
    before = written([[5]], model)
    for block in model.transformer.h:
        block.mlp.c_fc.weight.assign(-3 * block.mlp.c_fc.weight)
    after = written([[5]], model)
    assert_same(after, plainly([[5]], model))
    assert not np.allclose(before.scores, after.scores)


class Doubled(layers.Conv1D):
    """A layer of a user's."""

    def call(self, x):
        return 2 * super().call(x)


class Mine(TFGPT2LMHeadModel):
    """A model of a user's."""

    def logits(self, x):
        return 2 * super().logits(x)


class Bare(keras.layers.Layer):
    """A layer of a user's that has none of the parts that were there."""

    def call(self, x, seed=None):
        return 0.5 * x


def doubled():
    layer = Doubled(CONFIG.n_embd, CONFIG.n_embd, dtype="float64")
    layer.weight.assign(np.eye(CONFIG.n_embd))
    return layer


def changed(change):
    model = model_of()
    change(model)
    return model


MADE_OTHERWISE = {
    "another layer": lambda: changed(lambda m: setattr(m.transformer.h[1].attn, "c_proj", doubled())),
    "without its parts": lambda: changed(lambda m: setattr(m.transformer.h[1], "mlp", Bare(dtype="float64"))),
    "a function": lambda: changed(lambda m: setattr(m.transformer.h[0].ln_2, "call", lambda x: x / 2)),
    "one block's activation": lambda: changed(lambda m: setattr(m.transformer.h[1].mlp, "activation", "relu")),
    "one block's scale": lambda: model_of(dataclasses.replace(CONFIG, scale_attn_by_inverse_layer_idx=True)),
    "a model": lambda: Mine(CONFIG, seed=1, dtype="float64"),
    "a step": lambda: changed(lambda m: setattr(m, "step", m.step)),
    "16 bits": lambda: model_of(dtype="bfloat16"),
    "mixed precision": lambda: model_of(dtype="mixed_bfloat16"),
}


@pytest.mark.parametrize("make", MADE_OTHERWISE.values(), ids=MADE_OTHERWISE)
def test_what_a_user_made_otherwise_is_not_passed_by(make, wrong):
    model = make()
    ours, plain = (np.asarray(np.stack(run([[5, 6]], model).scores), "float64") for run in (written, plainly))
    assert np.array_equal(ours, plain) and np.all(np.any(ours, axis=-1))


@pytest.mark.parametrize("change", [("on_cpu", lambda: False), ("has_xla", lambda: False)], ids=["a GPU", "no XLA"])
def test_where_it_cannot_be_compiled(change, wrong, monkeypatch):
    monkeypatch.setattr(matmul, *change)
    assert np.all(np.any(written([[5]]).scores, axis=-1))


def test_an_encoder_s_texts_are_left_alone(wrong):
    model = model_of(dataclasses.replace(CONFIG, add_cross_attention=True))
    states = np.random.default_rng(0).normal(size=(1, 4, CONFIG.n_embd))
    assert np.all(np.any(written([[5]], model, encoder_hidden_states=states).scores, axis=-1))


def test_other_calls_are_left_alone():
    """After a step was traced nothing of it is left behind: not its way to multiply, nor one block's weights."""
    model, ids = model_of(), np.array([[5, 6]])
    before = model(ids).logits
    written([[5]], model)
    for logits in (
        model(ids).logits,
        tf.function(model)(tf.constant(ids)).logits,
        model.predict(ids, verbose=0).logits,
    ):
        np.testing.assert_allclose(logits, before, rtol=0, atol=1e-12)
    with pytest.raises(ZeroDivisionError), matmul.one_row():
        assert matmul._one_row.get()
        1 / 0  # noqa: B018
    assert not matmul._one_row.get()


def test_eager_functions_write_the_same():
    expected = written([[5, 6]])
    tf.config.run_functions_eagerly(True)
    try:
        assert_same(written([[5, 6]]), expected)
    finally:
        tf.config.run_functions_eagerly(False)


def test_a_graph_s_operations_are_started_in_order(monkeypatch):
    """As long as TensorFlow has its private way to say so, and only meanwhile."""
    from tensorflow.python.eager import context

    def executor():
        return context.context().function_call_options.executor_type

    seen, with_its_graph = [], graphs.graph

    def watched(*given):
        made = with_its_graph(*given).get_concrete_function()

        def run(*tokens):
            seen.append(executor())
            return made(*tokens)

        run.get_concrete_function = lambda: run
        return run

    monkeypatch.setattr(graphs, "graph", watched)
    expected = written([[5, 6]], new=3)
    assert seen == ["SINGLE_THREADED_EXECUTOR"] * 3 and not executor()
    monkeypatch.delattr(context, "function_executor_type")
    seen.clear()
    assert_same(written([[5, 6]], new=3), expected, 0)
    assert len(seen) == 3 and not any(seen)
