"""The word table: its size, its layer, what follows it."""

import dataclasses

import numpy as np
import pytest
import torch

from gpt2_core import GPT2Config, GPT2Error
from gpt2_core.parity import require_close
from gpt2_core.weights import HEADS
from tests.frameworks import Keras, Torch, to_numpy

CONFIG = GPT2Config(vocab_size=40, n_positions=12, n_embd=16, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=0)
IDS = np.random.default_rng(0).integers(0, 30, (2, 6))


def table_names(config, head):
    tables = ["wte.weight" if head == "model" else "transformer.wte.weight"]
    return tables + (
        ["lm_head.weight"] if head in ("lm_head", "double_heads") and not config.tie_word_embeddings else []
    )


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("rows", [55, 40, 31])
@pytest.mark.parametrize("head", HEADS)
def test_kept_rows_stay_and_new_ones_are_the_seed_s(framework, head, rows, tied):
    config = dataclasses.replace(CONFIG, tie_word_embeddings=tied)
    model = framework.create(head, config, seed=1)
    before = framework.weights(model)
    layer = model.resize_token_embeddings(rows, seed=7)
    after, fresh = (
        framework.weights(model),
        framework.weights(framework.create(head, dataclasses.replace(config, vocab_size=rows), seed=7)),
    )
    assert list(after) == list(before) and layer is model.get_input_embeddings()
    for name, x in after.items():
        if name in table_names(config, head):
            assert x.shape == (rows, 16)
            np.testing.assert_array_equal(x[:40], before[name][:rows])
            np.testing.assert_array_equal(x[40:], fresh[name][40:])
        else:
            np.testing.assert_array_equal(x, before[name])
    assert model.config.vocab_size == rows and config.vocab_size == 40
    assert model.num_parameters() == sum(x.size for x in after.values())


@pytest.mark.parametrize("tied", [True, False])
def test_the_head_follows(framework, tied, tmp_path):
    model = framework.create("lm_head", dataclasses.replace(CONFIG, tie_word_embeddings=tied))
    before = framework.run(model, input_ids=IDS)["logits"]
    model.generate(IDS, max_new_tokens=2)  # which Keras traces, with the old table
    model.resize_token_embeddings(45)
    run = framework.run(model, input_ids=IDS + 12, labels=IDS + 12)
    assert run["logits"].shape == (2, 6, 45) and np.isfinite(run["loss"])
    # products of another number of columns may add up in another order
    require_close({"logits": framework.run(model, input_ids=IDS)["logits"][..., :40]}, {"logits": before}, 1e-6)
    with pytest.raises(GPT2Error, match="must be from 0 to vocab_size - 1 = 44"):
        framework.run(model, input_ids=IDS + 40)
    generated = to_numpy(model.generate(IDS + 12, max_new_tokens=1))
    np.testing.assert_array_equal(generated[:, -1], run["logits"][:, -1].argmax(-1))
    model.save_pretrained(tmp_path)
    for other in (Torch(), Keras()):
        again = other.load("lm_head", tmp_path)
        require_close(
            {"w": other.weights(again)["transformer.wte.weight"]},
            {"w": framework.weights(model)["transformer.wte.weight"]},
            0.0,
        )
    new = np.full_like(IDS, 41)
    gradients = framework.gradients(model, input_ids=new, labels=new)
    assert np.abs(gradients["transformer.wte.weight"][41]).max() > 0


def test_other_types_and_frozen_tables(framework):
    model = framework.create("lm_head", CONFIG, dtype="bfloat16")
    layer = model.get_input_embeddings()
    if isinstance(framework, Torch):
        layer.weight.requires_grad_(False)
    else:
        layer.weight.trainable = False
    weight = model.resize_token_embeddings(50).weight
    assert "bfloat16" in str(weight.dtype)
    assert not (weight.requires_grad if isinstance(framework, Torch) else weight.trainable)


@pytest.mark.parametrize("rows", [0, -3, 2.5, "many"])
def test_a_size_that_cannot_be(framework, rows):
    model = framework.create("lm_head", CONFIG)
    with pytest.raises(GPT2Error, match=r"vocab_size=.*: it must be a whole number of at least 1"):
        model.resize_token_embeddings(rows)
    assert model.config is CONFIG and model.get_input_embeddings().weight.shape[0] == 40


def test_a_table_can_be_shared(framework):
    ours, theirs = (framework.create("lm_head", CONFIG, seed=seed) for seed in (1, 2))
    names = [name for name, _ in framework.weights(ours).items()]
    ours.generate(IDS, max_new_tokens=1)
    ours.set_input_embeddings(theirs.get_input_embeddings())
    assert ours.get_input_embeddings().weight is theirs.get_input_embeddings().weight
    assert [name for name, _ in framework.weights(ours).items()] == names
    expected = framework.create("lm_head", CONFIG, seed=1)
    wte = framework.weights(theirs)["transformer.wte.weight"]
    framework.assign(expected, framework.weights(expected) | {"transformer.wte.weight": wte})
    require_close(framework.run(ours, input_ids=IDS), framework.run(expected, input_ids=IDS), 0.0)
    np.testing.assert_array_equal(*(to_numpy(model.generate(IDS, max_new_tokens=4)) for model in (ours, expected)))
    with pytest.raises(GPT2Error, match=r"a layer with a weight \(40, 16\)"):
        ours.set_input_embeddings(framework.create("model", dataclasses.replace(CONFIG, vocab_size=9)).wte)
    with pytest.raises(GPT2Error, match=r"a layer with a weight \(40, 16\)"):
        ours.set_input_embeddings(5)


def test_a_layer_of_torch_s_own():
    model, layer = Torch().create("lm_head", CONFIG), torch.nn.Embedding(40, 16)
    model.set_input_embeddings(layer)
    assert model.transformer.wte.weight is layer.weight and "transformer.wte.weight" in model.state_dict()


def test_keras_forgets_the_old_table():
    model = Keras().create("lm_head", CONFIG)
    count, paths = len(model.variables), {variable.path for variable in model.trainable_variables}
    model.compile("adam")
    model.fit(IDS, IDS, verbose=0)
    model.resize_token_embeddings(45)
    assert len(model.variables) == count and model.trainable_variables[0].shape == (45, 16)
    assert {variable.path for variable in model.trainable_variables} == paths
    model.compile("adam")
    assert np.isfinite(model.fit(IDS + 12, IDS + 12, verbose=0).history["loss"][0])
    assert model.predict(IDS + 12, verbose=0).logits.shape == (2, 6, 45)
