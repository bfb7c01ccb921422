"""What generate offers beside the next token: streams, stops, caches, sliding, guesses, users' functions, files."""

import dataclasses
import itertools
import json
import time
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
import torch

import gpt2_torch
from gpt2_core import GenerationConfig, GPT2Config, GPT2Error, GPT2Tokenizer
from gpt2_core.assets import SHAKESPEARE
from gpt2_core.generation import Pieces
from gpt2_core.generation.bans import repeating
from gpt2_core.generation.loop import window
from gpt2_core.generation.speculation import looked_up
from tests.frameworks import FRAMEWORKS, Keras, Torch, to_numpy

CONFIG = GPT2Config(
    vocab_size=40, n_positions=32, n_embd=24, n_layer=2, n_head=3, initializer_range=0.5, bos_token_id=0, eos_token_id=1
)
ENDLESS = {"eos_token_id": [], "pad_token_id": 2}
PROMPT = [[5, 6, 7, 8]]
HELDOUT = Path(__file__).parent / "data" / "shakespeare" / "heldout.txt"


def ids_of(output):
    return to_numpy(output).tolist()


@pytest.fixture(scope="module")
def tokenizer():
    return GPT2Tokenizer.from_pretrained(SHAKESPEARE)


def test_repetitions_and_windows_equal_slow_ones():
    r = np.random.default_rng(0)
    for size in (1, 2, 3, 4):
        for length in (0, 1, 2, 3, 30):
            tokens = r.integers(0, 3, length).tolist()
            stretches = {tuple(tokens[i : i + size]) for i in range(length - size + 1)}
            end = tokens[length - size + 1 :] if length >= size else None
            expected = {t for t in range(3) if end is not None and (*end, t) in stretches}
            assert set(repeating(tokens, size)) == expected
    for positions in (1, 2, 3, 8, 9):
        for length in range(1, 40):
            seen = length - window(length, positions)
            assert 1 <= seen <= positions
            assert window(length, positions) in (0, *range(0, 40, max(1, positions // 2)))


def test_penalties_and_bans_equal_slow_ones(framework):
    """Each step from the logits of what is there, in numpy."""
    model = framework.create("lm_head", CONFIG, seed=2, dtype="float64")
    settings = {
        "repetition_penalty": 1.7,
        "no_repeat_ngram_size": 2,
        "bad_words_ids": [[9], [8, 3]],
        "min_new_tokens": 4,
    }
    out = ids_of(model.generate(PROMPT, max_new_tokens=12, eos_token_id=[4, 30], **settings))[0]
    text = list(PROMPT[0])
    for new in range(12):
        scores = framework.run(model, input_ids=np.array([text]))["logits"][0, -1].copy()
        for i in set(text):
            scores[i] = scores[i] * 1.7 if scores[i] < 0 else scores[i] / 1.7
        banned = {b for a, b in itertools.pairwise(text) if a == text[-1]} | {9}
        banned |= {3} if text[-1] == 8 else set()
        banned |= {4, 30} if new < 4 else set()
        scores[list(banned)] = -np.inf
        text.append(int(scores.argmax()))
        if text[-1] in (4, 30):
            break
    assert out == text


class TestStreams:
    def test_pieces_are_the_text(self, framework, tokenizer):
        model = framework.load("lm_head", SHAKESPEARE)
        whole = model.generate([tokenizer.encode("ROMEO.")], max_new_tokens=40, do_sample=True, seed=4)
        expected = tokenizer.decode(ids_of(whole)[0], skip_special_tokens=True).removeprefix("ROMEO.")
        pieces = list(model.stream("ROMEO.", tokenizer, max_new_tokens=40, do_sample=True, seed=4))
        assert "".join(pieces) == expected and len(pieces) > 10
        stop = expected[20:24]
        stopped = list(model.stream("ROMEO.", tokenizer, max_new_tokens=40, do_sample=True, seed=4, stop_strings=stop))
        assert "".join(stopped) == expected[: expected.index(stop)]
        with pytest.raises(GPT2Error, match="stream writes one text, and 2 are asked for"):
            model.stream([[5], [6]], tokenizer)

    def test_nothing_is_taken_back(self):
        """Characters come whole, and what may become a stop string is held until it is none."""
        whole = GPT2Tokenizer.from_pretrained("gpt2")
        text = "naïve 👩🏽‍🚀 END not EN, and EENDS after"
        for stops in ((), ("END ", "NOPE"), ("EENDS",), ("🚀 E", "zzz")):
            pieces = Pieces(whole, stops)
            given = ""
            expected = text[: min([text.index(s) for s in stops if s in text], default=len(text))]
            for token in whole.encode(text):
                given += pieces.feed(token)
                assert expected.startswith(given) and "�" not in given
            assert given + pieces.end() == expected
        broken = Pieces(whole)
        token = whole.encode("👩")[0]
        assert broken.feed(token) == "" and broken.end() == "�"

    def test_a_streamer_is_put_the_prompt_and_each_token(self, framework):
        class Streamer:
            def __init__(self):
                self.given, self.ended = [], False

            def put(self, ids):
                self.given.append(to_numpy(ids))

            def end(self):
                self.ended = True

        model, streamer = framework.create("lm_head", CONFIG), Streamer()
        out = ids_of(model.generate(PROMPT * 2, max_new_tokens=3, streamer=streamer, **ENDLESS))
        assert streamer.ended and [x.shape for x in streamer.given] == [(2, 4), (2,), (2,), (2,)]
        assert np.column_stack(streamer.given).tolist() == out
        with pytest.raises(GPT2Error, match="several beams are no stream"):
            model.generate(PROMPT, num_beams=2, streamer=streamer)

    def test_streamers_of_transformers(self, capsys):
        from transformers import TextStreamer

        theirs = TextStreamer(GPT2Tokenizer.from_pretrained(SHAKESPEARE))
        model = Torch().load("lm_head", SHAKESPEARE)
        model.generate(theirs.tokenizer.encode("ROMEO."), max_new_tokens=20, streamer=theirs)
        assert capsys.readouterr().out.startswith("ROMEO.")


class TestStopping:
    def test_stop_strings_span_tokens(self, framework, tokenizer):
        model = framework.load("lm_head", SHAKESPEARE)
        prompts = [tokenizer.encode(text) for text in ("ROMEO. But", "KING. Now is")]
        free = ids_of(model.generate(prompts, max_new_tokens=30))
        texts = [tokenizer.decode(row[max(map(len, prompts)) :]) for row in free]
        stop = texts[0][12:18]
        out = ids_of(model.generate(prompts, max_new_tokens=30, stop_strings=["no such", stop], tokenizer=tokenizer))
        row = [i for i in out[0][max(map(len, prompts)) :] if i != model.config.eos_token_id]
        assert stop in tokenizer.decode(row) and stop not in tokenizer.decode(row[:-1])
        assert len(out[1]) == len(free[1]) or stop in texts[1]
        with pytest.raises(GPT2Error, match="stop_strings needs tokenizer="):
            model.generate(prompts, stop_strings="a")

    def test_time_is_up(self, framework):
        model = framework.create("lm_head", CONFIG)
        model.generate(PROMPT, max_new_tokens=2)  # traced
        slowly = [lambda ids, scores: time.sleep(0.2) or scores]
        for settings in ({}, {"num_beams": 2}):
            out = model.generate(
                PROMPT, max_new_tokens=25, max_time=0.3, logits_processor=slowly, **settings, **ENDLESS
            )
            assert 4 < to_numpy(out).shape[1] < 10

    def test_users_functions(self, framework):
        """On tensors of the framework; a criterion for all rows or for each."""
        model = framework.create("lm_head", CONFIG)
        kind = torch.Tensor if isinstance(framework, Torch) else tf.Tensor
        seen = []

        def only_even(ids, scores):
            assert isinstance(ids, kind) and isinstance(scores, kind)
            seen.append(tuple(ids.shape))
            odd = np.arange(40) % 2 == 1
            return scores + (torch.as_tensor(odd) if kind is torch.Tensor else tf.cast(odd, scores.dtype)) * -1e30

        out = ids_of(model.generate(PROMPT * 2, max_new_tokens=5, logits_processor=[only_even], **ENDLESS))
        assert all(i % 2 == 0 for row in out for i in row[4:]) and seen == [(2, n) for n in range(4, 9)]
        ends = [lambda ids, scores: ids.shape[1] >= 7]
        assert len(ids_of(model.generate(PROMPT, max_new_tokens=9, stopping_criteria=ends, **ENDLESS))[0]) == 7
        rows = [lambda ids, scores: ids[:, -1] == out[0][4]]
        mixed = [[5, 6, 7, 8], [9, 9, 9, 9]]
        stopped = ids_of(
            model.generate(mixed, max_new_tokens=6, stopping_criteria=rows, logits_processor=[only_even], **ENDLESS)
        )
        assert stopped[0][4:] == [out[0][4]] + [2] * (len(stopped[0]) - 5)
        allowed = ids_of(
            model.generate(
                mixed, max_new_tokens=4, num_beams=2, prefix_allowed_tokens_fn=lambda row, ids: [10 + row, 20 + row]
            )
        )
        assert {i - r for r in (0, 1) for i in allowed[r][4:]} <= {10, 20}
        with pytest.raises(GPT2Error, match="prefix_allowed_tokens_fn must return token ids, at least one"):
            model.generate(PROMPT, prefix_allowed_tokens_fn=lambda row, ids: [])


class TestCache:
    def test_a_kept_cache_goes_on(self, framework):
        model = framework.create("lm_head", CONFIG, dtype="float64")
        prompts = [[5, 6, 7, 8], [9, 10]]
        padded, mask = [[5, 6, 7, 8], [2, 2, 9, 10]], np.array([[1, 1, 1, 1], [0, 0, 1, 1]])
        whole = ids_of(model.generate(prompts, max_new_tokens=10, **ENDLESS))
        out = model.generate(padded, mask, max_new_tokens=4, return_dict_in_generate=True, **ENDLESS)
        more = np.concatenate([mask, np.ones((2, 4), int)], axis=1)
        again = model.generate(out.sequences, more, past_key_values=out.past_key_values, max_new_tokens=6, **ENDLESS)
        assert ids_of(again) == whole
        wrong = [[0.0 * x for x in pair] for pair in out.past_key_values]
        assert ids_of(model.generate(out.sequences, more, past_key_values=wrong, max_new_tokens=6, **ENDLESS)) != whole
        with pytest.raises(GPT2Error, match="past_key_values holds 7 tokens a row, input_ids 4"):
            model.generate(padded, mask, past_key_values=out.past_key_values)
        with pytest.raises(GPT2Error, match="padded on the left"):
            model.generate(out.sequences, more[:, ::-1], past_key_values=out.past_key_values)

    def test_sliding(self, framework):
        """Each token follows from the window that its place gives, whatever else is in the batch."""
        model = framework.create("lm_head", CONFIG, seed=1, dtype="float64")
        prompts = [[5 + i % 30 for i in range(40)], [7, 8]]
        out = ids_of(model.generate(prompts, max_new_tokens=50, overflow="slide", **ENDLESS))
        for prompt, row in zip(prompts, out, strict=True):
            text = list(prompt)
            for _ in range(50):
                seen = text[window(len(text), 32) :]
                text.append(int(framework.run(model, input_ids=np.array([seen]))["logits"][0, -1].argmax()))
            assert row[40 - len(prompt) :] == text
        with pytest.raises(GPT2Error, match=r"the prompt has 40 tokens and the model n_positions=32.*overflow='slide'"):
            model.generate(prompts)

    def test_an_encoder(self, framework):
        config = dataclasses.replace(CONFIG, add_cross_attention=True)
        model = framework.create("lm_head", config, dtype="float64")
        r = np.random.default_rng(0)
        states, kept = r.normal(size=(2, 5, 24)), np.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]])
        given = {"encoder_hidden_states": states, "encoder_attention_mask": kept}
        prompts = np.array([[5, 6, 7], [9, 10, 11]])
        text = prompts
        for _ in range(6):
            logits = framework.run(model, input_ids=text, **given)["logits"][:, -1]
            text = np.concatenate([text, logits.argmax(-1)[:, None]], axis=1)
        for settings in ({}, {"use_cache": False}, {"prompt_lookup_num_tokens": 2}):
            out = model.generate(prompts, max_new_tokens=6, **given, **settings, **ENDLESS)
            np.testing.assert_array_equal(to_numpy(out), text, str(settings))
        beams = [ids_of(model.generate(prompts, max_new_tokens=6, num_beams=3, **given, **ENDLESS))]
        for row in (0, 1):
            alone = {name: x[row : row + 1] for name, x in given.items()}
            beams.append(
                ids_of(model.generate(prompts[row : row + 1], max_new_tokens=6, num_beams=3, **alone, **ENDLESS))
            )
        assert beams[0] == [*beams[1], *beams[2]]


NOT_GUESSED = {"do_sample": True, "num_beams": 2, "use_cache": False, "overflow": "slide"}


class TestGuessing:
    def test_the_same_tokens_in_fewer_steps(self, framework):
        """On a text that repeats itself, by looking back and by a smaller model; any guesser gives greedy's tokens."""
        model = framework.create("lm_head", CONFIG, seed=1, dtype="float64")
        small = framework.create("lm_head", dataclasses.replace(CONFIG, n_layer=1), seed=5, dtype="float64")
        for prompts in (PROMPT, [[5, 6, 7] * 3, [9]]):
            for settings in ({}, {"repetition_penalty": 1.2}, {"eos_token_id": [4, 30]}):
                settings = {**ENDLESS, "max_new_tokens": 20, **settings}
                expected = ids_of(model.generate(prompts, **settings))
                for guessing in (
                    {"prompt_lookup_num_tokens": 3},
                    {"assistant_model": small, "num_assistant_tokens": 3},
                    {"assistant_model": model},
                ):
                    assert ids_of(model.generate(prompts, **settings, **guessing)) == expected
        step, calls = model.step, []
        model.step = lambda *given, **named: calls.append(given[0].shape[1]) or step(*given, **named)
        model.generate(PROMPT, max_new_tokens=28, **ENDLESS)
        plain = len(calls)
        calls.clear()
        model.generate(PROMPT, max_new_tokens=28, prompt_lookup_num_tokens=5, **ENDLESS)
        assert len(calls) < plain == 28

    def test_a_draft_as_distilgpt2_is_of_gpt2(self, framework, tokenizer, tmp_path):
        """Every other block of a model, as DistilGPT2 began: half its depth, its width, heads and vocabulary."""
        whole = gpt2_torch.GPT2LMHeadModel.from_pretrained(SHAKESPEARE)
        half = gpt2_torch.GPT2LMHeadModel(dataclasses.replace(whole.config, n_layer=whole.config.n_layer // 2))
        half.transformer.load_state_dict(whole.transformer.state_dict(), strict=False)
        for i, block in enumerate(half.transformer.h):
            block.load_state_dict(whole.transformer.h[2 * i].state_dict())
        half.save_pretrained(tmp_path)
        draft, model = (framework.load("lm_head", folder) for folder in (tmp_path, SHAKESPEARE))
        steps, run = [], model.step
        model.step = lambda *given, **named: steps.append(1) or run(*given, **named)
        prompts = [tokenizer.encode(text) for text in ("ROMEO.\nO", "KING HENRY.\nMy lord,")]
        expected = ids_of(model.generate(prompts, max_new_tokens=40))
        for count in (1, 4):
            steps.clear()
            found = ids_of(
                model.generate(prompts, max_new_tokens=40, assistant_model=draft, num_assistant_tokens=count)
            )
            assert found == expected and len(steps) < 2 * 40

    def test_a_draft_of_distilgpt2s_shape(self, framework):
        config = GPT2Config()
        draft = framework.create("lm_head", dataclasses.replace(config, n_layer=6), seed=1)
        assert draft.num_parameters() == 81912576
        model, settings = framework.create("lm_head", config), {"max_new_tokens": 8, **ENDLESS}
        expected = ids_of(model.generate(PROMPT, **settings))
        assert ids_of(model.generate(PROMPT, assistant_model=draft, num_assistant_tokens=3, **settings)) == expected

    def test_the_gain_on_a_summarising_prompt(self, tokenizer, record_property):
        """Names and turns of a passage come back in what the shipped model says of it."""
        model, tokens, steps = gpt2_torch.GPT2LMHeadModel.from_pretrained(SHAKESPEARE), 60, []
        text = HELDOUT.read_text(encoding="utf-8")
        step = model.step
        model.step = lambda *given, **named: steps.append(1) or step(*given, **named)
        passages = [text[start : start + 400] for start in range(0, 10000, 500)]
        for passage in passages:
            prompt = [tokenizer.encode(f"{passage}\n\nTL;DR:\n")]
            model.generate(prompt, max_new_tokens=tokens, prompt_lookup_num_tokens=5, **ENDLESS)
        assert len(steps) < 0.8 * tokens * len(passages)
        record_property("counted", ("tokens after summarising prompts", tokens * len(passages)))
        record_property("counted", ("steps that they took with prompt lookup", len(steps)))

    def test_looking_back(self):
        assert looked_up([1, 2, 3, 4, 1, 2], 5) == [3, 4, 1, 2]
        assert looked_up([1, 2, 3], 2) == [] and looked_up([7], 2) == [] and looked_up([7, 7], 2) == [7]

    @pytest.mark.parametrize(
        "extra", [{"do_sample": True}, {"num_beams": 2}, {"use_cache": False}, {"overflow": "slide"}]
    )
    def test_what_it_does_not_go_with(self, framework, extra):
        model = framework.create("lm_head", CONFIG)
        for way, guesser in (("prompt_lookup_num_tokens", 2), ("assistant_model", model)):
            with pytest.raises(GPT2Error, match=f"{way} finds the likeliest tokens in fewer steps: it goes without"):
                model.generate(PROMPT, **{way: guesser}, **extra)


class TestCompiled:
    """The same tokens however the step is run."""

    SETTINGS = ({}, {"num_beams": 2}, {"do_sample": True, "seed": 3, "top_p": 0.9})

    def test_torch(self):
        model = Torch().create("lm_head", CONFIG, seed=1)
        settings = self.SETTINGS[::2]  # a batch of beams would be compiled once more, which takes long
        expected = [ids_of(model.generate(PROMPT, max_new_tokens=8, **s, **ENDLESS)) for s in settings]
        model.step = torch.compile(model.step)
        assert [ids_of(model.generate(PROMPT, max_new_tokens=8, **s, **ENDLESS)) for s in settings] == expected

    @pytest.mark.parametrize("mode", ["eager", "xla"])
    def test_keras(self, mode):
        model = Keras().create("lm_head", CONFIG, seed=1)
        expected = [ids_of(model.generate(PROMPT, max_new_tokens=8, **s, **ENDLESS)) for s in self.SETTINGS]
        step = model.step
        model.step = step if mode == "eager" else tf.function(step, jit_compile=True, autograph=False)
        tf.config.run_functions_eagerly(mode == "eager")
        try:
            found = [ids_of(model.generate(PROMPT, max_new_tokens=8, **s, **ENDLESS)) for s in self.SETTINGS]
        finally:
            tf.config.run_functions_eagerly(False)
        assert found == expected


class TestFiles:
    def test_settings_travel_with_the_model(self, framework, tmp_path):
        model = framework.create("lm_head", CONFIG)
        model.save_pretrained(tmp_path)
        assert not (tmp_path / "generation_config.json").exists()
        model.generation_config = GenerationConfig(max_new_tokens=3, repetition_penalty=1.3, eos_token_id=[])
        model.save_pretrained(tmp_path)
        again = framework.load("lm_head", tmp_path)
        assert again.generation_config == model.generation_config
        assert to_numpy(again.generate(PROMPT)).shape == (1, 7)
        assert to_numpy(again.generate(PROMPT, generation_config=GenerationConfig(max_new_tokens=5))).shape == (1, 9)

    def test_settings_travel_in_a_keras_file(self, tmp_path):
        model = Keras().create("lm_head", CONFIG)
        model.generation_config = GenerationConfig(max_new_tokens=7, stop_strings=["a"])
        model.save(tmp_path / "model.keras")
        assert keras.models.load_model(tmp_path / "model.keras").generation_config == model.generation_config

    def test_what_transformers_wrote(self, tmp_path):
        import transformers

        theirs = transformers.GenerationConfig(max_new_tokens=5, top_k=7, do_sample=True, eos_token_id=[1, 2])
        theirs.save_pretrained(tmp_path)
        ours = GenerationConfig.from_pretrained(tmp_path)
        assert (ours.max_new_tokens, ours.top_k, ours.do_sample, ours.eos_token_id) == (5, 7, True, [1, 2])
        ours.replace(top_p=0.5).save_pretrained(tmp_path)
        back = transformers.GenerationConfig.from_pretrained(tmp_path)
        assert (back.max_new_tokens, back.top_k, back.top_p, back.do_sample) == (5, 7, 0.5, True)

    def test_old_task_specific_params(self, tmp_path):
        tasks = {"text-generation": {"do_sample": True, "max_length": 50}}
        (tmp_path / "config.json").write_text(json.dumps({"task_specific_params": tasks}))
        assert GenerationConfig.from_pretrained(tmp_path, "text-generation") == GenerationConfig(
            do_sample=True, max_length=50
        )
        with pytest.raises(GPT2Error, match=r"no task_specific_params of 'text-generatio'.*'text-generation'"):
            GenerationConfig.from_pretrained(tmp_path, "text-generatio")

    def test_what_there_is_not_is_told_and_kept(self, tmp_path):
        file = tmp_path / "generation_config.json"
        file.write_text(json.dumps({"penalty_alpha": 0.6, "top_k": 4, "transformers_version": "4.57"}))
        with pytest.warns(UserWarning, match="^penalty_alpha: no settings of generate"):
            config = GenerationConfig.from_pretrained(tmp_path)
        config.save_pretrained(tmp_path)
        assert json.loads(file.read_text()) == {"penalty_alpha": 0.6, "top_k": 4, "transformers_version": "4.57"}

    def test_a_broken_file_does_not_keep_a_model_from_loading(self, framework, tmp_path):
        framework.create("lm_head", CONFIG).save_pretrained(tmp_path)
        (tmp_path / "generation_config.json").write_text('{"temperature": 0.0}')
        with pytest.warns(UserWarning, match="temperature=0.0: it must be above 0.*starts from its defaults"):
            assert framework.load("lm_head", tmp_path).generation_config == GenerationConfig()


BAD = {
    "num_return_sequences=3 is more than num_beams=2": {"num_beams": 2, "num_return_sequences": 3},
    "num_return_sequences=2 would be 2 times the same text": {"num_return_sequences": 2},
    "min_new_tokens=5 is more than max_new_tokens=3": {"min_new_tokens": 5, "max_new_tokens": 3},
    "min_length=9 is more than max_length=8": {"min_length": 9, "max_length": 8},
    "temperature=-1: it must be above 0; .* use do_sample=False": {"temperature": -1},
    r"top_p=1.01: it must be above 0 and at most 1": {"top_p": 1.01},
    "min_p=-0.1: it must be from 0": {"min_p": -0.1},
    "no setting 'num_beam'. Did you mean 'num_beams'": {"num_beam": 2},
    "early_stopping='always': it must be True, False or 'never'": {"early_stopping": "always"},
    "overflow='cut': it must be 'error' or 'slide'": {"overflow": "cut"},
    "bad_words_ids=40 is no token of the model": {"bad_words_ids": [[40]]},
    "bad_words_ids=.*a list of lists of token ids": {"bad_words_ids": [4]},
    "the settings forbid every token": {"suppress_tokens": list(range(40))},
    "stop_strings=''.*none of them empty": {"stop_strings": ""},
    "length_penalty='a': it must be a number": {"length_penalty": "a"},
    "max_time=0: it must be seconds, above 0": {"max_time": 0},
    "streamer=int: it needs put": {"streamer": 3},
    "logits_processor must be a list of functions": {"logits_processor": [3]},
}


@pytest.mark.parametrize("words", BAD)
def test_errors_have_the_same_words_in_both(words):
    said = []
    for framework in FRAMEWORKS:
        with pytest.raises(GPT2Error, match=words) as error:
            framework.create("lm_head", CONFIG).generate(PROMPT, **BAD[words])
        said.append(str(error.value))
    assert len(set(said)) == 1


def test_symbolic_prompts_are_refused():
    model = Keras().create("lm_head", CONFIG)
    with pytest.raises(GPT2Error, match="generate needs values, and was given a KerasTensor without"):
        model.generate(keras.Input((5,), dtype="int32"))
    for prompts in (tf.constant([[1, 2]]), None):  # as an argument, and as a list of numbers
        with pytest.raises(GPT2Error, match="without: call it with the tokens themselves, outside of tf"):
            tf.function(lambda ids: model.generate(PROMPT if ids is None else ids), autograph=False)(prompts)


def test_several_texts_of_a_prompt(framework):
    """The first is the one that is written alone; a run is told its seed, and can be repeated."""
    model = framework.create("lm_head", CONFIG)
    settings = {"do_sample": True, "max_new_tokens": 8, **ENDLESS}
    prompts = [[5, 6, 7], [8]]
    three = ids_of(model.generate(prompts, seed=[3, 4], num_return_sequences=3, **settings))
    assert three[::3] == ids_of(model.generate(prompts, seed=[3, 4], **settings))
    assert len({tuple(row) for row in three}) == 6
    out = model.generate(prompts, num_return_sequences=2, return_dict_in_generate=True, **settings)
    assert ids_of(model.generate(prompts, seed=out.seed, num_return_sequences=2, **settings)) == ids_of(out.sequences)
