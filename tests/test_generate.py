"""generate against transformers 5, in one framework against the other, of a row alone against one among others."""

import random

import numpy as np
import pytest
import torch
import transformers

from gpt2_core import GPT2Config
from tests.frameworks import Keras, Torch, to_numpy

PAD = 2
CONFIG = GPT2Config(
    vocab_size=40, n_positions=48, n_embd=24, n_layer=2, n_head=3, initializer_range=0.5, bos_token_id=0, eos_token_id=1
)


def random_prompts(draw, rows):
    """Returns prompts of different lengths, and as one array with its mask, padded on the left."""
    prompts = [[draw.randrange(3, 40) for _ in range(draw.randrange(1, 9))] for _ in range(rows)]
    width = max(map(len, prompts))
    ids = np.array([[PAD] * (width - len(row)) + row for row in prompts])
    mask = np.array([[0] * (width - len(row)) + [1] * len(row) for row in prompts])
    return prompts, ids, mask


def random_settings(draw):
    """Returns settings that draw nothing; a few of them at a time."""
    beams = draw.choice((1, 1, 2, 3, 4))
    eos = draw.choice(([], 1, [1, 7], [5, 6, 9, 11]))
    found = {"num_beams": beams, "max_new_tokens": draw.randrange(1, 14), "eos_token_id": eos, "pad_token_id": PAD}
    choices = {
        "repetition_penalty": (0.7, 1.3, 3.0),
        "no_repeat_ngram_size": (1, 2, 3),
        "bad_words_ids": ([[5]], [[3, 4], [8]], [[draw.randrange(3, 40)] for _ in range(12)]),
        "min_new_tokens": (1, 3),
        "suppress_tokens": ([PAD, 9, 10],),
    }
    if beams > 1:
        choices["length_penalty"] = (-1.0, 0.0, 0.5, 2.0)
        choices["early_stopping"] = (True, False, "never")
        choices["num_return_sequences"] = tuple(range(1, beams + 1))
    found |= {name: draw.choice(values) for name, values in choices.items() if draw.random() < 0.4}
    found["min_new_tokens"] = min(found.get("min_new_tokens", 0), found["max_new_tokens"])
    found["suppress_tokens"] = [PAD, *found.get("suppress_tokens", [])]  # else their padding would count as text
    return found


def reference_of(model):
    """Returns transformers' model with the weights of ours."""
    theirs = transformers.GPT2LMHeadModel(transformers.GPT2Config(**CONFIG.to_dict()))
    theirs.load_state_dict(model.state_dict(), strict=False)
    return theirs.double().eval()


@pytest.mark.parametrize("seed", range(6))
def test_fifty_random_calls_equal_transformers(seed, record_property):
    """Ids, and of beams their scores: greedy and beams, all that changes scores, prompts of any length."""
    draw = random.Random(seed)
    model = Torch().create("lm_head", CONFIG, seed=seed, dtype="float64")
    keras, theirs = Keras().create("lm_head", CONFIG, seed=seed, dtype="float64"), reference_of(model)
    for number in range(50):
        _, ids, mask = random_prompts(draw, draw.randrange(1, 4))
        settings = random_settings(draw)
        asked = {"return_dict_in_generate": True, "output_scores": True, **settings}
        expected = theirs.generate(
            torch.tensor(ids), attention_mask=torch.tensor(mask), do_sample=False, max_length=None,
            **{**asked, "eos_token_id": settings["eos_token_id"] or None},
        )  # fmt: skip
        for ours in (model, keras) if number % 5 == 0 else (model,):
            out = ours.generate(ids, mask, **asked)
            np.testing.assert_array_equal(to_numpy(out.sequences), expected.sequences.numpy(), str(settings))
            if settings["num_beams"] > 1:
                scores = expected.sequences_scores.numpy()
                np.testing.assert_allclose(to_numpy(out.sequences_scores), scores, 1e-5, 1e-5, err_msg=str(settings))
            np.testing.assert_allclose(to_numpy(out.scores[0]), expected.scores[0].numpy(), 1e-4, 1e-4)
            record_property(
                "counted", (f"random calls in {type(ours).__module__.split('.')[0]}, ids as transformers'", 1)
            )


def drawn_settings(draw):
    return {
        "do_sample": True,
        "temperature": draw.choice((0.5, 1.0, 1.7)),
        "top_k": draw.choice((0, 3, 20)),
        "top_p": draw.choice((0.3, 0.9, 1.0)),
        "min_p": draw.choice((None, 0.05)),
        "typical_p": draw.choice((1.0, 0.8)),
        "repetition_penalty": draw.choice((1.0, 1.2)),
        "num_beams": draw.choice((1, 1, 1, 3)),
        "max_new_tokens": 6,
    }


def test_a_thousand_samples_are_equal_in_both(record_property):
    """Float32, each row by a seed of its own; a pick that differs would be shown with how near the boundary it was."""
    draw, different, texts = random.Random(1), [], set()
    models = [framework.create("lm_head", CONFIG, seed=3) for framework in (Torch(), Keras())]
    for _ in range(25):
        prompts, _, _ = random_prompts(draw, 40)
        settings, seeds = drawn_settings(draw), [draw.randrange(2**63) for _ in prompts]
        ours, theirs = (to_numpy(model.generate(prompts, seed=seeds, **settings)) for model in models)
        texts |= {row.tobytes() for row in ours}
        for row in range(40):
            if ours.shape != theirs.shape or (ours[row] != theirs[row]).any():
                different.append((settings, prompts[row], seeds[row], margin(prompts[row], ours[row], theirs[row])))
    record_property("counted", ("samples that are the same in PyTorch and Keras", 1000 - len(different)))
    record_property("counted", ("samples that differ", len(different)))
    assert not different and len(texts) > 900


def margin(prompt, ours, theirs):
    """Returns how far apart the two likeliest scores are where two texts part, in float64."""
    place = int(np.flatnonzero(ours != theirs)[0]) if ours.shape == theirs.shape else len(prompt)
    model = Torch().create("lm_head", CONFIG, seed=3, dtype="float64")
    scores = np.sort(Torch().run(model, input_ids=ours[None, :place])["logits"][0, -1])
    return float(scores[-1] - scores[-2])


@pytest.mark.parametrize("tree, batches", [(Torch(), 150), (Keras(), 50)], ids=["torch", "keras"])
def test_a_row_alone_equals_the_row_in_a_batch(tree, batches, record_property):
    """200 batches in all: greedy, sampled, beams; rows end at different steps and leave the batch."""
    draw = random.Random(2)
    model = tree.create("lm_head", CONFIG, seed=1)
    for _ in range(batches):
        prompts, ids, mask = random_prompts(draw, draw.randrange(2, 6))
        settings = {**random_settings(draw), **(drawn_settings(draw) if draw.random() < 0.5 else {})}
        settings.pop("num_return_sequences", None)
        settings["max_new_tokens"] = 10
        seeds = [draw.randrange(1000) for _ in prompts] if settings.get("do_sample") else None
        together = to_numpy(model.generate(ids, mask, seed=seeds, **settings))
        for row in draw.sample(range(len(prompts)), 2):
            seed = seeds and [seeds[row]]
            alone = to_numpy(model.generate([prompts[row]], seed=seed, **settings))[0]
            start = ids.shape[1] - len(prompts[row])
            expected = np.concatenate([alone, [PAD] * (together.shape[1] - start - len(alone))])
            np.testing.assert_array_equal(together[row, start:], expected, str(settings))
    record_property("counted", ("batches whose rows are what they are alone", batches))
