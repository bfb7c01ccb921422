"""Keras' scores of all words: where Eigen multiplies, few rows are multiplied by the table, not the table by them."""

import numpy as np
import pytest
import tensorflow as tf

from gpt2_tf import TFGPT2LMHeadModel, matmul
from tests.heads import CONFIG

WORDS, WIDTH = 301, 24


@pytest.fixture(params=["Eigen", "oneDNN", "GPU"])
def by_eigen(request, monkeypatch):
    """Whether Eigen multiplies, on this pretended machine."""
    monkeypatch.setattr(matmul, "on_cpu", lambda: request.param != "GPU")
    monkeypatch.setattr(matmul, "has_onednn", lambda: request.param == "oneDNN")
    return request.param == "Eigen"


def table_first(function, *given):
    """Returns whether a function's one product, as a graph, has the table of words as its first factor."""
    operations = tf.function(function).get_concrete_function(*given).graph.get_operations()
    (product,) = (op for op in operations if op.type == "MatMul")
    return product.inputs[0].shape[0] == WORDS


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(1, 1), (7, 1), (3, 5), (1, 256), (1, 257), (2, 150)])
def test_the_same_numbers(shape, dtype, by_eigen):
    """Of whole numbers, whose sums are exact: to the last bit, gradients too, eagerly and as a graph for any rows."""
    r = np.random.default_rng(0)
    x, rows, share = (r.integers(-9, 10, size) for size in [(*shape, WIDTH), (WORDS, WIDTH), (*shape, WORDS)])
    expected = x @ rows.T, share @ rows, np.einsum("btk,btc->kc", share, x)
    given = [tf.constant(array, dtype) for array in (x, rows, share)]

    def run(x, rows, share):
        with tf.GradientTape() as tape:
            tape.watch([x, rows])
            y = matmul.scores(x, rows)
        return y, *tape.gradient(y, [x, rows], share)

    any_rows = [tf.TensorSpec([None, None, size], dtype) for size in (WIDTH, WORDS)]
    graph = tf.function(run, input_signature=[any_rows[0], tf.TensorSpec([WORDS, WIDTH], dtype), any_rows[1]])
    for found in (run(*given), graph(*given)):
        assert all(np.array_equal(ours, theirs) for ours, theirs in zip(found, expected, strict=True))
    assert table_first(matmul.scores, *given[:2]) == (by_eigen and np.prod(shape) <= 256)
    assert table_first(matmul.scores, any_rows[0], given[1]) == by_eigen


def test_generate_has_the_table_first(by_eigen):
    """In its one graph, for prompts and tokens, whose rows nobody knows beforehand; with the same tokens."""
    model = TFGPT2LMHeadModel(CONFIG, seed=1)
    tokens = model.generate([[5, 6], [7, 8]], max_new_tokens=5)
    (step,) = model.__dict__["_graphs"].values()
    products = [op for op in step.get_concrete_function().graph.get_operations() if op.type == "MatMul"]
    firsts = [op.inputs[0].shape[0] for op in products]
    assert (CONFIG.vocab_size in firsts) == by_eigen and len(firsts) == 4 * CONFIG.n_layer + 1
    assert np.array_equal(tokens, greedy(model, 5))


def greedy(model, count):
    ids = [[5, 6], [7, 8]]
    for _ in range(count):
        last = np.asarray(model(np.array(ids)).logits)[:, -1]
        ids = [row + [int(word)] for row, word in zip(ids, last.argmax(-1), strict=True)]
    return ids
