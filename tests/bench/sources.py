"""A model's weights written as other programs write them, for the benchmarks: a function a format, in WRITERS."""

import json

import numpy as np

from gpt2_core import checkpoint
from gpt2_core.checkpoint import Tensor
from gpt2_core.checkpoint.hdf5 import write_hdf5
from gpt2_core.weights import TRUNK, weight_specs

PADDED = 128  # nanoGPT's and llm.c's vocabularies are filled up to a multiple of it


def ours(form):
    def write(folder, config, weights):
        specs, drawn = weight_specs(config, "lm_head"), weights()

        def read(name):
            found, values = next(drawn)  # in order, as they are written
            assert found == name
            return values

        tensors = {name: Tensor("float32", spec.shape, lambda name=name: read(name)) for name, spec in specs.items()}
        checkpoint.save(folder, config, tensors, "lm_head", format=form)

    return write


def stream(folder, config, weights):
    import torch

    config.save_pretrained(folder)
    state = {name: torch.from_numpy(values) for name, values in weights()}
    torch.save(state, folder / "pytorch_model.bin", _use_new_zipfile_serialization=False)


def linear(config, weights):
    """Returns the weights as plain Linear layers have them, the word table filled up."""
    found = {name.removeprefix(TRUNK): x.T.copy() if x.ndim == 2 and ".h." in name else x for name, x in weights()}
    rows = -config.vocab_size % PADDED
    found["wte.weight"] = np.concatenate([found["wte.weight"], np.zeros((rows, config.n_embd), np.float32)])
    return found


def nanogpt(folder, config, weights):
    import torch

    state = {TRUNK + name: torch.from_numpy(values) for name, values in linear(config, weights).items()}
    state["lm_head.weight"] = state["transformer.wte.weight"]
    shape = {"n_layer": config.n_layer, "n_head": config.n_head, "n_embd": config.n_embd, "bias": True, "dropout": 0.0}
    shape |= {"block_size": config.n_positions, "vocab_size": len(state["lm_head.weight"])}
    torch.save({"model": state, "model_args": shape, "iter_num": 0}, folder / "ckpt.pt")


def llm_c(folder, config, weights):
    found = linear(config, weights)
    header = np.zeros(256, "<i4")
    header[:6] = 20240326, 3, config.n_positions, config.vocab_size, config.n_layer, config.n_head
    header[6:8] = config.n_embd, len(found["wte.weight"])
    kinds = ("ln_1", "attn.c_attn", "attn.c_proj", "ln_2", "mlp.c_fc", "mlp.c_proj")
    blocks = [f"h.{i}.{kind}.{x}" for kind in kinds for x in ("weight", "bias") for i in range(config.n_layer)]
    with open(folder / "model.bin", "wb") as file:
        for values in (header, *(found[x] for x in ("wte.weight", "wpe.weight", *blocks, "ln_f.weight", "ln_f.bias"))):
            file.write(values.tobytes())


def openai(folder, config, weights):
    import tensorflow as tf

    variables = {}
    for name, values in weights():
        *path, leaf = name.removeprefix(TRUNK).replace("h.", "h", 1).split(".")
        if path[-1].startswith("c_"):
            leaf, values = leaf[0], values[None] if leaf == "weight" else values
        elif path[-1].startswith("ln_"):
            leaf = {"weight": "g", "bias": "b"}[leaf]
        else:
            leaf = ""
        variables["/".join(["model", *path, leaf]).rstrip("/")] = tf.constant(values)
    names = list(variables)
    tf.raw_ops.SaveV2(
        prefix=str(folder / "model.ckpt"),
        tensor_names=names,
        shape_and_slices=[""] * len(names),
        tensors=list(variables.values()),
    )
    hparams = {"n_vocab": config.vocab_size, "n_ctx": config.n_positions, "n_embd": config.n_embd}
    hparams |= {"n_head": config.n_head, "n_layer": config.n_layer}
    (folder / "hparams.json").write_text(json.dumps(hparams), encoding="utf-8")


def keras_hub(folder, config, weights):
    """Writes the layout of the preset in tests/data/keras_hub."""
    C, H = config.n_embd, config.n_head
    found = {name.removeprefix(TRUNK): x for name, x in weights()}
    groups, datasets = {}, {}

    def add(path, name, *values):
        groups[f"{path}/vars"] = {"name": name}
        for i, x in enumerate(values):
            datasets[f"{path}/vars/{i}"] = (x.shape, np.dtype("<f4"), lambda x=x: [x])

    add("layers/token_embedding", "token_embedding", found["wte.weight"])
    add("layers/position_embedding", "position_embedding", found["wpe.weight"])
    add("layers/layer_norm", "layer_norm", found["ln_f.weight"], found["ln_f.bias"])
    for i in range(config.n_layer):
        block = f"layers/block_{i}"
        groups[f"{block}/vars"] = {"name": f"transformer_layer_{i}"}
        groups[f"{block}/attention/vars"] = {"name": "self_attention"}
        own = {key.removeprefix(f"h.{i}."): x for key, x in found.items() if key.startswith(f"h.{i}.")}
        weight, bias = (np.split(own[f"attn.c_attn.{x}"], 3, axis=-1) for x in ("weight", "bias"))
        for part, w, b in zip(("query", "key", "value"), weight, bias, strict=True):
            add(f"{block}/attention/{part}", part, w.reshape(C, H, C // H), b.reshape(H, C // H))
        layers = {"attn.c_proj": "attention_output", "mlp.c_fc": "feedforward_intermediate_dense"}
        layers |= {"mlp.c_proj": "feedforward_output_dense", "ln_1": "self_attention_layer_norm"}
        layers |= {"ln_2": "feedforward_layer_norm"}
        for kind, name in layers.items():
            place = f"{block}/attention/{name}" if kind == "attn.c_proj" else f"{block}/{name}"
            add(place, name, own[f"{kind}.weight"], own[f"{kind}.bias"])
    with open(folder / "model.weights.h5", "wb") as file:
        write_hdf5(file, groups, datasets)
    config.save_pretrained(folder)


WRITERS = {form: ours(form) for form in ("safetensors", "torch", "tf-h5", "keras")} | {
    "torch-stream": stream,
    "openai-tf1": openai,
    "keras-hub": keras_hub,
    "nanogpt": nanogpt,
    "llm.c": llm_c,
}
