"""Prompts that Keras reads in parts, as PyTorch does (test_paths.py): the same scores, and no slots seen too many."""

import dataclasses

import numpy as np
import pytest

from gpt2_core.generation import parts
from gpt2_tf import TFGPT2LMHeadModel
from gpt2_tf.inference import decoder
from tests.heads import CONFIG

PROMPTS = {"one": [[5, 6, 7, 8, 9, 3, 4]], "padded": [[5, 6, 7, 8, 9], [10, 11], [3, 4, 2]]}
ASKED = {"max_new_tokens": 3, "eos_token_id": [], "pad_token_id": 0, "return_dict_in_generate": True}


@pytest.fixture
def read(monkeypatch):
    """Returns how many tokens were read at a time, and how many slots were seen."""
    found, step_of = [], decoder.step_of

    def noted(*given):
        step = step_of(*given)
        return lambda ids, positions, kept, *more: (
            found.append((ids.shape[1], kept.shape[1])) or step(ids, positions, kept, *more)
        )

    monkeypatch.setattr(decoder, "step_of", noted)
    return found


def scored(model, prompts, **given):
    """Returns the scores of a call, and of one that goes on from its cache with six tokens more."""
    first = model.generate(prompts, output_scores=True, **ASKED, **given)
    ids = np.concatenate([first.sequences, np.repeat(first.sequences[:, -1:], 6, axis=1)], axis=1)
    width, mask = max(map(len, prompts)), np.ones_like(ids)
    for row, prompt in zip(mask, prompts, strict=True):
        row[: width - len(prompt)] = 0
    more = {"past_key_values": first.past_key_values, "attention_mask": mask, "output_scores": True}
    return np.stack([*first.scores, *model.generate(ids, **more, **ASKED, **given).scores])


@pytest.mark.parametrize("dtype, most", [("float64", 1e-13), ("float32", 2e-6)])
@pytest.mark.parametrize("prompts", PROMPTS.values(), ids=PROMPTS)
def test_the_same_scores(prompts, dtype, most, read, monkeypatch):
    model = TFGPT2LMHeadModel(CONFIG, seed=1, dtype=dtype)
    expected = scored(model, prompts)
    longest = max(map(len, prompts))
    assert read[0] == (longest, longest) and len(read) == 2 * ASKED["max_new_tokens"]
    del read[:]
    monkeypatch.setattr(decoder, "PARTS", (2, 0))
    np.testing.assert_allclose(scored(model, prompts), expected, rtol=0, atol=most * np.abs(expected).max())
    first = [tokens for tokens, slots in read if slots <= longest]
    assert sum(first) == longest and max(first) == 2  # parts see the slots up to their own
    assert [slots for _, slots in read[: len(first)]] == list(np.cumsum(first))
    assert all(tokens <= 2 for tokens, _ in read)


def test_what_is_read_whole(read, monkeypatch):
    """An encoder's states, of which the first part would make what the others are to see; a step of the user's; and
    the tokens that were guessed, with free slots, since the others would be copied for them."""
    monkeypatch.setattr(decoder, "PARTS", (2, 0))
    model = TFGPT2LMHeadModel(dataclasses.replace(CONFIG, add_cross_attention=True), seed=1)
    states = np.ones((1, 3, CONFIG.n_embd))
    model.generate([[5, 6, 7, 8, 9]], encoder_hidden_states=states, **ASKED)
    assert read[0][0] == 5
    del read[:]
    model = TFGPT2LMHeadModel(CONFIG, seed=1)
    model.generate([[5, 6, 7, 5, 6, 7, 5, 6]], prompt_lookup_num_tokens=4, **(ASKED | {"max_new_tokens": 12}))
    guessed = read[4:]
    assert [tokens for tokens, _ in read[:4]] == [2] * 4 and max(tokens for tokens, _ in guessed) > 1
    assert all(slots > 20 for _, slots in guessed)
    del read[:]
    step = model.step
    model.step = lambda *given, **named: step(*given, **named)
    model.generate([[5, 6, 7, 8, 9]], **ASKED)
    assert read[0][0] == 5


def test_a_gpu_reads_all_at_once(read, monkeypatch):
    monkeypatch.setattr(decoder, "PARTS", (2, 0))
    monkeypatch.setattr(decoder, "on_cpu", lambda: False)
    TFGPT2LMHeadModel(CONFIG, seed=1).generate([[5, 6, 7, 8, 9]], **ASKED)
    assert read[0][0] == 5


@pytest.mark.parametrize(
    "rows, tokens, sizes", [(1, 512, [512]), (1, 513, [256, 257]), (2, 600, [200] * 3), (8, 256, [256])]
)
def test_how_large_they_are(rows, tokens, sizes):
    """At least so many tokens of each row, and of all rows; one after the other, as equal as can be."""
    found = list(parts(rows, tokens, 10, 256, 512))
    assert [some.stop - some.start for some, _ in found] == sizes
    assert found[0][0].start == 0 and [end for _, end in found] == [10 + some.stop for some, _ in found]
