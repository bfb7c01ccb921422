"""nanoGPT's ckpt.pt and llm.c's .bin, as a GPT-2 of plain Linear layers in this file writes them.

Neither is a package that could be installed: the model here is what both describe, and its logits are compared.
"""

import math

import numpy as np
import pytest
import torch
from torch import nn

from gpt2_core import GPT2Error, checkpoint, convert
from gpt2_core.parity import require_close
from tests.frameworks import to_numpy
from tests.matrix import opens

V, PADDED, P, C, L, H = 50300, 50304, 16, 24, 2, 3
IDS = np.random.default_rng(0).integers(0, V, (2, 9))


class Norm(nn.Module):
    def __init__(self, bias):
        super().__init__()
        self.weight = nn.Parameter(1 + torch.randn(C) / 10)
        self.bias = nn.Parameter(torch.randn(C) / 10) if bias else None

    def forward(self, x):
        return nn.functional.layer_norm(x, (C,), self.weight, self.bias, 1e-5)


class Attention(nn.Module):
    def __init__(self, bias):
        super().__init__()
        self.c_attn, self.c_proj = nn.Linear(C, 3 * C, bias=bias), nn.Linear(C, C, bias=bias)
        self.register_buffer("bias", torch.tril(torch.ones(P, P))[None, None])

    def forward(self, x):
        B, T, _ = x.shape
        q, k, v = (part.view(B, T, H, C // H).transpose(1, 2) for part in self.c_attn(x).split(C, dim=2))
        w = (q @ k.transpose(2, 3) / math.sqrt(C // H)).masked_fill(self.bias[:, :, :T, :T] == 0, -torch.inf)
        return self.c_proj((w.softmax(-1) @ v).transpose(1, 2).reshape(B, T, C))


class Block(nn.Module):
    def __init__(self, bias, approximate):
        super().__init__()
        self.ln_1, self.attn, self.ln_2 = Norm(bias), Attention(bias), Norm(bias)
        self.mlp = nn.ModuleDict({"c_fc": nn.Linear(C, 4 * C, bias=bias), "c_proj": nn.Linear(4 * C, C, bias=bias)})
        self.approximate = approximate

    def forward(self, x):
        x = x + self.attn(self.ln_1(x))
        return x + self.mlp.c_proj(nn.functional.gelu(self.mlp.c_fc(self.ln_2(x)), approximate=self.approximate))


class Model(nn.Module):
    def __init__(self, bias=True, approximate="none"):
        torch.manual_seed(0)
        super().__init__()
        self.transformer = nn.ModuleDict(
            {
                "wte": nn.Embedding(PADDED, C),
                "wpe": nn.Embedding(P, C),
                "h": nn.ModuleList(Block(bias, approximate) for _ in range(L)),
                "ln_f": Norm(bias),
            }
        )
        self.lm_head = nn.Linear(C, PADDED, bias=False)
        self.lm_head.weight = self.transformer.wte.weight

    @torch.no_grad()
    def logits(self, ids):
        x = self.transformer.wte(ids) + self.transformer.wpe(torch.arange(ids.shape[1]))
        for block in self.transformer.h:
            x = block(x)
        return self.lm_head(self.transformer.ln_f(x)).numpy()


def save_nanogpt(model, path, *, bias, prefix=""):
    arguments = dict(n_layer=L, n_head=H, n_embd=C, block_size=P, bias=bias, vocab_size=PADDED, dropout=0.1)
    state = {prefix + name: x for name, x in model.state_dict().items()}
    optimizer = torch.optim.AdamW(model.parameters())
    record = {"model": state, "optimizer": optimizer.state_dict(), "model_args": arguments, "iter_num": 5, "config": {}}
    torch.save(record | {"best_val_loss": torch.tensor(3.2)}, path)


def save_llm_c(model, path, *, version):
    header = np.zeros(256, "<i4")
    header[:8] = 20240326, version, P, V, L, H, C, PADDED
    state = model.state_dict()
    kinds = ("ln_1", "attn.c_attn", "attn.c_proj", "ln_2", "mlp.c_fc", "mlp.c_proj")
    names = ["transformer.wte.weight", "transformer.wpe.weight"]
    names += [f"transformer.h.{i}.{kind}.{leaf}" for kind in kinds for leaf in ("weight", "bias") for i in range(L)]
    names += ["transformer.ln_f.weight", "transformer.ln_f.bias"]
    with open(path, "wb") as file:
        file.write(header.tobytes())
        for name in names:
            x = state[name]
            file.write((x if version == 3 else x.to(torch.bfloat16).view(torch.int16)).numpy().tobytes())


@pytest.mark.parametrize("prefix", ["", "_orig_mod."])
@pytest.mark.parametrize("bias", [True, False])
def test_nanogpt(framework, bias, prefix, tmp_path, record_property):
    theirs = Model(bias)
    save_nanogpt(theirs, tmp_path / "ckpt.pt", bias=bias, prefix=prefix)
    model = framework.load("lm_head", tmp_path)
    assert (model.config.vocab_size, model.config.activation_function, model.config.resid_pdrop) == (
        PADDED,
        "gelu",
        0.1,
    )
    ours = framework.run(model, input_ids=IDS)["logits"]
    require_close({"logits": ours}, {"logits": theirs.logits(torch.as_tensor(IDS))}, 1e-5)
    opens(record_property, "nanoGPT's layout, a stand-in", framework.package, "lm_head")
    with checkpoint.open(tmp_path / "ckpt.pt") as source:
        assert {"optimizer", "iter_num", "best_val_loss", "h.0.attn.bias"} <= {
            name.removeprefix(prefix).removeprefix("transformer.") for name in source.skipped
        }


@pytest.mark.parametrize("version", [3, 5])
def test_llm_c(framework, version, tmp_path, record_property):
    theirs = Model(approximate="tanh")
    save_llm_c(theirs, tmp_path / "model.bin", version=version)
    model = framework.load("lm_head", tmp_path / "model.bin")
    assert (model.config.vocab_size, model.config.activation_function) == (V, "gelu_new")
    if version == 5:
        theirs = theirs.to(torch.bfloat16).float()
    ours = framework.run(model, input_ids=IDS)["logits"]
    require_close({"logits": ours}, {"logits": theirs.logits(torch.as_tensor(IDS))[..., :V]}, 1e-5)
    opens(record_property, "llm.c's layout, a stand-in", framework.package, "model")


def test_converted_they_are_ordinary_checkpoints(tmp_path):
    theirs = Model(bias=False)
    save_nanogpt(theirs, tmp_path / "ckpt.pt", bias=False)
    convert(tmp_path, tmp_path / "new")
    with checkpoint.open(tmp_path / "new") as new:
        state = theirs.state_dict()
        assert (
            new["h.1.mlp.c_fc.weight"].tobytes()
            == to_numpy(state["transformer.h.1.mlp.c_fc.weight"].T.contiguous()).tobytes()
        )
        assert new.format == "safetensors" and not new["h.1.mlp.c_fc.bias"].any() and len(new) == 12 * L + 4


@pytest.mark.parametrize("fields", [{"vocab_size": "many"}, {"n_layer": None}, {"block_size": -1}, {"dropout": "x"}])
def test_arguments_that_cannot_be(fields, tmp_path):
    save_nanogpt(Model(), tmp_path / "ckpt.pt", bias=True)
    record = torch.load(tmp_path / "ckpt.pt")
    torch.save({**record, "model_args": record["model_args"] | fields}, tmp_path / "ckpt.pt")
    with pytest.raises(GPT2Error):
        checkpoint.open(tmp_path / "ckpt.pt")


def test_damage(tmp_path):
    path = tmp_path / "model.bin"
    save_llm_c(Model(), path, version=3)
    data = path.read_bytes()
    for wrong, words in (
        (data[:500], "it has 500 bytes, its header has 1024"),
        (data[:-4], r"ln_f.bias ends at byte \d+ of \d+"),
        (data + b"1234", "4 bytes follow the last tensor"),
        (data[:4] + b"\x01" + data[5:], "is of llm.c's version 1; this reads 3 and 5"),
        (data[:16] + b"\xff\xff\xff\x7f" + data[20:], "is truncated or damaged"),
        (data[:16] + b"\x00\x00\x00\xff" + data[20:], "its header holds the sizes"),
    ):
        path.write_bytes(wrong)
        with pytest.raises(GPT2Error, match=words):
            checkpoint.open(path)
