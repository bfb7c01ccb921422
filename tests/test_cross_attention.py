"""Attention to an encoder, its cache and its masks; and head_mask."""

import dataclasses

import numpy as np
import pytest

from gpt2_core import GPT2Config
from gpt2_core.parity import TOLERANCE, require_close

CONFIG = GPT2Config(
    vocab_size=50, n_positions=24, n_embd=24, n_layer=3, n_head=4, initializer_range=0.3, add_cross_attention=True
)
EXACT = TOLERANCE["float64"]
R = np.random.default_rng(0)
IDS, ENCODER = R.integers(0, 50, (2, 9)), R.normal(size=(2, 5, 24))


def cache_of(run):
    width = sum(name.startswith("past_key_values.0.") for name in run)
    return tuple(tuple(run[f"past_key_values.{i}.{n}"] for n in range(width)) for i in range(3))


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_step_by_step_the_encoder_is_needed_once(runner, dtype):
    model = runner.create("lm_head", CONFIG, dtype=dtype)
    encoder, mask = ENCODER.astype(dtype), np.array([[1, 1, 0, 1, 1], [0, 1, 1, 1, 0]])
    whole = runner.run(model, input_ids=IDS, encoder_hidden_states=encoder, encoder_attention_mask=mask)
    first = runner.run(model, input_ids=IDS[:, :4], encoder_hidden_states=encoder, encoder_attention_mask=mask)
    parts, past = [first["logits"]], cache_of(first)
    assert [x.shape for x in past[0]] == [(2, 4, 4, 6)] * 2 + [(2, 4, 5, 6)] * 2
    for chunk in (slice(4, 5), slice(5, 9)):
        run = runner.run(model, input_ids=IDS[:, chunk], past_key_values=past, encoder_attention_mask=mask)
        parts, past = [*parts, run["logits"]], cache_of(run)
    require_close({"logits": np.concatenate(parts, 1)}, {"logits": whole["logits"]}, TOLERANCE[dtype])


def test_given_states_win_over_the_cache(framework):
    model = framework.create("lm_head", CONFIG, dtype="float64")
    first = framework.run(model, input_ids=IDS[:, :4], encoder_hidden_states=ENCODER)
    other = framework.run(
        model, input_ids=IDS[:, 4:], past_key_values=cache_of(first), encoder_hidden_states=ENCODER[:, :2] + 1
    )
    own = tuple(entry[:2] for entry in cache_of(first))
    again = framework.run(model, input_ids=IDS[:, 4:], past_key_values=own, encoder_hidden_states=ENCODER[:, :2] + 1)
    require_close(other, again, 0.0)


def test_without_an_encoder_it_is_a_plain_model(framework):
    model = framework.create("lm_head", CONFIG, dtype="float64")
    plain = framework.create("lm_head", dataclasses.replace(CONFIG, add_cross_attention=False), dtype="float64")
    run = framework.run(model, input_ids=IDS, output_attentions=True)
    require_close(run, framework.run(plain, input_ids=IDS, output_attentions=True), 0.0)
    assert not any(name.startswith("cross_attentions") for name in run)


def test_masks_of_the_encoder(framework):
    model = framework.create("lm_head", CONFIG, dtype="float64")
    inputs = {"input_ids": IDS, "encoder_hidden_states": ENCODER, "output_attentions": True}
    mask = np.array([[1, 1, 0, 1, 0], [1, 1, 1, 1, 1]])
    run = framework.run(model, **inputs, encoder_attention_mask=mask)
    assert run["cross_attentions.2"].shape == (2, 4, 9, 5) and (run["cross_attentions.2"][0, ..., [2, 4]] == 0).all()
    shorter = {**inputs, "input_ids": IDS[:1], "encoder_hidden_states": ENCODER[:1, [0, 1, 3]]}
    alone = framework.run(model, **shorter)
    require_close({"logits": run["logits"][:1]}, {"logits": alone["logits"]}, EXACT)
    of_each_query = np.repeat(mask[:, None], 9, axis=1)
    require_close(framework.run(model, **inputs, encoder_attention_mask=of_each_query), run, 0.0)
    of_each_query[0, 3] = 0  # this one sees nothing, and spreads evenly
    nothing = framework.run(model, **inputs, encoder_attention_mask=of_each_query)
    np.testing.assert_allclose(nothing["cross_attentions.0"][0, :, 3], 0.2, rtol=1e-12)
    assert all(np.isfinite(x).all() for x in nothing.values())


def test_an_encoder_of_one_token_adds_its_value(framework):
    """With one key every weight is 1, so cross-attention adds c_proj(value), whatever the query."""
    config = dataclasses.replace(CONFIG, n_layer=1)
    model = framework.create("model", config, dtype="float64")
    w = {name.removeprefix("h.0."): x for name, x in framework.weights(model).items()}
    run = framework.run(model, input_ids=IDS, encoder_hidden_states=ENCODER[:, :1], output_attentions=True)
    assert (run["cross_attentions.0"] == 1).all()
    value = (ENCODER[:, :1] @ w["crossattention.c_attn.weight"] + w["crossattention.c_attn.bias"])[..., 24:]
    added = value @ w["crossattention.c_proj.weight"] + w["crossattention.c_proj.bias"]
    # the same as a bias of the attention before it, which the residual stream cannot tell apart
    plain = framework.create("model", dataclasses.replace(config, add_cross_attention=False), dtype="float64")
    for row in range(2):
        weights = {name: x for name, x in framework.weights(model).items() if "cross" not in name}
        weights["h.0.attn.c_proj.bias"] = weights["h.0.attn.c_proj.bias"] + added[row, 0]
        framework.assign(plain, weights)
        alone = framework.run(plain, input_ids=IDS[row : row + 1])
        require_close({"x": run["last_hidden_state"][row : row + 1]}, {"x": alone["last_hidden_state"]}, EXACT)


@pytest.mark.parametrize("shape", ["each head", "each layer and head"])
def test_a_masked_head_adds_nothing(runner, shape):
    model = runner.create("lm_head", CONFIG, dtype="float64")
    mask = (
        np.array([1.0, 0.0, 0.5, 1.0])
        if shape == "each head"
        else np.array([[1, 0, 1, 1], [1, 1, 1, 1], [0, 0, 0, 0.0]])
    )
    inputs = {"input_ids": IDS, "encoder_hidden_states": ENCODER, "output_attentions": True}
    run, whole = runner.run(model, **inputs, head_mask=mask), runner.run(model, **inputs)
    first = mask if shape == "each head" else mask[0]
    for field in ("attentions.0", "cross_attentions.0"):
        if field == "attentions.0":
            require_close({field: run[field]}, {field: whole[field] * first[:, None, None]}, EXACT)
        assert (run[field][:, 1] == 0).all() and (run[field][:, 3] > 0).any()
    assert np.abs(run["logits"] - whole["logits"]).max() > 1e-3
    if shape != "each head":
        assert (run["attentions.2"] == 0).all()
    ones = runner.run(model, **inputs, head_mask=np.ones(4, np.int64))
    require_close(ones, whole, 0.0)
