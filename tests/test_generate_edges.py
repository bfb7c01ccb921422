"""generate at its edges: what is returned of padded prompts, rows and beams that are done, bad masks and functions."""

import dataclasses
import time

import numpy as np
import pytest
import transformers

from gpt2_core import GenerationConfig, GPT2Error
from tests.test_generate_features import CONFIG, ENDLESS, ids_of


def model_of(framework, **fields):
    return framework.create("lm_head", dataclasses.replace(CONFIG, **fields))


def test_what_was_given_is_returned_padding_included(framework):
    model = model_of(framework)
    ids, mask = np.array([[2, 2, 5, 6, 7]]), np.array([[0, 0, 1, 1, 1]])
    out = ids_of(model.generate(ids, mask, max_new_tokens=3, **ENDLESS))
    assert out[0][:5] == ids[0].tolist()
    assert out[0][2:] == ids_of(model.generate([[5, 6, 7]], max_new_tokens=3, **ENDLESS))[0]
    first = model.generate(ids, mask, max_new_tokens=3, return_dict_in_generate=True, **ENDLESS)
    longer, seen = first.sequences, np.array([[0, 0, 1, 1, 1, 1, 1, 1]])
    more = model.generate(longer, seen, past_key_values=first.past_key_values, max_new_tokens=2, **ENDLESS)
    assert ids_of(more) == ids_of(model.generate(longer, seen, max_new_tokens=2, **ENDLESS))


@pytest.mark.parametrize("wrong", [[0.0, 0.0, -np.inf], [1, 1, 2], [1, -1, 1]])
def test_a_mask_that_is_to_be_added_is_refused(framework, wrong):
    with pytest.raises(GPT2Error, match=r"attention_mask holds .*: it must be 1 for tokens that are kept"):
        model_of(framework).generate([[5, 6, 7]], np.array([wrong]))


def test_the_cache_holds_what_is_returned_where_a_row_ended_early(framework):
    model = model_of(framework)
    prompts = [[5, 6, 7, 8], [9, 10, 11, 12]]
    plain = ids_of(model.generate(prompts, max_new_tokens=6, **ENDLESS))
    end = next(token for token in plain[1][4:8] if token not in plain[0][4:])  # of the second row alone
    settings = {"eos_token_id": end, "pad_token_id": 3, "return_dict_in_generate": True}
    first = model.generate(prompts, max_new_tokens=6, **settings)
    assert ids_of(first.sequences)[1][-1] == 3 != ids_of(first.sequences)[0][-1]
    more = model.generate(first.sequences, past_key_values=first.past_key_values, max_new_tokens=5, **ENDLESS)
    assert ids_of(more) == ids_of(model.generate(first.sequences, max_new_tokens=5, **ENDLESS))


def test_a_row_that_is_done_is_asked_no_more(framework):
    paths = {0: [[5], [6], [7], [8]], 1: [[1]]}
    model = model_of(framework)

    def allowed(prompt, ids):
        return paths[prompt][len(ids) - 1]

    out = model.generate([[9], [8]], prefix_allowed_tokens_fn=allowed, max_new_tokens=4, eos_token_id=1, pad_token_id=2)
    assert ids_of(out) == [[9, 5, 6, 7, 8], [8, 1, 2, 2, 2]]


def test_a_beam_may_die(framework):
    settings = {"num_beams": 6, "bad_words_ids": [[4, t] for t in range(40)], "max_new_tokens": 4}
    out = model_of(framework).generate(
        [[3]], prefix_allowed_tokens_fn=lambda b, x: [4, 5, 6, 7, 8, 9], **settings, **ENDLESS
    )
    assert not any(a == 4 for a in ids_of(out)[0][:-1])
    with pytest.raises(GPT2Error, match="the settings forbid every token"):
        model_of(framework).generate([[3]], num_beams=2, suppress_tokens=list(range(40)))


@pytest.mark.parametrize("size, beams, ends", [(1, 2, [0]), (3, 2, [0, 1, 2]), (40, 2, list(range(40)))])
def test_more_beams_than_there_are_texts(framework, size, beams, ends):
    model = model_of(framework, vocab_size=size, bos_token_id=0, eos_token_id=0)
    assert len(ids_of(model.generate([[0]], num_beams=beams, eos_token_id=ends, max_new_tokens=3))) == 1


def test_min_new_tokens_wins_over_min_length(framework):
    """As max_new_tokens does over max_length, and as in transformers."""
    model = model_of(framework)
    first = ids_of(model.generate([[5, 6, 7]], max_new_tokens=1, **ENDLESS))[0][-1]
    out = model.generate([[5, 6, 7]], eos_token_id=first, min_length=12, min_new_tokens=0, max_new_tokens=12)
    assert ids_of(out) == [[5, 6, 7, first]]


def test_guesses_share_the_time(framework):
    def slow(ids, scores):
        time.sleep(0.05)
        return scores

    settings = {"max_time": 0.12, "max_new_tokens": 20, "logits_processor": [slow], **ENDLESS}
    out = ids_of(model_of(framework).generate([[5], [6], [7], [8]], prompt_lookup_num_tokens=2, **settings))
    assert sum(token != 2 for row in out for token in row[1:]) < 12
    with pytest.raises(GPT2Error, match="output_scores can be had of one prompt"):
        model_of(framework).generate([[5], [6]], prompt_lookup_num_tokens=2, output_scores=True)


def test_a_file_with_nulls(tmp_path):
    given = transformers.GenerationConfig(eos_token_id=[1, 7], max_new_tokens=4)
    given.to_json_file(tmp_path / "generation_config.json", use_diff=False)
    read = GenerationConfig.from_pretrained(tmp_path)
    assert (read.eos_token_id, read.max_new_tokens, read.do_sample, read.num_beams) == ([1, 7], 4, False, 1)


WRONG = [
    ({"logits_processor": [lambda ids, scores: None]}, "a logits_processor returned NoneType: it must return scores"),
    ({"logits_processor": [lambda ids, scores: scores[:, :-3]]}, r"returned a \w+ of \(1, 37\): it must"),
    ({"logits_processor": 3}, "logits_processor must be a list of functions"),
    ({"stopping_criteria": [lambda ids, scores: None]}, "a stopping_criteria function returned NoneType"),
    (
        {"stopping_criteria": [lambda ids, scores: [True, False]]},
        "function returned list: it must return True or False",
    ),
    ({"prefix_allowed_tokens_fn": 3}, "prefix_allowed_tokens_fn must be a function"),
    ({"assistant_model": 3}, "assistant_model must be a language model, and is a int"),
    ({"length_penalty": 400, "num_beams": 2}, "length_penalty=400: it must be a number from -50 to 50"),
    (
        {"stop_strings": "a", "tokenizer": object()},
        "stop_strings needs tokenizer=, .* of gpt2_core: got a object of builtins",
    ),
]


@pytest.mark.parametrize("given, words", WRONG, ids=[words[:40] for _, words in WRONG])
def test_what_users_functions_may_be(framework, given, words):
    with pytest.raises(GPT2Error, match=words):
        model_of(framework).generate([[5, 6]], max_new_tokens=3, **given)


@pytest.mark.parametrize("answer", [False, np.bool_(False), [False], np.array([False])])
def test_what_stopping_criteria_may_answer(framework, answer):
    def criterion(ids, scores):
        return answer

    assert (
        len(ids_of(model_of(framework).generate([[5]], max_new_tokens=3, stopping_criteria=criterion, **ENDLESS))[0])
        == 4
    )


def test_a_stream_needs_a_tokenizer(framework):
    with pytest.raises(GPT2Error, match=r"stream needs tokenizer=.*none was given"):
        model_of(framework).stream("text", None)


def test_a_kept_cache_of_an_encoder_goes_on_with_its_mask(framework):
    model = model_of(framework, add_cross_attention=True)
    states = np.random.default_rng(0).normal(size=(1, 5, CONFIG.n_embd)).astype(np.float32)
    seen = {"encoder_attention_mask": np.array([[1, 1, 1, 0, 0]])}
    whole = model.generate([[5, 6]], encoder_hidden_states=states, max_new_tokens=6, **seen, **ENDLESS)
    first = model.generate(
        [[5, 6]], encoder_hidden_states=states, max_new_tokens=3, return_dict_in_generate=True, **seen, **ENDLESS
    )
    more = model.generate(first.sequences, past_key_values=first.past_key_values, max_new_tokens=3, **seen, **ENDLESS)
    assert ids_of(more) == ids_of(whole)
