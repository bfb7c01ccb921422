"""What a call was given, as checked tensors."""

import numpy as np
import torch

from gpt2_core.inputs import as_array, check_ids, check_mask, check_pairs, check_shapes
from gpt2_core.targets import Given

IDS = ("input_ids", "token_type_ids", "position_ids")
MASKS = ("attention_mask", "encoder_attention_mask")


def as_tensors(config, device, past_key_values=None, choices=False, **inputs):
    """Returns the inputs by name as tensors on `device`, shapes and ids checked; None stays None.

    choices: whether the inputs have an axis of choices after the batch.
    """
    tensors = {name: as_tensor(name, value, device) for name, value in inputs.items()}
    shapes = {name: None if value is None else tuple(value.shape) for name, value in tensors.items()}
    past = as_pairs(past_key_values, device)
    past_shapes = None if past is None else [[tuple(x.shape) for x in pair] for pair in past]
    check_shapes(config, past_key_values=past_shapes, choices=choices, **shapes)
    for name in MASKS:
        check_mask(name, concrete(tensors.get(name)))
    for name in IDS:
        if tensors.get(name) is not None:
            check_ids(config, name, concrete(tensors[name]), dtype_of(tensors[name]))
            tensors[name] = tensors[name].long()
    return {**tensors, "past_key_values": past}


def as_pairs(past_key_values, device):
    """Returns a cache as tensors, a pair or four of them a layer."""
    if past_key_values is None:
        return None
    check_pairs(past_key_values)
    return tuple(tuple(as_tensor("past_key_values", x, device) for x in pair) for pair in past_key_values)


def as_target(check, config, name, value, tokens, device):
    """Returns what a head learns from as a tensor that has passed the core's `check`; None stays None.

    tokens: the shape (B, T) or (B, N, T) of the tokens; None where they are wrong, of which the trunk will tell.
    """
    target = as_tensor(name, value, device)
    if target is not None and tokens is not None:
        check(config, Given(name, concrete(target), dtype_of(target), tuple(target.shape)), tokens)
    return target


def token_shape(input_ids, inputs_embeds, axes=2):
    """Returns the shape of the tokens, of so many axes; None where the inputs have none such."""
    name, given, rank = "input_ids", input_ids, axes
    if inputs_embeds is not None:
        name, given, rank = "inputs_embeds", inputs_embeds, axes + 1
    given = as_tensor(name, given, None)
    return None if given is None or len(given.shape) != rank else tuple(given.shape)[:axes]


def as_tensor(name, value, device):
    if value is None or isinstance(value, torch.Tensor):
        return value
    array = as_array(name, value)
    # PyTorch takes no foreign byte order, no negative strides, and warns of what it could not write to
    array = np.require(array, array.dtype.newbyteorder("="), ["C", "W"])
    return torch.as_tensor(array, device=device)


def dtype_of(x):
    """Returns the name of a tensor's type, as numpy has it."""
    return str(x.dtype).removeprefix("torch.")


def concrete(x):
    """Returns a tensor's numbers, None where there are none to look at yet: while it is traced, or on meta."""
    if x is None or torch.compiler.is_compiling() or x.device.type == "meta":
        return None
    x = x.detach().cpu()
    try:
        return (x.float() if x.dtype == torch.bfloat16 else x).numpy()
    except RuntimeError:  # a fake tensor, or one of torch.func
        return None


def count_positions(attention_mask, past, new, device):
    """Returns the positions (B, T) of the new tokens: counted over the kept ones of a mask (B, S), else over all."""
    if attention_mask is None or attention_mask.ndim == 4:
        return torch.arange(past, past + new, device=device)[None]
    positions = torch.cumsum((attention_mask != 0).long(), dim=-1) - 1
    return positions.clamp(min=0)[:, -new:]
