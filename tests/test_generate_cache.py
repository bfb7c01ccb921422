"""The cache of generate: it grows with a text, and what a step computes does not tell how large it is."""

import dataclasses
import sys
import weakref

import numpy as np
import pytest

from gpt2_core.generation import decoder
from tests.test_generation import CONFIG, ENDLESS, generated, ids_of

LONG = dataclasses.replace(CONFIG, n_positions=600)
CALLS = {
    "greedy": {},
    "sampled": {"do_sample": True, "seed": 3},
    "beams": {"num_beams": 3},
    "guessed": {"prompt_lookup_num_tokens": 4},
    "sliding": {"overflow": "slide", "max_new_tokens": 60},
}


@pytest.fixture
def small(monkeypatch):
    """Caches of 1 slot more than they hold, or 2."""
    monkeypatch.setattr(decoder, "_GRAIN", 2)
    monkeypatch.setattr(decoder, "_AHEAD", 1)


@pytest.fixture
def sizes(monkeypatch):
    """The slots that each reading saw."""
    found, read = [], decoder.Decoder._read

    def seen(self, *given, **named):
        found.append(self.kept.shape[1])
        return read(self, *given, **named)

    monkeypatch.setattr(decoder.Decoder, "_read", seen)
    return found


@pytest.mark.parametrize("settings", CALLS.values(), ids=CALLS)
def test_the_same_ids_in_a_cache_that_grows(framework, settings, request):
    model = framework.create("lm_head", CONFIG, dtype="float64")
    call = {"max_new_tokens": 30, **ENDLESS, **settings}
    prompts = [[5, 6, 7, 5, 6], [8, 9]]
    expected = generated(framework, model, prompts, **call)
    request.getfixturevalue("small")
    np.testing.assert_array_equal(generated(framework, model, prompts, **call), expected)


def test_of_an_encoder_and_of_what_was_kept(framework, request):
    model = framework.create("lm_head", dataclasses.replace(CONFIG, add_cross_attention=True), dtype="float64")
    states = np.random.default_rng(0).normal(size=(2, 5, CONFIG.n_embd))
    call = {"encoder_hidden_states": states, **ENDLESS}
    expected = generated(framework, model, ids_of(2, 4), max_new_tokens=20, **call)
    request.getfixturevalue("small")
    first = model.generate(ids_of(2, 4), max_new_tokens=9, return_dict_in_generate=True, **call)
    assert first.past_key_values[0][0].shape[2] == 12  # the last token is not read
    call["past_key_values"] = first.past_key_values
    np.testing.assert_array_equal(generated(framework, model, first.sequences, max_new_tokens=11, **call), expected)


def test_it_has_few_free_slots(framework, sizes):
    model = framework.create("lm_head", LONG)
    generated(framework, model, ids_of(1, 40), max_new_tokens=500, **ENDLESS)
    assert sorted(set(sizes)) == [192, 384, 576]
    used = 40 + np.arange(500)
    assert (np.array(sizes) >= used).all() and (np.array(sizes) - used).max() < 2 * decoder._AHEAD


def test_a_step_of_the_user_s_sees_one_size(framework, sizes):
    model = framework.create("lm_head", LONG)
    step = model.step
    expected = generated(framework, model, ids_of(1, 40), max_new_tokens=200, **ENDLESS)
    del sizes[:]
    model.step = lambda *given, **named: step(*given, **named)
    np.testing.assert_array_equal(generated(framework, model, ids_of(1, 40), max_new_tokens=200, **ENDLESS), expected)
    assert set(sizes) == {256}


def test_growing_holds_no_second_cache(framework):
    """The first layers' old slots are gone when the last layer's are made anew."""
    model = framework.create("lm_head", dataclasses.replace(CONFIG, n_layer=6))
    made = sys.modules[type(model).generate.__module__].Decoder(model)
    made.allocate([0], 64)
    old, alive = [weakref.ref(x) for entry in made.cache for x in entry], []

    class Slots(int):
        def __sub__(self, other):  # asked before each tensor is made
            alive.append(sum(ref() is not None for ref in old))
            return int(self) - other

    made.grow(Slots(128))
    assert {x.shape[2] for entry in made.cache for x in entry} == {128}
    assert alive[0] == 12 and alive[-1] <= 4
