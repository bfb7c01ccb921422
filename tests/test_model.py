"""What both trees promise beyond the numbers: padding, caches, losses, shapes, dtypes, errors."""

import dataclasses

import numpy as np
import pytest

from gpt2_core import BaseModelOutput, CausalLMOutput, GPT2Config
from gpt2_core.parity import TOLERANCE, require_close
from tests.frameworks import EVERYTHING, Keras, to_numpy
from tests.processors import pretended

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


def test_upcasting_attention_saves_scores_that_16_bits_cannot_hold(framework, monkeypatch):
    pretended(None, monkeypatch)  # PyTorch makes them in float32 anyway where the processor lacks float16
    base = dataclasses.replace(CONFIG, scale_attn_weights=False, initializer_range=40.0, n_layer=1)
    ids = ids_of(1, 6)
    finite = {}
    for upcast in (False, True):
        config = dataclasses.replace(base, reorder_and_upcast_attn=upcast)
        attention = framework.run(framework.create("model", config, dtype="float16"), input_ids=ids, **EVERYTHING)
        finite[upcast] = np.isfinite(attention["attentions.0"]).all()
    assert finite == {False: False, True: True}


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int32", "uint32", "int64"])
def test_ids_of_every_width(framework, dtype):
    model = framework.create("lm_head", CONFIG)
    ids = ids_of(2, 5)
    ours = model(ids.astype(dtype), labels=ids.astype(dtype), position_ids=np.arange(5)[None].astype(dtype))
    expected = framework.run(model, input_ids=ids, labels=ids)
    require_close({"loss": to_numpy(ours.loss)}, {"loss": expected["loss"]}, 0.0)


def test_names_of_keras_variables_tell_where_they_are():
    model = Keras().create("lm_head", CONFIG)
    paths = [variable.path for variable in model.trainable_variables]
    assert len(set(paths)) == len(paths)
    assert paths[2].endswith("transformer/h.0/ln_1/weight")
