import copy
import pickle

import pytest

from gpt2_core import CausalLMOutput, GPT2Error


def test_present_fields_make_the_tuple():
    out = CausalLMOutput(logits=1, loss=None, attentions=(2, 3))
    assert out == (1, (2, 3)) and len(out) == 2 and out[0] == 1 and out[-1] == (2, 3)
    logits, attentions = out
    assert (logits, attentions) == (out.logits, out["attentions"])
    assert out.loss is None and out.hidden_states is None
    assert out.keys() == ("logits", "attentions") and dict(out.items()) == {"logits": 1, "attentions": (2, 3)}
    assert type(out.to_tuple()) is tuple and isinstance(out, CausalLMOutput)


def test_names_are_looked_up_as_in_a_dict():
    out = CausalLMOutput(logits=1)
    assert "logits" in out and "loss" not in out and 1 in out
    assert out.get("logits") == 1 and out.get("loss") is None and out.get("loss", 3) == 3


def test_order_is_declared_not_given():
    assert CausalLMOutput(logits=2, loss=1) == (1, 2)


def test_one_type_per_set_of_fields():
    assert type(CausalLMOutput(logits=1)) is type(CausalLMOutput(logits=2, loss=None))


def test_copies_and_pickles():
    out = CausalLMOutput(logits=1, past_key_values=((2, 3),))
    for again in (copy.deepcopy(out), pickle.loads(pickle.dumps(out))):
        assert again == out and type(again) is type(out)


def test_wrong_names_raise():
    with pytest.raises(GPT2Error, match=r"no field 'logit'.* 'logits'"):
        CausalLMOutput(logit=1)
    with pytest.raises(KeyError, match="loss"):
        CausalLMOutput(logits=1)["loss"]


def test_tree_functions_of_both_frameworks_rebuild_it():
    import keras
    import tensorflow as tf
    from torch.utils import _pytree as pytree

    out = CausalLMOutput(logits=1.0, past_key_values=((2.0, 3.0),))
    doubled = CausalLMOutput(logits=2.0, past_key_values=((4.0, 6.0),))
    for tree_map in (pytree.tree_map, tf.nest.map_structure, keras.tree.map_structure):
        again = tree_map(lambda x: 2 * x, out)
        assert again == doubled and type(again) is type(out)
