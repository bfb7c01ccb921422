"""One row's products by XLA in Keras' `generate`: TensorFlow's own numbers, and only where it pays."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from gpt2_tf import TFGPT2LMHeadModel, matmul
from tests.heads import CONFIG
from tests.test_random_parity import random_config

ENDLESS = {"eos_token_id": [], "pad_token_id": 0, "return_dict_in_generate": True, "output_scores": True}
PROMPTS = {"one token": [[5]], "one row": [[5, 6, 7]], "three rows": [[5, 6, 7], [8, 9], [3]]}


@pytest.fixture(autouse=True)
def forced(monkeypatch):
    """Has small matrices multiplied so too, as where TensorFlow has no oneDNN."""
    monkeypatch.setattr(matmul, "_LARGE", 0)
    monkeypatch.setattr(matmul, "has_onednn", lambda: False)


@pytest.fixture
def wrong(monkeypatch):
    """Has what XLA computes be zeros, which tell where it was asked."""
    monkeypatch.setattr(matmul, "compiled", lambda function: lambda x, matrix: 0 * function(x, matrix))


def as_step(function, width, matrix):
    """Returns a function of x (B, T, width) and a matrix as a graph, traced as a step of generate is."""

    def run(x, matrix):
        with matmul.rows_by_xla():
            return function(x, matrix)

    any_rows = tf.TensorSpec([None, None, width], matrix.dtype)
    return tf.function(run, input_signature=[any_rows, tf.TensorSpec(matrix.shape, matrix.dtype)])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("n_in, n_out", [(48, 7), (30, 31), (17, 5), (1, 3)])  # of 16, 15, 1 and 1 parts
@pytest.mark.parametrize("rows", [(1, 1), (1, 4), (3, 1)])
def test_whole_numbers_are_exact(rows, n_in, n_out, dtype):
    r = np.random.default_rng(0)
    x, weight = (r.integers(-9, 10, size) for size in [(*rows, n_in), (n_in, n_out)])
    for function, matrix in [(matmul.product, weight), (matmul.scores, weight.T)]:
        given = tf.constant(x, dtype), tf.constant(matrix, dtype)
        assert np.array_equal(as_step(function, n_in, given[1])(*given), x @ weight)


@pytest.mark.parametrize("rows", [(1, 1), (1, 4), (3, 1)])
def test_which_way_is_taken(rows, wrong):
    """As a graph that does not know how many rows there will be: XLA's for one, Eigen's for more."""
    x, weight = np.ones((*rows, 48)), tf.ones((48, 7), "float64")
    for function, matrix in [(matmul.product, weight), (matmul.scores, tf.transpose(weight))]:
        run = as_step(function, 48, matrix)
        assert np.all(run(x, matrix) == (0 if rows == (1, 1) else 48))
        assert np.all(run(np.ones((2, 5, 48)), matrix) == 48) and np.all(run(np.ones((1, 1, 48)), matrix) == 0)


def written(prompts, head="lm_head", new=6, dtype="float64", config=CONFIG, **given):
    model = TFGPT2LMHeadModel(config, seed=1, dtype=dtype)
    return model.generate(prompts, max_new_tokens=new, **ENDLESS, **given)


def plainly(monkeypatch, *given, **more):
    with monkeypatch.context() as patched:
        patched.setattr(matmul, "_LARGE", 2**40)
        return written(*given, **more)


@pytest.mark.parametrize("prompts", PROMPTS.values(), ids=PROMPTS)
@pytest.mark.parametrize("seed", range(3))
def test_the_same_logits(seed, prompts, monkeypatch):
    """In float64 to its rounding, in float32 to its own, the same tokens; of random shapes and options."""
    config = dataclasses.replace(random_config(seed, "lm_head"), add_cross_attention=False)
    for dtype, tolerance in [("float64", 1e-12), ("float32", 1e-5)]:
        ours, plain = (
            run(prompts, dtype=dtype, config=config) for run in (written, lambda *a, **k: plainly(monkeypatch, *a, **k))
        )
        largest = max(np.abs(x).max() for x in plain.scores)
        np.testing.assert_allclose(np.stack(ours.scores), np.stack(plain.scores), rtol=0, atol=tolerance * largest)
        assert dtype == "float32" or np.array_equal(ours.sequences, plain.sequences)


@pytest.mark.parametrize("tokens", [1, 4])
def test_an_encoder_s_rows_are_counted_too(tokens, monkeypatch):
    """Of which there may be several where there is one token, or one where there are several."""
    config = dataclasses.replace(CONFIG, add_cross_attention=True)
    states = np.random.default_rng(0).normal(size=(1, tokens, CONFIG.n_embd))
    for prompts in ([[5]], [[5, 6, 7]]):
        given = {"config": config, "encoder_hidden_states": states}
        ours, plain = written(prompts, **given), plainly(monkeypatch, prompts, **given)
        np.testing.assert_allclose(np.stack(ours.scores), np.stack(plain.scores), rtol=0, atol=1e-12)


def test_generate_multiplies_one_row_so(wrong, monkeypatch):
    """A text alone; its prompt's scores are one row too. Of two texts, none."""
    alone, together = ([PROMPTS["one row"][0]], PROMPTS["three rows"][:2])
    assert not np.any(written(alone).scores) and np.any(plainly(monkeypatch, alone).scores)
    assert np.array_equal(written(together).scores, plainly(monkeypatch, together).scores)


LEFT_ALONE = {
    "oneDNN": ("has_onednn", lambda: True),
    "a GPU": ("on_cpu", lambda: False),
    "no XLA": ("has_xla", lambda: False),
    "small": ("_LARGE", 2**20),
}


@pytest.mark.parametrize("change", LEFT_ALONE.values(), ids=LEFT_ALONE)
def test_where_they_are_left_alone(change, wrong, monkeypatch):
    monkeypatch.setattr(matmul, *change)
    assert np.all(np.any(written([[5]]).scores, axis=-1))


def test_sixteen_bits_are_left_alone(wrong):
    assert np.all(np.any(np.asarray(written([[5]], dtype="bfloat16").scores, "float32"), axis=-1))


def test_nor_other_calls(wrong):
    model = TFGPT2LMHeadModel(CONFIG, seed=1)
    model.generate([[5]], max_new_tokens=2)
    ids = np.array([[5]])
    for logits in (
        model(ids).logits,
        tf.function(model)(tf.constant(ids)).logits,
        model.predict(ids, verbose=0).logits,
    ):
        assert np.any(logits)
    assert not matmul._rows_by_xla.get()


def test_an_error_leaves_nothing_behind():
    with pytest.raises(ZeroDivisionError), tf.Graph().as_default(), matmul.rows_by_xla():
        assert matmul._rows_by_xla.get()
        1 / 0  # noqa: B018
    assert not matmul._rows_by_xla.get()
