"""What a call was given, as checked tensors."""

import torch

from gpt2_core.inputs import as_array, check_ids, check_labels, check_mask, check_pairs, check_shapes

IDS = ("input_ids", "token_type_ids", "position_ids")


def as_tensors(config, device, past_key_values=None, **inputs):
    """Returns the inputs by name as tensors on `device`, shapes and ids checked; None stays None."""
    tensors = {name: as_tensor(name, value, device) for name, value in inputs.items()}
    shapes = {name: None if value is None else tuple(value.shape) for name, value in tensors.items()}
    past = as_pairs(past_key_values, device)
    check_shapes(config, past_key_values=past and [[tuple(x.shape) for x in pair] for pair in past], **shapes)
    check_mask(concrete(tensors["attention_mask"]))
    for name in IDS:
        check_ids(config, name, concrete(tensors[name]))
        tensors[name] = None if tensors[name] is None else tensors[name].long()
    return {**tensors, "past_key_values": past}


def as_pairs(past_key_values, device):
    """Returns a cache as pairs (key, value) of tensors."""
    if past_key_values is None:
        return None
    check_pairs(past_key_values)
    return tuple(tuple(as_tensor("past_key_values", x, device) for x in pair) for pair in past_key_values)


def as_labels(config, labels, input_ids, inputs_embeds, device):
    """Returns labels as a tensor that fits the inputs, where there are any."""
    labels = as_tensor("labels", labels, device)
    name, inputs = ("input_ids", input_ids) if inputs_embeds is None else ("inputs_embeds", inputs_embeds)
    if labels is not None and inputs is not None:
        check_labels(tuple(labels.shape), tuple(as_tensor(name, inputs, device).shape))
        check_ids(config, "labels", concrete(labels))
    return labels


def as_tensor(name, value, device):
    if value is None or isinstance(value, torch.Tensor):
        return value
    array = as_array(name, value)
    # PyTorch warns of an array that it could not write to, though nothing here writes
    return torch.as_tensor(array if array.flags.writeable else array.copy(), device=device)


def concrete(x):
    """Returns a tensor's numbers, None where there are none to look at yet: while it is traced, or on meta."""
    if x is None or torch.compiler.is_compiling() or x.device.type == "meta":
        return None
    x = x.detach().cpu()
    return (x.float() if x.dtype == torch.bfloat16 else x).numpy()


def count_positions(attention_mask, past, new, device):
    """Returns the positions (B, T) of the new tokens: counted over the kept ones of a mask (B, S), else over all."""
    if attention_mask is None or attention_mask.ndim == 4:
        return torch.arange(past, past + new, device=device)[None]
    positions = torch.cumsum((attention_mask != 0).long(), dim=-1) - 1
    return positions.clamp(min=0)[:, -new:]
