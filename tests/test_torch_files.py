"""Files of torch.save, read and written by the core without torch: what torch writes comes out, and the other way."""

import collections
import copy
import os
import pickle
import struct
import zipfile

import numpy as np
import pytest
import torch

from gpt2_core import GPT2Config, GPT2Error, checkpoint, convert
from gpt2_core.checkpoint import Tensor
from gpt2_core.checkpoint.tensor import TensorFile
from gpt2_core.checkpoint.torch_weights import read_torch
from gpt2_core.checkpoint.torch_writer import write_torch
from gpt2_core.checkpoint.zip_members import zip_members
from tests.frameworks import DATA, Torch, to_numpy

CONFIG = GPT2Config(vocab_size=40, n_positions=12, n_embd=16, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=0)
FORMATS = {"zip": True, "stream": False}  # of torch.save: since 1.6, and before
DTYPES = ["float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool"]


@pytest.fixture(params=FORMATS)
def save(request):
    """torch.save in one of its two formats."""
    return lambda value, path, **options: torch.save(
        value, path, _use_new_zipfile_serialization=FORMATS[request.param], **options
    )


@pytest.fixture
def model():
    return Torch().create("lm_head", CONFIG)


def read(path):
    """Returns name -> array of a file of torch.save."""
    return {name: tensor.array() for name, tensor in read_torch(TensorFile(path)).tensors.items()}


def equal(ours, state):
    """Returns whether arrays hold the bits of a state_dict."""
    return list(ours) == list(state) and all(
        ours[name].tobytes() == to_numpy(x).tobytes() and ours[name].shape == tuple(x.shape)
        for name, x in state.items()
    )


def test_every_kind_of_tensor(save, tmp_path):
    base = torch.arange(24.0).reshape(4, 6)
    state = {
        "wte.weight": base,
        "a row of the same numbers": base[2],
        "every other column": base[:, ::2],
        "transposed": base.t(),
        "from the middle": base[1:, 3:].t(),
        "a parameter": torch.nn.Parameter(torch.randn(3, 2)),
        "a number": torch.tensor(3.5),
        "none": torch.zeros(0, 5),
        "unsigned": torch.tensor([1, 2, 65535], dtype=torch.uint16),
        **{f"of {name}": torch.tensor([0, 1, 1, 0]).to(getattr(torch, name)) for name in DTYPES},
    }
    save(state, tmp_path / "a.bin")
    assert equal(read(tmp_path / "a.bin"), state)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_every_protocol(save, tmp_path, protocol, model):
    state = model.state_dict()
    save(state, tmp_path / "a.pt", pickle_protocol=protocol)
    assert equal(read(tmp_path / "a.pt"), state)


WRAPPINGS = {
    "a state_dict": lambda model: model.state_dict(),
    "a plain dict": lambda model: dict(model.state_dict()),
    "the record of a training": lambda model: {
        "epoch": 3,
        "optimizer": torch.optim.AdamW(model.parameters()).state_dict(),
        "model": model.state_dict(),
        "rng": torch.get_rng_state(),
        "time": np.float64(1.5),
    },
    "torch.compile's names": lambda model: {f"_orig_mod.{name}": x for name, x in model.state_dict().items()},
    "DataParallel's names": lambda model: {f"module.{name}": x for name, x in model.state_dict().items()},
    "old norms": lambda model: {
        name.replace("ln_f.weight", "ln_f.gamma").replace("ln_f.bias", "ln_f.beta"): x
        for name, x in model.state_dict().items()
    },
    "masks and a tied head": lambda model: {
        **model.state_dict(),
        "transformer.h.0.attn.bias": torch.ones(1, 1, 12, 12),
        "transformer.h.1.attn.masked_bias": torch.tensor(-1e4),
        "lm_head.decoder.weight": model.transformer.wte.weight,
    },
    "the module itself": copy.deepcopy,
}


@pytest.mark.parametrize("wrapping", WRAPPINGS)
@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "model.pth", "model.pkl"])
def test_what_people_save(save, tmp_path, model, wrapping, name):
    CONFIG.save_pretrained(tmp_path)
    save(WRAPPINGS[wrapping](model), tmp_path / name)
    with checkpoint.open(tmp_path / name) as source:
        assert source.format == "torch"
        ours = Torch().load("lm_head", tmp_path / name)
    assert equal(Torch().weights(ours), dict(model.named_parameters()))


def test_shards_and_a_folder(tmp_path):
    with checkpoint.open(DATA / "transformers" / "lm_head") as whole:
        convert(DATA / "transformers" / "lm_head", tmp_path, "torch", max_shard_size="20KB")
        assert len(list(tmp_path.glob("pytorch_model-*-of-*.bin"))) > 2
        with checkpoint.open(tmp_path) as shards:
            assert all((shards[name] == whole[name]).all() for name in whole) and set(shards) == set(whole)
    index = torch.load(next(tmp_path.glob("*-00001-of-*.bin")), weights_only=True)
    assert "transformer.wte.weight" in index


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
def test_torch_reads_what_is_written_without_it(tmp_path, model, dtype):
    state = {name: x.to(getattr(torch, dtype)) for name, x in model.state_dict().items()}
    tensors = {name: Tensor(dtype, tuple(x.shape), lambda x=x: bits_of(x)) for name, x in state.items()}
    for mmap in (False, True):
        write_torch(tmp_path / f"{mmap}.bin", tensors)
        loaded = torch.load(tmp_path / f"{mmap}.bin", weights_only=True, mmap=mmap)
        assert list(loaded) == list(state) and all(torch.equal(loaded[name], x) for name, x in state.items())
    assert (tmp_path / "True.bin").read_bytes() == (tmp_path / "False.bin").read_bytes()
    assert all(member.offset % 64 == 0 for member in zip_members(TensorFile(tmp_path / "True.bin")).values())
    assert zipfile.ZipFile(tmp_path / "True.bin").testzip() is None


def bits_of(x):
    return x.view(torch.uint16).numpy() if x.dtype == torch.bfloat16 else x.numpy()


class Evil:
    def __reduce__(self):
        return os.system, ("touch harmed",)


def test_a_pickle_runs_nothing(save, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save({"wte.weight": torch.ones(2), "evil": Evil(), "more": [Evil()]}, "a.bin", pickle_module=pickle)
    assert equal(read("a.bin"), {"wte.weight": torch.ones(2)})
    save(Evil(), "b.bin", pickle_module=pickle)
    with pytest.raises(GPT2Error, match=r"b.bin holds no state_dict of tensors, but a \w+\.system"):
        read("b.bin")
    assert not (tmp_path / "harmed").exists()


def zipped(path, members):
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)


def text(value):
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def long(value):
    return b"\x8a\x09" + value.to_bytes(9, "little", signed=True)


def tensor_pickle(shape=(2,), stride=(1,), start=0, key="0", storage="FloatStorage"):
    """Returns the pickle of a state_dict of one tensor, in torch's own words."""
    numbers = [b"(" + b"".join(map(long, values)) + b"t" for values in (shape, stride)]
    reference = text("storage") + f"ctorch\n{storage}\n".encode() + text(key) + text("cpu") + b"K\x02"
    call = (
        b"ctorch._utils\n_rebuild_tensor_v2\n(("
        + reference
        + b"tQ"
        + long(start)
        + numbers[0]
        + numbers[1]
        + b"\x89}tR"
    )
    return b"\x80\x02}" + text("wte.weight") + call + b"s."


HOSTILE = {
    "a shape that fills the memory": (tensor_pickle((2**40, 2**40), (0, 0)), "lies outside of its 8 bytes"),
    "numbers past the storage": (tensor_pickle((2,), (5,)), "lies outside of its 8 bytes"),
    "a start past the storage": (tensor_pickle(start=2**60), "lies outside of its 8 bytes"),
    "a negative start": (tensor_pickle(start=-1), "made in a way that torch does not know"),
    "a negative stride": (tensor_pickle(stride=(-1,)), "made in a way that torch does not know"),
    "another storage": (tensor_pickle(key="../../x"), "lacks a/data/../../x"),
    "another type": (tensor_pickle(storage="ComplexFloatStorage"), "has type torch.ComplexFloatStorage"),
    "a memo that fills the memory": (b"\x80\x02}r\xff\xff\xff\xff.", "holds no state_dict"),
    "a key of keys": (b"\x80\x02}K\x01K\x01\x86" + b"2\x86" * 60 + b"K\x01s.", "a key is a tuple"),
    "an end too soon": (b"\x80\x02}X\xff\xff\xff\x7fabc", "its pickle cannot be read"),
    "no end": (b"\x80\x02}", "its pickle cannot be read"),
    "an empty stack": (b"\x80\x02R.", "its pickle cannot be read"),
    "a mark of nobody's": (b"\x80\x02u.", "its pickle cannot be read"),
    "a huge number": (b"I" + b"9" * 10000 + b"\n.", "its pickle cannot be read"),
}


@pytest.mark.parametrize("pickled, words", HOSTILE.values(), ids=HOSTILE)
def test_hostile_pickles(tmp_path, pickled, words):
    zipped(tmp_path / "a.bin", {"a/data.pkl": pickled, "a/data/0": bytes(8)})
    with pytest.raises(GPT2Error) as raised:
        read(tmp_path / "a.bin")
    assert words in str(raised.value) and "a.bin" in str(raised.value)


def test_hostile_archives(tmp_path):
    path = tmp_path / "a.bin"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data.pkl", tensor_pickle())
        archive.writestr("a/data/0", bytes(10**7))
    with pytest.raises(GPT2Error, match=r"'a/data.pkl' is compressed or encrypted"):
        read(path)
    zipped(path, {"a/data.pkl": tensor_pickle(), "b/data.pkl": tensor_pickle()})
    with pytest.raises(GPT2Error, match=r"is a zip archive, but none of torch.save"):
        read(path)
    zipped(path, {"a/data.pkl": tensor_pickle(), "a/data/0": bytes(8)})
    whole = path.read_bytes()
    with pytest.warns(UserWarning, match="Duplicate name"):
        zipped_twice = zipfile.ZipFile(path, "a")
        zipped_twice.writestr("a/data/0", bytes(8))
        zipped_twice.close()
    with pytest.raises(GPT2Error, match="holds 'a/data/0' twice"):
        read(path)
    path.write_bytes(whole[:-30])
    with pytest.raises(GPT2Error, match="it is no whole zip archive"):
        read(path)


def test_a_flipped_bit_is_seen(tmp_path, model):
    torch.save(model.state_dict(), tmp_path / "a.bin")
    data = bytearray((tmp_path / "a.bin").read_bytes())
    at = zip_members(TensorFile(tmp_path / "a.bin"))["a/data/0"].offset + 17
    data[at] ^= 8
    (tmp_path / "a.bin").write_bytes(data)
    with pytest.raises(GPT2Error, match="'a/data/0' does not match its checksum"):
        read(tmp_path / "a.bin")


def test_an_archive_without_checksums(tmp_path, model):
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(model.state_dict(), tmp_path / "a.bin")
    finally:
        torch.serialization.set_crc32_options(True)
    assert equal(read(tmp_path / "a.bin"), model.state_dict())


def test_other_pickles(tmp_path):
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(collections.OrderedDict(a=1)))
    with pytest.raises(GPT2Error, match=r"a.pkl is a pickle, but none of torch.save: save the model's state_dict"):
        read(tmp_path / "a.pkl")
    torch.save({"epoch": 3}, tmp_path / "b.pt")
    with pytest.raises(GPT2Error, match=r"b.pt holds no state_dict of tensors, but a dict: torch.save\(model"):
        read(tmp_path / "b.pt")
