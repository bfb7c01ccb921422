import dataclasses
import zlib

import numpy as np
import pytest

from gpt2_core import GPT2Config, GPT2Error
from gpt2_core.initial import initial_weights
from gpt2_core.weights import HEADS, published_name, weight_specs

TINY = GPT2Config(vocab_size=31, n_positions=9, n_embd=8, n_layer=2, n_head=2, n_inner=20)


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize(
    "fields", [{}, {"tie_word_embeddings": False, "add_cross_attention": True, "num_labels": 3}], ids=str
)
def test_both_trees_hold_exactly_the_table(framework, head, fields):
    config = dataclasses.replace(TINY, **fields)
    model = framework.create(head, config)
    shapes = {name: weight.shape for name, weight in framework.weights(model).items()}
    table = {name: spec.shape for name, spec in weight_specs(config, head).items()}
    assert list(shapes.items()) == list(table.items())
    assert model.num_parameters() == sum(int(np.prod(shape)) for shape in table.values())


@pytest.mark.parametrize("head", HEADS)
def test_the_same_seed_gives_bit_equal_models(head):
    from tests.frameworks import Keras, Torch

    config = dataclasses.replace(TINY, add_cross_attention=True)
    ours, theirs = (f.weights(f.create(head, config, seed=5)) for f in (Torch(), Keras()))
    other = Torch().weights(Torch().create(head, config, seed=6))
    assert ours.keys() == theirs.keys()
    for name in ours:
        np.testing.assert_array_equal(ours[name], theirs[name])
    table = "wte.weight" if head == "model" else "transformer.wte.weight"
    assert not np.array_equal(ours[table], other[table])


def test_initial_weights_follow_the_table():
    config = GPT2Config(vocab_size=500, n_positions=200, n_embd=96, n_layer=8, n_head=2)
    specs = weight_specs(config)
    for name, values in initial_weights(config, "model", 0):
        spec = specs[name]
        assert values.dtype == np.float32 and values.shape == spec.shape
        if spec.std == 0:
            assert (values == spec.mean).all()
        else:
            assert values.std() == pytest.approx(spec.std, rel=0.05) and abs(values.mean()) < 0.05 * spec.std
    assert specs["h.0.attn.c_proj.weight"].std == pytest.approx(0.02 / 4)  # 1 / sqrt(2 * 8)
    assert specs["h.0.attn.c_attn.weight"].std == 0.02


def test_a_trunk_starts_the_same_under_every_head():
    trunk = dict(initial_weights(TINY, "model", 3))
    for head in HEADS[1:]:
        weights = {published_name(name): values for name, values in initial_weights(TINY, head, 3)}
        assert all(np.array_equal(weights[name], values) for name, values in trunk.items())


def test_no_two_tensors_share_a_stream():
    names = {published_name(name) for head in HEADS for name in weight_specs(GPT2Config.preset("gpt2-xl"), head)}
    assert len({zlib.crc32(name.encode()) for name in names}) == len(names)


def test_bad_arguments_raise():
    with pytest.raises(GPT2Error, match="head='chat'"):
        weight_specs(TINY, "chat")
    for seed in (-1, 2**64, None, 1.5, True):
        with pytest.raises(GPT2Error, match="seed="):
            next(initial_weights(TINY, "model", seed))
