"""What a call was given, as checked tensors."""

import numpy as np
from keras import ops

from gpt2_core.inputs import as_array, check_ids, check_labels, check_mask, check_pairs, check_shapes

IDS = ("input_ids", "token_type_ids", "position_ids")


def as_tensors(config, past_key_values=None, **inputs):
    """Returns the inputs by name as tensors, shapes and ids checked; None stays None."""
    tensors = {name: as_tensor(name, value) for name, value in inputs.items()}
    shapes = {name: None if value is None else tuple(value.shape) for name, value in tensors.items()}
    past = as_pairs(past_key_values)
    check_shapes(config, past_key_values=past and [[tuple(x.shape) for x in pair] for pair in past], **shapes)
    check_mask(concrete(tensors["attention_mask"]))
    for name in IDS:
        check_ids(config, name, concrete(tensors[name]))
        tensors[name] = None if tensors[name] is None else ops.cast(tensors[name], "int32")
    return {**tensors, "past_key_values": past}


def as_pairs(past_key_values):
    """Returns a cache as pairs (key, value) of tensors."""
    if past_key_values is None:
        return None
    check_pairs(past_key_values)
    return tuple(tuple(as_tensor("past_key_values", x) for x in pair) for pair in past_key_values)


def as_labels(config, labels, input_ids, inputs_embeds):
    """Returns labels as a tensor that fits the inputs, where there are any."""
    labels = as_tensor("labels", labels)
    name, inputs = ("input_ids", input_ids) if inputs_embeds is None else ("inputs_embeds", inputs_embeds)
    if labels is not None and inputs is not None:
        check_labels(tuple(labels.shape), tuple(as_tensor(name, inputs).shape))
        check_ids(config, "labels", concrete(labels))
    return labels


def as_tensor(name, value):
    if value is None or hasattr(value, "shape"):
        return value
    return ops.convert_to_tensor(as_array(name, value))


def concrete(x):
    """Returns a tensor's numbers, None where there are none to look at yet: while it is traced."""
    try:
        return None if x is None else np.asarray(x)
    except (NotImplementedError, TypeError, ValueError):  # TensorFlow's, JAX's and Keras' word for "symbolic"
        return None


def count_positions(attention_mask, past, new):
    """Returns the positions (B, T) of the new tokens: counted over the kept ones of a mask (B, S), else over all."""
    if attention_mask is None or len(attention_mask.shape) == 4:
        return ops.arange(past, past + new)[None]
    positions = ops.cumsum(ops.cast(ops.not_equal(attention_mask, 0), "int32"), axis=-1) - 1
    return ops.maximum(positions, 0)[:, -new:]
