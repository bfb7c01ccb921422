import copy
import dataclasses
import json
import pickle

import numpy as np
import pytest

from gpt2_core import GPT2Config, GPT2Error
from gpt2_core.config import ALIASES, PRESETS
from gpt2_core.weights import parameter_count

PARAMETERS = {
    "gpt2": 124_439_808,
    "gpt2-medium": 354_823_168,
    "gpt2-large": 774_030_080,
    "gpt2-xl": 1_557_611_200,
    "distilgpt2": 81_912_576,
}


@pytest.mark.parametrize("name", PRESETS)
def test_presets_have_the_published_number_of_parameters(name):
    config = GPT2Config.preset(name)
    assert parameter_count(config, "lm_head") == parameter_count(config) == PARAMETERS[name]
    assert (config.vocab_size, config.n_positions, config.head_dim) == (50257, 1024, 64)


def test_aliases_read_and_write():
    config = GPT2Config(hidden_size=48, num_attention_heads=4, num_hidden_layers=3, max_position_embeddings=32)
    assert (config.n_embd, config.n_head, config.n_layer, config.n_positions) == (48, 4, 3, 32)
    assert {alias: getattr(config, alias) for alias in ALIASES} == {
        alias: getattr(config, field) for alias, field in ALIASES.items()
    }
    assert GPT2Config.preset("gpt2", num_hidden_layers=2).n_layer == 2


def test_json_both_ways_keeps_unknown_keys():
    published = {
        "model_type": "gpt2",
        "n_ctx": 1024,
        "n_embd": 768,
        "hidden_size": 768,
        "n_special": 0,
        "task_specific_params": {"text-generation": {"do_sample": True, "max_length": 50}},
        "architectures": ["GPT2LMHeadModel"],
        "eos_token_id": [50256, 0],
    }
    config = GPT2Config.from_json(json.dumps(published))
    again = GPT2Config.from_json(config.to_json())
    assert again == config
    written = json.loads(config.to_json())
    assert {key: written[key] for key in published if key != "hidden_size"} == {
        key: value for key, value in published.items() if key != "hidden_size"
    }


def test_every_field_survives_json():
    changed = {
        "vocab_size": 99,
        "n_positions": 17,
        "n_embd": 24,
        "n_layer": 3,
        "n_head": 2,
        "n_inner": 50,
        "activation_function": "relu",
        "resid_pdrop": 0.2,
        "embd_pdrop": 0.3,
        "attn_pdrop": 0.4,
        "layer_norm_epsilon": 1e-6,
        "initializer_range": 0.01,
        "scale_attn_weights": False,
        "scale_attn_by_inverse_layer_idx": True,
        "reorder_and_upcast_attn": True,
        "add_cross_attention": True,
        "tie_word_embeddings": False,
        "use_cache": False,
        "output_hidden_states": True,
        "output_attentions": True,
        "return_dict": False,
        "bos_token_id": 1,
        "eos_token_id": (2, 3),
        "pad_token_id": 4,
        "summary_type": "mean",
        "summary_use_proj": False,
        "summary_activation": "tanh",
        "summary_proj_to_labels": False,
        "summary_first_dropout": 0.0,
        "summary_last_dropout": 0.5,
        "classifier_dropout": 0.3,
        "num_labels": 3,
        "id2label": {0: "a", 1: "b", 2: "c"},
        "problem_type": "regression",
        "extra": {"task_specific_params": None},
    }
    config = GPT2Config(**changed)
    assert set(changed) == {field.name for field in dataclasses.fields(config)}
    default = GPT2Config()
    assert all(getattr(config, name) != getattr(default, name) for name in changed)
    assert GPT2Config.from_json(config.to_json()) == config


@pytest.mark.parametrize(
    "fields", [{}, {"num_labels": 2}, {"num_labels": 3}, {"id2label": {0: "no", 1: "yes"}}], ids=str
)
def test_labels_are_read_back_as_they_were(fields):
    config = GPT2Config(**fields)
    again = GPT2Config.from_json(config.to_json())
    assert again == config == dataclasses.replace(config)
    assert again.num_labels == fields.get("num_labels", 2)
    assert again.summary_width == (again.num_labels if fields else 1)
    assert dataclasses.replace(GPT2Config(num_labels=3), num_labels=2) == GPT2Config(num_labels=2)
    assert dataclasses.replace(GPT2Config(), num_labels=2) == GPT2Config()  # it is given every field


def test_number_of_labels_comes_from_the_names():
    config = GPT2Config.from_dict({"id2label": {"0": "up"}, "label2id": {"up": 0}, "_num_labels": 1})  # as distilgpt2's
    assert (config.num_labels, config.label2id) == (1, {"up": 0})
    assert GPT2Config.from_dict({"id2label": {"0": "up"}}, num_labels=3).labels == {
        0: "LABEL_0",
        1: "LABEL_1",
        2: "LABEL_2",
    }


def test_nothing_of_the_callers_is_shared_or_edited():
    labels = {"0": "no", "1": "yes"}
    extra = {"deep": {"list": [1]}}
    config = GPT2Config(id2label=labels, extra=extra)
    labels["0"] = extra["deep"]["list"] = None
    assert config.id2label[0] == "no" and config.extra["deep"] == {"list": [1]}
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.n_embd = 1
    with pytest.raises(TypeError):
        config.extra["x"] = 1


@pytest.mark.parametrize(
    "values, words",
    [
        ({"n_embd": 30, "n_head": 4}, ["n_embd=30", "n_head=4"]),
        ({"vocab_size": 0}, ["vocab_size=0", "at least 1"]),
        ({"n_layer": 2.0}, ["n_layer=2.0", "whole number"]),
        ({"n_head": True}, ["n_head=True"]),
        ({"n_inner": -1}, ["n_inner=-1", "None"]),
        ({"activation_function": "gelu_neww"}, ["gelu_neww", "Did you mean 'gelu_new'"]),
        ({"attn_pdrop": 1.0}, ["attn_pdrop=1.0", "[0, 1)"]),
        ({"resid_pdrop": "0.1"}, ["resid_pdrop='0.1'", "number"]),
        ({"layer_norm_epsilon": 0.0}, ["layer_norm_epsilon=0.0", "positive"]),
        ({"initializer_range": float("nan")}, ["initializer_range=nan"]),
        ({"tie_word_embeddings": 1}, ["tie_word_embeddings=1", "True or False"]),
        ({"eos_token_id": ["a"]}, ["eos_token_id", "token ids"]),
        ({"pad_token_id": "x"}, ["pad_token_id='x'"]),
        ({"summary_type": "attn"}, ["summary_type='attn'", "cls_index"]),
        ({"problem_type": "classification"}, ["problem_type", "regression"]),
        ({"id2label": {0: "a"}, "num_labels": 2}, ["id2label", "num_labels is 2"]),
        ({"n_embed": 32}, ["n_embed", "Did you mean 'n_embd'"]),
        ({"n_embd": 32, "hidden_size": 64}, ["n_embd", "32", "64"]),
    ],
)
def test_values_that_cannot_work_raise(values, words):
    with pytest.raises(GPT2Error) as raised:
        GPT2Config(**values)
    assert all(word in str(raised.value) for word in words), raised.value


@pytest.mark.parametrize(
    "text, words",
    [
        ("{", ["not valid JSON"]),
        ("[1]", ["list"]),
        ('{"model_type": "bert"}', ["bert", "gpt2"]),
        ('{"n_layer": "12"}', ["n_layer='12'"]),
        ('{"n_embd": 8, "hidden_size": 16}', ["contradict"]),
    ],
)
def test_bad_json_raises_naming_the_file(text, words, tmp_path):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(GPT2Error) as raised:
        GPT2Config.from_pretrained(tmp_path)
    assert all(word in str(raised.value) for word in [*words, "config.json"]), raised.value


def test_openai_hparams(tmp_path):
    (tmp_path / "hparams.json").write_text('{"n_vocab": 97, "n_ctx": 64, "n_embd": 32, "n_head": 4, "n_layer": 3}')
    config = GPT2Config.from_pretrained(tmp_path)
    assert (config.vocab_size, config.n_positions, config.n_embd, config.n_layer) == (97, 64, 32, 3)
    with pytest.raises(GPT2Error, match=r"neither config.json nor hparams.json"):
        (tmp_path / "empty").mkdir()
        GPT2Config.from_pretrained(tmp_path / "empty")


def test_saving_and_loading(tmp_path):
    config = GPT2Config(n_embd=32, n_head=2, extra={"n_ctx": 7})
    config.save_pretrained(tmp_path / "new" / "folder")
    assert GPT2Config.from_pretrained(tmp_path / "new" / "folder") == config
    assert GPT2Config.from_pretrained(tmp_path / "new" / "folder", n_layer=1).n_layer == 1


def test_copies_pickles_and_hashes():
    config = GPT2Config(n_layer=2, id2label={0: "no", 1: "yes"}, extra={"n_ctx": 5, "deep": {"list": [1]}})
    for again in (copy.deepcopy(config), pickle.loads(pickle.dumps(config)), GPT2Config(**dataclasses.asdict(config))):
        assert again == config and hash(again) == hash(config)
    assert dataclasses.replace(config, n_positions=7).extra["n_ctx"] == 7
    assert GPT2Config(id2label={0: "a", 1: "b", 2: "c"}).num_labels == 3


def test_numpy_numbers_are_numbers():
    config = GPT2Config(vocab_size=np.int64(50), resid_pdrop=np.float32(0.5), use_cache=np.bool_(False))
    assert (config.vocab_size, config.resid_pdrop, config.use_cache) == (50, 0.5, False)
    assert json.loads(config.to_json())["vocab_size"] == 50


def test_a_byte_order_mark_is_no_error(tmp_path):
    (tmp_path / "config.json").write_text('{"n_layer": 3}', encoding="utf-8-sig")
    assert GPT2Config.from_pretrained(tmp_path).n_layer == 3


@pytest.mark.parametrize("extra", [{"n_embd": 3}, {"x": object()}, 5], ids=["a field", "an object", "a number"])
def test_extra_must_be_json_and_no_field(extra):
    with pytest.raises(GPT2Error, match="extra"):
        GPT2Config(extra=extra)
