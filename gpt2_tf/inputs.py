"""What a call was given, as checked tensors."""

import numpy as np
from keras import ops

from gpt2_core.inputs import as_array, check_ids, check_labels, check_shapes

IDS = ("input_ids", "token_type_ids", "position_ids")


def as_tensors(config, past_key_values=None, **inputs):
    """Returns the inputs by name as tensors, shapes and ids checked; None stays None."""
    tensors = {name: as_tensor(name, value) for name, value in inputs.items()}
    shapes = {name: None if value is None else tuple(value.shape) for name, value in tensors.items()}
    past = as_pairs(past_key_values)
    check_shapes(config, past_key_values=past and [[tuple(x.shape) for x in pair] for pair in past], **shapes)
    for name in IDS:
        check_ids(config, name, concrete(tensors.get(name)))
    return {**tensors, "past_key_values": past}


def as_pairs(past_key_values):
    """Returns a cache as pairs (key, value) of tensors."""
    if past_key_values is None:
        return None
    return tuple(tuple(as_tensor("past_key_values", x) for x in pair) for pair in past_key_values)


def as_labels(config, labels, inputs, logits_to_keep):
    """Returns labels as a tensor that fits `inputs`, the input_ids or the inputs_embeds."""
    labels = as_tensor("labels", labels)
    if labels is not None:
        check_labels(tuple(labels.shape), tuple(as_tensor("inputs", inputs).shape), logits_to_keep)
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
    positions = ops.cumsum(ops.cast(attention_mask, "int32"), axis=-1) - 1
    return ops.maximum(positions, 0)[:, -new:]
