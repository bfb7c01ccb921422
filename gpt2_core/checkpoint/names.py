"""Foreign spellings of tensor names, turned into the published ones."""

import re
from typing import NamedTuple

from .tensor import Tensor

# Published files hold masks beside the weights: `attn.bias` is one, `attn.c_attn.bias` is a weight
_BUFFER = re.compile(r"h\.\d+\.(attn|crossattention)\.(bias|masked_bias)")
_PREFIX = re.compile(r"(_orig_mod\.|module\.)*(transformer\.)?")  # torch.compile's, DataParallel's, a head model's
_TOP_IN_TF = re.compile(r"wte|wpe|ln_f|h_\._\d+|score|multiple_choice_head|classifier|qa_outputs|lm_head")
_DENSE = ("score", "summary", "classifier", "qa_outputs")  # TF's own layers, whose kernel is (in, out)
_LEAF_IN_TF = {"embeddings": "weight", "gamma": "weight", "beta": "bias", "kernel": "weight"}
_OLD_LEAF = {"gamma": "weight", "beta": "bias"}


class Found(NamedTuple):
    """What a foreign tensor is: its published name and its values in the published layout."""

    name: str
    tensor: Tensor
    transposed: bool = False


def published(name: str, tensor: Tensor) -> Found | None:
    """Returns the published name and layout of a file's tensor, None for what is a mask and no weight.

    PyTorch's spelling is `[transformer.]h.0.attn.c_attn.weight`; TensorFlow's, in h5 and in its safetensors,
    `[…/]transformer/h_._0/attn/c_attn/weight:0` with biases (1, n) and Dense kernels (in, out).
    """
    return _from_tensorflow(name, tensor) if "/" in name else _from_torch(name, tensor)


def _from_torch(name: str, tensor: Tensor) -> Found | None:
    name = _PREFIX.sub("", name, count=1).replace("lm_head.decoder.", "lm_head.")  # DialoGPT's
    if _BUFFER.fullmatch(name):
        return None
    head, _, leaf = name.rpartition(".")
    return Found(f"{head}.{_OLD_LEAF.get(leaf, leaf)}" if head else name, tensor)


def _from_tensorflow(name: str, tensor: Tensor) -> Found:
    parts = name.removesuffix(":0").split("/")
    # Keras puts the layer and the model's own name in front, which vary with class, Keras version and `name=`
    tops = [i for i, part in enumerate(parts) if _TOP_IN_TF.fullmatch(part)]
    parts = parts[tops[-1] :] if tops else parts
    leaf = parts[-1]
    transposed = leaf == "kernel"
    if transposed:
        tensor = tensor.transposed()
    elif leaf == "bias" and len(tensor.shape) == 2 and tensor.shape[0] == 1:
        tensor = tensor.reshaped(tensor.shape[1:])
    parts[-1] = _LEAF_IN_TF.get(leaf, leaf)
    return Found(".".join(parts).replace("h_._", "h."), tensor, transposed)


def in_tf_model(name: str, tensor: Tensor, model: str) -> Found:
    """Returns what tf_keras calls a weight in a TF `model` (`tfgpt2lm_head_model`), in its layout; the inverse of
    `published`. `name` is a head model's, with `transformer.` on its trunk."""
    *path, leaf = re.sub(r"(^|/)h/(\d+)/", r"\1h_._\2/", name.replace(".", "/")).split("/")
    if path[-1] in ("wte", "wpe"):
        leaf = "embeddings"
    elif path[-1].startswith("ln_"):
        leaf = {"weight": "gamma", "bias": "beta"}[leaf]
    elif path[-1] in _DENSE:
        tensor, leaf = (tensor.transposed(), "kernel") if leaf == "weight" else (tensor, leaf)
    elif leaf == "bias":
        tensor = tensor.reshaped((1, *tensor.shape))
    return Found("/".join([model, *path, leaf]) + ":0", tensor)
