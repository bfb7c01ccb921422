"""What a call may hold: the errors for what it may not, the same words in both trees; what is left as it was."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from gpt2_core import GPT2Config, GPT2Error
from tests.frameworks import FRAMEWORKS, Keras

CONFIG = GPT2Config(
    vocab_size=50, n_positions=24, n_embd=24, n_layer=2, n_head=4, initializer_range=0.3, bos_token_id=0, eos_token_id=1
)
N, T, C = 3, 7, 24
IDS2, IDS3, MASK2 = [[1, 2]], [[[1, 2], [3, 4]]], [[1, 1]]


def ids_of(*shape):
    return np.random.default_rng(0).integers(2, CONFIG.vocab_size, shape)


# What is wrong -> (head, arguments, words of the error); "config" among the arguments holds fields of the config
BAD_CALLS = {
    "id past the vocabulary": (
        "lm_head",
        {"input_ids": [[0, 50]]},
        "input_ids holds 50: it must be from 0 to vocab_size - 1",
    ),
    "negative id": ("lm_head", {"input_ids": [[0, -1]]}, "input_ids holds -1: "),
    "segment id": ("lm_head", {"input_ids": [[0]], "token_type_ids": [[99]]}, "token_type_ids holds 99"),
    "position": (
        "lm_head",
        {"input_ids": [[0]], "position_ids": [[24]]},
        "position_ids holds 24: it must be from 0 to n_pos",
    ),
    "label": ("lm_head", {"input_ids": [[0, 1]], "labels": [[0, -1]]}, "labels holds -1"),
    "floats as ids": ("lm_head", {"input_ids": [[0.5]]}, "input_ids holds fractional numbers"),
    "too long": ("lm_head", {"input_ids": [[0] * 25]}, "25 tokens pass n_positions=24: shorten the input"),
    "no batch": ("lm_head", {"input_ids": [1, 2]}, "input_ids has shape (2,), it must be (B, T)"),
    "ragged": ("lm_head", {"input_ids": [[1, 2], [3]]}, "input_ids has rows of unequal length"),
    "nothing": ("lm_head", {}, "give either input_ids or inputs_embeds"),
    "both": (
        "lm_head",
        {"input_ids": [[1]], "inputs_embeds": np.zeros((1, 1, 24), np.float32)},
        "one of them and not both",
    ),
    "no tokens": ("lm_head", {"input_ids": np.zeros((2, 0), np.int64)}, "input_ids holds no tokens"),
    "width": (
        "lm_head",
        {"inputs_embeds": np.zeros((1, 2, 5), np.float32)},
        "inputs_embeds has width 5, the model n_embd=24",
    ),
    "mask": (
        "lm_head",
        {"input_ids": [[1, 2]], "attention_mask": [[1]]},
        "attention_mask has shape (1, 1), it must be (1, 2) or",
    ),
    "labels": ("lm_head", {"input_ids": [[1, 2]], "labels": [[1]]}, "labels has shape (1, 1), it must be (1, 2)"),
    "labels alone": ("lm_head", {"labels": [[1]]}, "give either input_ids or inputs_embeds"),
    "a mask to add": (
        "lm_head",
        {"input_ids": [[1, 2]], "attention_mask": [[0.0, -1e9]]},
        "attention_mask holds -1e+09: it must",
    ),
    "fewer than no logits": (
        "lm_head",
        {"input_ids": [[1]], "logits_to_keep": -1},
        "logits_to_keep=-1: it must be a whole",
    ),
    "no pairs": (
        "lm_head",
        {"input_ids": [[1]], "past_key_values": 5},
        "past_key_values must be what a model returned",
    ),
    "words": ("lm_head", {"input_ids": "hello"}, "input_ids holds <U5: it must hold numbers"),
    "labels and fewer logits": (
        "lm_head",
        {"input_ids": [[1, 2]], "labels": [[1, 2]], "logits_to_keep": 1},
        "logits_to_keep=1",
    ),
    "layers of the cache": (
        "lm_head",
        {"input_ids": [[1]], "past_key_values": ((np.zeros((1, 4, 2, 6), np.float32),) * 2,)},
        "past_key_values has 1 entries of 2 tensors, it must be n_layer=2 pairs (key, value)",
    ),
    "mask without the past": (
        "lm_head",
        {
            "input_ids": [[1]],
            "attention_mask": [[1]],
            "past_key_values": ((np.zeros((1, 4, 2, 6), np.float32),) * 2,) * 2,
        },
        "it must cover the 2 past ones too, shape (1, 3)",
    ),
    "ragged embeddings": (
        "lm_head",
        {"inputs_embeds": [[[0.0] * 24], [[0.0] * 23]]},
        "inputs_embeds has rows of unequal length",
    ),
    "words for embeddings": ("lm_head", {"inputs_embeds": "hello"}, "inputs_embeds holds <U5: it must hold numbers"),
    "choices without their axis": (
        "double_heads",
        {"input_ids": IDS2},
        "input_ids has shape (1, 2), it must be (B, N, T)",
    ),
    "choices of a plain model": ("lm_head", {"input_ids": IDS3}, "input_ids has shape (1, 2, 2), it must be (B, T)"),
    "a mask of other choices": (
        "double_heads",
        {"input_ids": IDS3, "attention_mask": MASK2},
        "attention_mask has shape (1, 2), it must be (1, 2, 2) or (1, 2, 1, 2, 2)",
    ),
    "a choice's token past the end": (
        "double_heads",
        {"input_ids": IDS3, "mc_token_ids": [[0, 2]]},
        "mc_token_ids holds 2: it must be from 0 to T - 1 = 1",
    ),
    "a choice's token before the start": (
        "double_heads",
        {"input_ids": IDS3, "mc_token_ids": [[0, -1]]},
        "mc_token_ids holds -1: it must be from 0 to T - 1 = 1",
    ),
    "tokens of too few choices": (
        "double_heads",
        {"input_ids": IDS3, "mc_token_ids": [1]},
        "mc_token_ids has shape (1,), it must be (1, 2)",
    ),
    "a choice there is not": (
        "double_heads",
        {"input_ids": IDS3, "mc_labels": [2]},
        "mc_labels holds 2: it must be from 0 to N - 1 = 1, or -100",
    ),
    "a label for each choice": (
        "double_heads",
        {"input_ids": IDS3, "mc_labels": [[0, 1]]},
        "mc_labels has shape (1, 2), it must be (1,)",
    ),
    "labels of choices": (
        "double_heads",
        {"input_ids": IDS3, "labels": [[1, 2]]},
        "labels has shape (1, 2), it must be (1, 2, 2)",
    ),
    "no score to learn": (
        "double_heads",
        {"input_ids": IDS3, "mc_labels": [0], "config": {"summary_use_proj": False}},
        "mc_labels need a score for each choice, and this head gives n_embd numbers",
    ),
    "no end of rows": (
        "sequence_classification",
        {"input_ids": [[1, 2], [3, 4]]},
        "nothing tells where each of the 2 rows ends: pass attention_mask (B, T), 1 for real tokens "
        "(config.pad_token_id is None)",
    ),
    "no end of rows of embeddings": (
        "sequence_classification",
        {"inputs_embeds": np.zeros((2, 3, C), np.float32), "config": {"pad_token_id": 3}},
        "(inputs_embeds show no padding)",
    ),
    "a label there is not": (
        "sequence_classification",
        {"input_ids": IDS2, "labels": [2]},
        "labels holds 2: it must be from 0 to num_labels - 1 = 1, or -100",
    ),
    "fractional labels": (
        "sequence_classification",
        {"input_ids": IDS2, "labels": [1.5]},
        "labels holds fractional numbers",
    ),
    "labels of other rows": (
        "sequence_classification",
        {"input_ids": IDS2, "labels": [1, 1]},
        "labels has shape (2,), it must be (1,) or (1, 1)",
    ),
    "labels of too many kinds": (
        "sequence_classification",
        {"input_ids": IDS2, "labels": [[0.0, 1.0, 1.0]]},
        "labels has shape (1, 3), it must be (1, 2)",
    ),
    "more than true": (
        "sequence_classification",
        {"input_ids": IDS2, "labels": [[0.0, 1.5]]},
        "labels holds 1.5: each must be from 0 to 1, where several labels may hold",
    ),
    "not a number": (
        "sequence_classification",
        {"input_ids": IDS2, "labels": [float("nan")], "config": {"num_labels": 1}},
        "labels holds nan: each must be a finite number",
    ),
    "a label of a token": (
        "token_classification",
        {"input_ids": IDS2, "labels": [[0, 2]]},
        "labels holds 2: it must be from 0 to num_labels - 1 = 1, or -100",
    ),
    "half an answer": (
        "question_answering",
        {"input_ids": IDS2, "start_positions": [1]},
        "start_positions and end_positions go together",
    ),
    "an answer before the start": (
        "question_answering",
        {"input_ids": IDS2, "start_positions": [-1], "end_positions": [1]},
        "start_positions holds -1: it must be at least 0, or -100 for what does not count",
    ),
    "heads of another number": (
        "model",
        {"input_ids": IDS2, "head_mask": [1, 0]},
        "head_mask has shape (2,), it must be (4,) or (2, 4)",
    ),
    "an encoder for nobody": (
        "model",
        {"input_ids": IDS2, "encoder_hidden_states": np.zeros((1, 3, C), np.float32)},
        "encoder_hidden_states was given to a model without cross-attention: it needs add_cross_attention=True",
    ),
    "an encoder's mask alone": (
        "lm_head",
        {"input_ids": IDS2, "encoder_attention_mask": MASK2, "config": {"add_cross_attention": True}},
        "encoder_attention_mask was given without encoder_hidden_states: give both",
    ),
    "an encoder of another width": (
        "lm_head",
        {
            "input_ids": IDS2,
            "encoder_hidden_states": np.zeros((1, 3, 5), np.float32),
            "config": {"add_cross_attention": True},
        },
        "encoder_hidden_states has shape (1, 3, 5), it must be (1, None, 24)",
    ),
    "an encoder's mask of another length": (
        "lm_head",
        {
            "input_ids": IDS2,
            "encoder_hidden_states": np.zeros((1, 3, C), np.float32),
            "encoder_attention_mask": MASK2,
            "config": {"add_cross_attention": True},
        },
        "encoder_attention_mask has shape (1, 2), it must be (1, 3) or (1, 2, 3)",
    ),
    "an encoder's mask to add": (
        "lm_head",
        {
            "input_ids": IDS2,
            "encoder_hidden_states": np.zeros((1, 2, C), np.float32),
            "encoder_attention_mask": [[0.0, -1e4]],
            "config": {"add_cross_attention": True},
        },
        "encoder_attention_mask holds -10000: it must be 1 for tokens that are kept",
    ),
    "an empty encoder": (
        "lm_head",
        {
            "input_ids": IDS2,
            "encoder_hidden_states": np.zeros((1, 0, C), np.float32),
            "config": {"add_cross_attention": True},
        },
        "encoder_hidden_states holds no tokens",
    ),
    "a cache of an encoder for nobody": (
        "lm_head",
        {"input_ids": IDS2, "past_key_values": ((np.zeros((1, 4, 2, 6), np.float32),) * 4,) * 2},
        "past_key_values has 2 entries of 4 tensors, it must be n_layer=2 pairs (key, value)",
    ),
    "a cache of another length": (
        "lm_head",
        {
            "input_ids": IDS2,
            "past_key_values": tuple((np.zeros((1, 4, n, 6), np.float32),) * 2 for n in (2, 3)),
        },
        "past_key_values holds a tensor of shape (1, 4, 3, 6), it must be (B, n_head, P, head_dim) = (1, 4, 2, 6)",
    ),
}


@pytest.mark.parametrize("head, inputs, words", BAD_CALLS.values(), ids=BAD_CALLS)
def test_bad_calls_raise_the_same_words_in_both(head, inputs, words):
    config = dataclasses.replace(CONFIG, **inputs.get("config", {}))
    inputs = {name: x for name, x in inputs.items() if name != "config"}
    said = []
    for framework in FRAMEWORKS:
        with pytest.raises(GPT2Error) as raised:
            framework.create(head, config)(**inputs)
        said.append(str(raised.value))
    assert words in said[0] and said[0] == said[1]


GRAPH_INPUTS = {
    "lm_head": {"input_ids": ids_of(1, T), "labels": ids_of(1, T), "position_ids": np.arange(T)[None]},
    "double_heads": {"input_ids": ids_of(1, N, T), "mc_token_ids": ids_of(1, N) % T, "mc_labels": np.array([1])},
}
IN_GRAPHS = [
    ("lm_head", {"input_ids": 50}),
    ("lm_head", {"input_ids": -1}),
    ("lm_head", {"labels": -1}),
    ("lm_head", {"labels": 50}),
    ("lm_head", {"position_ids": 24}),
    ("double_heads", {"mc_token_ids": T}),
    ("double_heads", {"mc_token_ids": -1}),
    ("double_heads", {"mc_labels": N}),
    ("double_heads", {"mc_labels": -1}),
]


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("head, wrong", IN_GRAPHS, ids=str)
def test_what_a_graph_cannot_refuse_is_nan(jit_compile, head, wrong):
    model, inputs, loss = Keras().create(head, CONFIG), GRAPH_INPUTS[head], {"lm_head": "loss"}.get(head, "mc_loss")
    call = tf.function(lambda inputs: model(**inputs)[loss], jit_compile=jit_compile, autograph=False)
    tensors = {name: tf.constant(x) for name, x in inputs.items()}
    assert np.isfinite(call(tensors))
    ((name, value),) = wrong.items()
    last = np.arange(inputs[name].shape[-1]) == inputs[name].shape[-1] - 1
    tensors[name] = tf.constant(np.where(last, value, inputs[name]))
    assert np.isnan(call(tensors))


def test_models_want_a_config(framework):
    with pytest.raises(GPT2Error, match="config is a dict: give a GPT2Config"):
        framework.create("model", {})


def test_the_callers_things_stay_as_they_were(framework):
    model = framework.create("lm_head", CONFIG)
    ids, mask = ids_of(2, 6), np.ones((2, 6), np.int64)
    before = ids.copy(), mask.copy(), CONFIG.to_dict()
    framework.run(model, input_ids=ids, attention_mask=mask, labels=ids)
    assert (ids == before[0]).all() and (mask == before[1]).all() and CONFIG.to_dict() == before[2]
    assert model.config is CONFIG
