"""Each step on scores, in both frameworks, against its definition in slow numpy: ties, -inf, tiny vocabularies."""

import keras
import numpy as np
import pytest
import torch

import gpt2_tf.logits
import gpt2_torch.logits
from tests.frameworks import to_numpy


def softmax(row):
    p = np.exp(row - row.max())
    return p / p.sum()


def by_score(row):
    return sorted(range(len(row)), key=lambda i: (-row[i], i))


def until(order, p, value):
    """Returns the first tokens of an order that together reach a probability."""
    kept, total = set(), 0.0
    for i in order:
        if total >= value:
            break
        kept.add(i)
        total += p[i]
    return kept


def slow(name, row, value, least):
    """Returns the tokens that one step keeps, by the words of its definition."""
    p, order = softmax(row), by_score(row)
    if name == "top_k":
        return set(order[: max(value, least)])
    if name == "min_p":
        return {i for i in order if p[i] >= value * p.max()} | set(order[:least])
    if name == "typical_p":
        entropy = -sum(x * np.log(x) for x in p if x > 0)
        order = sorted(range(len(row)), key=lambda i: (abs(-np.log(p[i]) - entropy) if p[i] > 0 else np.inf, i))
    return until(order, p, value) | set(order[:least])


def scores_of(size, seed=0):
    """Returns scores (60, size): half of them of few values, so that many are equal; some -inf."""
    r = np.random.default_rng(seed)
    scores = np.concatenate([r.integers(-3, 3, (30, size)) * 1.1, r.normal(size=(30, size)) * 3])
    scores[::4, 1:2] = -np.inf
    scores[1::4, 2:] = -np.inf
    return scores


def in_both(name, scores, value, least=1):
    """Returns what a step makes of scores; it must be the same in both frameworks."""
    given = (value, value) if np.isscalar(value) else (torch.as_tensor(value), keras.ops.convert_to_tensor(value))
    ours = to_numpy(gpt2_torch.logits.STEPS[name](torch.as_tensor(scores), given[0], least))
    theirs = to_numpy(gpt2_tf.logits.STEPS[name](keras.ops.convert_to_tensor(scores), given[1], least))
    np.testing.assert_array_equal(ours, theirs)
    return ours


PARTS = [(name, value) for name in ("top_p", "min_p", "typical_p") for value in (0.02, 0.3, 0.9)]


@pytest.mark.parametrize("name, value", [("top_k", 1), ("top_k", 2), ("top_k", 7), *PARTS])
@pytest.mark.parametrize("size", [1, 2, 3, 13])
def test_filters(name, value, size):
    scores = scores_of(size)
    for least in (1, 2):
        for row, filtered in zip(scores, in_both(name, scores, value, least), strict=True):
            kept = {i for i in slow(name, row, value, least) if row[i] > -np.inf}
            assert set(np.flatnonzero(filtered > -np.inf).tolist()) == kept
            assert all(filtered[i] == row[i] for i in kept)


def test_a_wrong_filter_is_seen():
    """One more token than is to be kept differs from the definition."""
    row = scores_of(13)[40]
    filtered = in_both("top_k", row[None], 4)[0]
    assert set(np.flatnonzero(filtered > -np.inf).tolist()) != slow("top_k", row, 3, 1)


@pytest.mark.parametrize("size", [1, 2, 13])
def test_temperature_penalty_and_ban(size):
    scores = scores_of(size)
    np.testing.assert_array_equal(in_both("temperature", scores, 0.7), scores / 0.7)
    factors = np.where(np.random.default_rng(1).random(scores.shape) < 0.3, 1.3, 1.0)
    expected = [x * f if x < 0 else x / f for x, f in zip(scores.ravel(), factors.ravel(), strict=True)]
    expected = np.reshape(expected, scores.shape)
    np.testing.assert_array_equal(in_both("repetition_penalty", scores, factors), expected)
    banned = factors > 1
    np.testing.assert_array_equal(in_both("ban", scores, banned), np.where(banned, -np.inf, scores))


@pytest.mark.parametrize("size", [1, 2, 3, 13, 200])
def test_drawing(size):
    """The token where the running sum of the probabilities passes the number; tokens at -inf never."""
    scores, numbers = scores_of(size), np.random.default_rng(2).random(60)
    numbers[:2] = 0.0, 1 - 2.0**-53
    ours = to_numpy(gpt2_torch.logits.draw(torch.as_tensor(scores), torch.as_tensor(numbers)))
    theirs = to_numpy(gpt2_tf.logits.draw(*map(keras.ops.convert_to_tensor, (scores, numbers))))
    assert ours.tolist() == theirs.tolist()
    for row, number, token in zip(scores, numbers, ours, strict=True):
        reached = np.cumsum(softmax(row))
        assert row[token] > -np.inf and reached[token] > number * reached[-1]
        assert token == 0 or reached[token - 1] <= number * reached[-1]


@pytest.mark.parametrize("beams, size", [(1, 2), (2, 1), (3, 2), (4, 13)])
def test_the_best_of_beams(beams, size):
    scores = scores_of(size)[: 60 // beams * beams]
    running = np.random.default_rng(3).integers(-2, 2, (len(scores) // beams, beams)) * 1.1
    count = min(2 * beams, beams * size)
    ours = gpt2_torch.logits.best(*map(torch.as_tensor, (scores, running)), count, None)
    theirs = gpt2_tf.logits.best(*map(keras.ops.convert_to_tensor, (scores, running)), count, None)
    sums = (scores.reshape(len(running), beams, -1) + running[..., None]).reshape(len(running), -1)
    for row, values, indices, *same in zip(sums, *map(to_numpy, (*ours, *theirs)), strict=True):
        assert indices.tolist() == by_score(row)[:count] == same[1].tolist()
        assert values.tolist() == row[indices].tolist() == same[0].tolist()
