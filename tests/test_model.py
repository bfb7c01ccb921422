"""What both trees promise beyond the numbers: padding, caches, losses, shapes, dtypes, errors."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
import torch

from gpt2_core import BaseModelOutput, CausalLMOutput, GPT2Config, GPT2Error
from gpt2_core.parity import TOLERANCE, require_close
from tests.frameworks import EVERYTHING, FRAMEWORKS, Keras, Torch, to_numpy

CONFIG = GPT2Config(
    vocab_size=50, n_positions=24, n_embd=24, n_layer=3, n_head=4, initializer_range=0.3, bos_token_id=0, eos_token_id=1
)
EXACT = TOLERANCE["float64"]


def ids_of(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, CONFIG.vocab_size, shape)


@pytest.fixture(params=["model", "lm_head"])
def head(request):
    return request.param


def test_outputs_have_the_contract_s_fields_and_shapes(framework):
    B, T, P, S = 2, 5, 3, 8
    C, H, D, V, L = 24, 4, 6, 50, 3
    model = framework.create("lm_head", CONFIG)
    past = framework.model_class("lm_head").__call__(model, ids_of(B, P)).past_key_values
    out = model(ids_of(B, T), past, labels=ids_of(B, T), **EVERYTHING)
    assert isinstance(out, CausalLMOutput)
    assert out.keys() == ("loss", "logits", "past_key_values", "hidden_states", "attentions")
    assert tuple(out.loss.shape) == () and tuple(out.logits.shape) == (B, T, V)
    assert [[tuple(x.shape) for x in pair] for pair in out.past_key_values] == [[(B, H, S, D)] * 2] * L
    assert [tuple(x.shape) for x in out.hidden_states] == [(B, T, C)] * (L + 1)
    assert [tuple(x.shape) for x in out.attentions] == [(B, H, T, S)] * L
    trunk = framework.create("model", CONFIG)(ids_of(B, T), use_cache=False)
    assert isinstance(trunk, BaseModelOutput) and trunk.keys() == ("last_hidden_state",)


def test_tuples_and_config_switches(framework):
    model = framework.create("lm_head", CONFIG)
    as_tuple = model(ids_of(1, 4), return_dict=False)
    assert type(as_tuple) is tuple and len(as_tuple) == 2
    switched = dataclasses.replace(CONFIG, output_attentions=True, output_hidden_states=True, use_cache=False)
    assert framework.create("lm_head", switched)(ids_of(1, 4)).keys() == ("logits", "hidden_states", "attentions")


def test_lists_and_positional_arguments(framework):
    model = framework.create("lm_head", CONFIG, dtype="float64")
    by_name = framework.run(model, input_ids=ids_of(2, 4), attention_mask=np.ones((2, 4), np.int64))
    out = model(ids_of(2, 4).tolist(), None, [[1] * 4] * 2)
    require_close({"logits": to_numpy(out.logits)}, {"logits": by_name["logits"]}, 0.0)
    kept = framework.run(model, input_ids=ids_of(2, 4), logits_to_keep=1)["logits"]
    require_close({"logits": kept}, {"logits": by_name["logits"][:, -1:]}, EXACT)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_padded_row_gives_what_it_gives_alone(runner, side, dtype):
    model = runner.create("lm_head", CONFIG, dtype=dtype)
    ids = ids_of(3, 12)
    mask = np.ones_like(ids)
    lengths = [12, 7, 1]
    for row, length in enumerate(lengths):
        mask[row, slice(0, 12 - length) if side == "left" else slice(length, 12)] = 0
    together = runner.run(model, input_ids=ids, attention_mask=mask, **EVERYTHING)
    for row in range(3):
        kept = mask[row] == 1
        alone = runner.run(model, input_ids=ids[row, kept][None], **EVERYTHING)
        picked = {}
        for name, values in together.items():
            values = values[row : row + 1]
            if name.startswith("attentions"):
                assert (values[..., ~kept] == 0)[:, :, kept].all(), "a real token looks at padding"
                values = values[..., kept, :][..., kept]
            else:
                values = values[:, :, kept] if name.startswith("past") else values[:, kept]
            picked[name] = values
        require_close(picked, alone, TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_step_by_step_with_the_cache_equals_all_at_once(runner, dtype):
    model = runner.create("lm_head", CONFIG, dtype=dtype)
    ids = ids_of(2, 10)
    whole = runner.run(model, input_ids=ids)["logits"]
    past, parts, start = None, [], 0
    for width in (1, 4, 1, 3, 1):  # one by one, and in chunks
        run = runner.run(model, input_ids=ids[:, start : start + width], past_key_values=past)
        past = tuple((run[f"past_key_values.{i}.0"], run[f"past_key_values.{i}.1"]) for i in range(CONFIG.n_layer))
        parts.append(run["logits"])
        start += width
    require_close({"logits": np.concatenate(parts, 1)}, {"logits": whole}, TOLERANCE[dtype])


def test_the_cache_of_a_padded_batch(framework):
    model = framework.create("lm_head", CONFIG, dtype="float64")
    ids, mask = ids_of(2, 9), np.ones((2, 9), np.int64)
    mask[0, :4] = 0
    whole = framework.run(model, input_ids=ids, attention_mask=mask)
    first = framework.run(model, input_ids=ids[:, :6], attention_mask=mask[:, :6])
    past = tuple((first[f"past_key_values.{i}.0"], first[f"past_key_values.{i}.1"]) for i in range(CONFIG.n_layer))
    rest = framework.run(model, input_ids=ids[:, 6:], past_key_values=past, attention_mask=mask)
    require_close({"logits": rest["logits"]}, {"logits": whole["logits"][:, 6:]}, EXACT)


def test_a_fully_masked_row_is_finite_and_never_looks_ahead(runner):
    model = runner.create("model", CONFIG)
    ids, mask = ids_of(2, 6), np.ones((2, 6), np.int64)
    mask[1] = 0
    out = runner.run(model, input_ids=ids, attention_mask=mask, **EVERYTHING)
    assert all(np.isfinite(values).all() for values in out.values())
    assert (np.triu(out["attentions.0"][1, 0], 1) == 0).all()


def test_a_mask_of_four_axes_is_taken_as_given(framework):
    model = framework.create("lm_head", CONFIG, dtype="float64")
    ids = ids_of(2, 6)
    causal = np.tril(np.ones((6, 6), bool))[None, None].repeat(2, 0)
    plain = framework.run(model, input_ids=ids)
    require_close(framework.run(model, input_ids=ids, attention_mask=causal), plain, EXACT)
    everything = framework.run(model, input_ids=ids, attention_mask=np.ones_like(causal), output_attentions=True)
    assert (everything["attentions.0"] > 0).all()


def test_embeddings_in_place_of_ids(framework):
    model = framework.create("lm_head", CONFIG, dtype="float64")
    ids = ids_of(2, 6)
    embeds = framework.weights(model)["transformer.wte.weight"][ids]
    require_close(framework.run(model, inputs_embeds=embeds), framework.run(model, input_ids=ids), EXACT)


def test_segments_use_the_word_table_and_zero_counts(framework):
    model = framework.create("lm_head", CONFIG, dtype="float64")
    ids, zeros = ids_of(2, 6), np.zeros((2, 6), np.int64)
    wte = framework.weights(model)["transformer.wte.weight"]
    with_segments = framework.run(model, input_ids=ids, token_type_ids=zeros)
    require_close(with_segments, framework.run(model, inputs_embeds=wte[ids] + wte[zeros]), EXACT)
    assert np.abs(with_segments["logits"] - framework.run(model, input_ids=ids)["logits"]).max() > 1e-3


def test_labels_of_minus_100_do_not_count(framework):
    model = framework.create("lm_head", CONFIG, dtype="float64")
    ids = ids_of(1, 8)
    half = np.where(np.arange(8) < 5, ids, -100)
    short = framework.run(model, input_ids=ids[:, :5], labels=ids[:, :5])["loss"]
    require_close({"loss": framework.run(model, input_ids=ids, labels=half)["loss"]}, {"loss": short}, EXACT)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_16_bit_models_are_near_the_wide_one(runner, dtype, tmp_path):
    wide = runner.create("lm_head", CONFIG, dtype="float32")
    wide.save_pretrained(tmp_path)
    model = runner.load("lm_head", tmp_path, dtype)
    ids = ids_of(2, 9)
    ours, theirs = (runner.run(m, input_ids=ids, labels=ids) for m in (model, wide))
    # some roundings of 2**-9 (bfloat16) or 2**-12 (float16) each, as a part of the largest value
    require_close({"logits": ours["logits"]}, {"logits": theirs["logits"]}, {"bfloat16": 4e-2, "float16": 4e-3}[dtype])
    assert abs(ours["loss"] - theirs["loss"]) < 4e-2
    assert np.isfinite(runner.run(model, input_ids=ids, attention_mask=np.zeros_like(ids))["logits"]).all()


def test_upcasting_attention_saves_scores_that_16_bits_cannot_hold(framework):
    base = dataclasses.replace(CONFIG, scale_attn_weights=False, initializer_range=40.0, n_layer=1)
    ids = ids_of(1, 6)
    finite = {}
    for upcast in (False, True):
        config = dataclasses.replace(base, reorder_and_upcast_attn=upcast)
        attention = framework.run(framework.create("model", config, dtype="float16"), input_ids=ids, **EVERYTHING)
        finite[upcast] = np.isfinite(attention["attentions.0"]).all()
    assert finite == {False: False, True: True}


@pytest.mark.parametrize("field", ["embd_pdrop", "attn_pdrop", "resid_pdrop"])
def test_each_dropout_acts_in_training_only(framework, field):
    none = {"embd_pdrop": 0.0, "attn_pdrop": 0.0, "resid_pdrop": 0.0}
    model = framework.create("lm_head", dataclasses.replace(CONFIG, **{**none, field: 0.5}))
    still = framework.create("lm_head", dataclasses.replace(CONFIG, **none))
    ids = ids_of(1, 8)
    quiet = [framework.run(model, input_ids=ids)["logits"] for _ in range(2)]
    np.testing.assert_array_equal(*quiet)
    np.testing.assert_array_equal(training_logits(framework, still, ids), quiet[0])
    noisy = [training_logits(framework, model, ids) for _ in range(2)]
    assert np.abs(noisy[0] - noisy[1]).max() > 0.01 and np.abs(noisy[0] - quiet[0]).max() > 0.01


def training_logits(framework, model, ids):
    if isinstance(framework, Torch):
        return to_numpy(model.train()(torch.as_tensor(ids, device=model.device)).logits)
    return to_numpy(model(ids, training=True).logits)


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int32", "uint32", "int64"])
def test_ids_of_every_width(framework, dtype):
    model = framework.create("lm_head", CONFIG)
    ids = ids_of(2, 5)
    ours = model(ids.astype(dtype), labels=ids.astype(dtype), position_ids=np.arange(5)[None].astype(dtype))
    expected = framework.run(model, input_ids=ids, labels=ids)
    require_close({"loss": to_numpy(ours.loss)}, {"loss": expected["loss"]}, 0.0)


BAD_CALLS = {
    "id past the vocabulary": ({"input_ids": [[0, 50]]}, "input_ids holds 50: it must be from 0 to vocab_size - 1"),
    "negative id": ({"input_ids": [[0, -1]]}, "input_ids holds -1: "),
    "segment id": ({"input_ids": [[0]], "token_type_ids": [[99]]}, "token_type_ids holds 99"),
    "position": ({"input_ids": [[0]], "position_ids": [[24]]}, "position_ids holds 24: it must be from 0 to n_pos"),
    "label": ({"input_ids": [[0, 1]], "labels": [[0, -1]]}, "labels holds -1"),
    "floats as ids": ({"input_ids": [[0.5]]}, "input_ids holds fractional numbers"),
    "too long": ({"input_ids": [[0] * 25]}, "25 tokens pass n_positions=24: shorten the input"),
    "no batch": ({"input_ids": [1, 2]}, "input_ids has shape (2,), it must be (B, T)"),
    "ragged": ({"input_ids": [[1, 2], [3]]}, "input_ids has rows of unequal length"),
    "nothing": ({}, "give either input_ids or inputs_embeds"),
    "both": ({"input_ids": [[1]], "inputs_embeds": np.zeros((1, 1, 24), np.float32)}, "one of them and not both"),
    "no tokens": ({"input_ids": np.zeros((2, 0), np.int64)}, "input_ids holds no tokens"),
    "width": ({"inputs_embeds": np.zeros((1, 2, 5), np.float32)}, "inputs_embeds has width 5, the model n_embd=24"),
    "mask": ({"input_ids": [[1, 2]], "attention_mask": [[1]]}, "attention_mask has shape (1, 1), it must be (1, 2) or"),
    "labels": ({"input_ids": [[1, 2]], "labels": [[1]]}, "labels has shape (1, 1), it must be (1, 2)"),
    "labels alone": ({"labels": [[1]]}, "give either input_ids or inputs_embeds"),
    "a mask to add": ({"input_ids": [[1, 2]], "attention_mask": [[0.0, -1e9]]}, "attention_mask holds -1e+09: it must"),
    "fewer than no logits": (
        {"input_ids": [[1]], "logits_to_keep": -1},
        "logits_to_keep=-1: it must be a whole",
    ),
    "no pairs": ({"input_ids": [[1]], "past_key_values": 5}, "past_key_values must be what a model returned"),
    "words": ({"input_ids": "hello"}, "input_ids holds <U5: it must hold numbers"),
    "labels and fewer logits": ({"input_ids": [[1, 2]], "labels": [[1, 2]], "logits_to_keep": 1}, "logits_to_keep=1"),
    "layers of the cache": (
        {"input_ids": [[1]], "past_key_values": ((np.zeros((1, 4, 2, 6), np.float32),) * 2,)},
        "past_key_values has 1 entries of 2 tensors, it must be n_layer=3 pairs (key, value)",
    ),
    "mask without the past": (
        {
            "input_ids": [[1]],
            "attention_mask": [[1]],
            "past_key_values": ((np.zeros((1, 4, 2, 6), np.float32),) * 2,) * 3,
        },
        "it must cover the 2 past ones too, shape (1, 3)",
    ),
}


@pytest.mark.parametrize("inputs, words", BAD_CALLS.values(), ids=BAD_CALLS)
def test_bad_calls_raise_the_same_words_in_both(inputs, words):
    said = []
    for framework in FRAMEWORKS:
        with pytest.raises(GPT2Error) as raised:
            framework.create("lm_head", CONFIG)(**inputs)
        said.append(str(raised.value))
    assert words in said[0] and said[0] == said[1]


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


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize(
    "wrong", [{"input_ids": 50}, {"input_ids": -1}, {"labels": -1}, {"labels": 50}, {"position_ids": 24}], ids=str
)
def test_what_a_graph_cannot_refuse_is_nan(jit_compile, wrong):
    model = Keras().create("lm_head", CONFIG)
    inputs = {"input_ids": ids_of(1, 4), "labels": ids_of(1, 4), "position_ids": np.arange(4)[None]}
    call = tf.function(lambda inputs: model(**inputs).loss, jit_compile=jit_compile, autograph=False)
    tensors = {name: tf.constant(x) for name, x in inputs.items()}
    assert np.isfinite(call(tensors))
    ((name, value),) = wrong.items()
    tensors[name] = tf.constant(np.where(np.arange(4) == 2, value, inputs[name]))
    assert np.isnan(call(tensors))


def test_names_of_keras_variables_tell_where_they_are():
    model = Keras().create("lm_head", CONFIG)
    paths = [variable.path for variable in model.trainable_variables]
    assert len(set(paths)) == len(paths)
    assert paths[2].endswith("transformer/h.0/ln_1/weight")
