"""Every format that is read, damaged in 500 seeded ways each: a clear error, or the same weights. See damage.py."""

import io
import json
import pickle
import pickletools
import re
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
import safetensors.numpy
import tensorflow as tf
import torch

from gpt2_core import GPT2Config, GPT2Error, checkpoint
from gpt2_core.checkpoint import Tensor
from gpt2_core.checkpoint.crc32c import crc32c
from gpt2_core.checkpoint.tf1_bundle import MAGIC, _masked
from gpt2_core.weights import published_name, weight_specs
from tests.damage import SEEDS
from tests.damaging import FORMATS

V, P, C, L = 37, 11, 5, 2  # an odd width: HDF5 leaves gaps behind odd numbers of floats
CONFIG = GPT2Config(vocab_size=V, n_positions=P, n_embd=C, n_layer=L, n_head=1, bos_token_id=0, eos_token_id=0)

HPARAMS = json.dumps({"n_vocab": V, "n_ctx": P, "n_embd": C, "n_head": 1, "n_layer": L})


def values():
    """Returns name -> array of a model no two tensors of which are alike."""
    r = np.random.default_rng(0)
    return {name: r.standard_normal(spec.shape, np.float32) for name, spec in weight_specs(CONFIG, "lm_head").items()}


def save(folder, form, **options):
    tensors = {name: Tensor.of(x) for name, x in values().items()}
    checkpoint.save(folder, CONFIG, tensors, "lm_head", format=form, **options)


def save_safetensors(folder):
    """What transformers leaves beside the weights is there too: a mask of attention, and a tied head."""
    found = values()
    more = {"transformer.h.0.attn.bias": np.ones((1, 1, P, P), bool), "lm_head.weight": found["transformer.wte.weight"]}
    CONFIG.save_pretrained(folder)
    safetensors.numpy.save_file(found | more, folder / "model.safetensors", {"format": "pt"})


def state_dict():
    state = {name: torch.tensor(x) for name, x in values().items()}
    mask = torch.ones(1, 1, P, P)
    return {**state, "lm_head.weight": state["transformer.wte.weight"], "transformer.h.0.attn.bias": mask}


def save_torch(folder):
    CONFIG.save_pretrained(folder)
    torch.save(state_dict(), folder / "pytorch_model.bin")


def save_stream(folder):
    """The keys of storages are addresses in memory, and sorted: others take their places, the same in every run."""
    CONFIG.save_pretrained(folder)
    file = io.BytesIO()
    torch.save(state_dict(), file, _use_new_zipfile_serialization=False)
    data, ends = file.getvalue(), []
    file.seek(0)
    for _ in range(5):
        list(pickletools.genops(file))
        ends.append(file.tell())
    head, whole, keys = data[: ends[2]], data[ends[2] : ends[3]], pickle.loads(data[ends[3] : ends[4]])
    storages, at = {}, ends[4]
    for key in keys:
        size = 8 + 4 * int.from_bytes(data[at : at + 8], "little")
        storages[key], at = data[at : at + size], at + size
    order = sorted(keys, key=lambda key: whole.index(key.encode()))
    names = {key: f"{i:014d}" for i, key in enumerate(order)}
    for key, name in names.items():
        whole = whole.replace(text(key), text(name))
    stream = head + whole + pickle.dumps(list(names.values()), 2) + b"".join(storages[key] for key in order)
    (folder / "pytorch_model.bin").write_bytes(stream)
    loaded = torch.load(folder / "pytorch_model.bin", weights_only=True)
    assert all(torch.equal(x, loaded[name]) for name, x in state_dict().items())


def text(value):
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def save_h5py(folder, form, **options):
    """As h5py lays a file out."""
    save(folder, form)
    (path,) = folder.glob("*.h5")
    with h5py.File(path) as file, h5py.File(folder / "new", "w", **options) as new:
        new.attrs.update(file.attrs)
        for name in file:
            file.copy(name, new)
    (folder / "new").replace(path)


def save_archive(folder):
    save(folder, "keras")
    config = {"class_name": "TFGPT2LMHeadModel", "config": {"name": "x", "config": CONFIG.to_dict()}}
    with zipfile.ZipFile(folder / "model.keras", "w") as archive:
        archive.writestr("metadata.json", json.dumps({"keras_version": "3.15.1"}))
        archive.writestr("config.json", json.dumps(config))
        archive.write(folder / "model.weights.h5", "model.weights.h5")
    (folder / "model.weights.h5").unlink()
    (folder / "config.json").unlink()


def save_bundle(folder):
    """As TensorFlow writes OpenAI's variables."""
    variables = {}
    for name, x in values().items():
        *path, leaf = re.sub(r"^h\.", "h", published_name(name)).split(".")
        leaves = {"ln": {"weight": "g"}, "c_": {"weight": "w"}}.get(path[-1][:2])
        is_kernel = path[-1].startswith("c_") and leaf == "weight"
        variables["/".join(["model", *path, *([leaves.get(leaf, "b")] if leaves else [])])] = (
            x[None] if is_kernel else x
        )
    names, tensors = list(variables), [tf.constant(x) for x in variables.values()]
    prefix, slices = str(folder / "model.ckpt"), [""] * len(names)
    tf.raw_ops.SaveV2(prefix=prefix, tensor_names=names, shape_and_slices=slices, tensors=tensors)
    (folder / "checkpoint").write_text('model_checkpoint_path: "model.ckpt"\n')
    (folder / "hparams.json").write_text(HPARAMS)


def save_llm_c(folder, version):
    header = np.zeros(256, "<i4")
    header[:8] = 20240326, version, P, V, L, 1, C, 128
    kinds = ("ln_1", "attn.c_attn", "attn.c_proj", "ln_2", "mlp.c_fc", "mlp.c_proj")
    names = [f"h.{i}.{kind}.{leaf}" for kind in kinds for leaf in ("weight", "bias") for i in range(L)]
    found = {published_name(name): torch.tensor(x.T.copy() if ".c_" in name else x) for name, x in values().items()}
    found["wte.weight"] = torch.nn.functional.pad(found["wte.weight"], (0, 0, 0, 128 - V))
    with open(folder / "model.bin", "wb") as file:
        file.write(header.tobytes())
        for name in ("wte.weight", "wpe.weight", *names, "ln_f.weight", "ln_f.bias"):
            x = found[name]
            file.write((x if version == 3 else x.bfloat16().view(torch.int16)).numpy().tobytes())


def save_hparams(folder):
    save(folder, "safetensors")
    (folder / "config.json").unlink()
    (folder / "hparams.json").write_text(HPARAMS)


SOUND = {
    "safetensors": [lambda to: save(to, "safetensors"), save_safetensors],
    "safetensors shards": [lambda to: save(to, "safetensors", max_shard_size="2KB")],
    "torch": [lambda to: save(to, "torch"), save_torch],
    "torch stream": [save_stream],
    "torch shards": [lambda to: save(to, "torch", max_shard_size="2KB")],
    "tf-h5": [
        lambda to: save(to, "tf-h5"),
        lambda to: save_h5py(to, "tf-h5"),
        lambda to: save_h5py(to, "tf-h5", libver="latest"),
    ],
    "keras": [lambda to: save(to, "keras"), lambda to: save_h5py(to, "keras")],
    "keras archive": [save_archive],
    "openai-tf1": [save_bundle],
    "llm.c": [lambda to: save_llm_c(to, 3), lambda to: save_llm_c(to, 5)],
    "config": [lambda to: save(to, "safetensors"), save_hparams],
}


def campaign(form, folder, *options):
    """Returns what the program finds; a crash, or a reader that never comes back, is an error of it."""
    for i, make in enumerate(SOUND[form]):
        (folder / "sound" / str(i)).mkdir(parents=True)
        make(folder / "sound" / str(i))
    command = [sys.executable, "-m", "tests.damage", form, str(folder), *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=Path(__file__).parent.parent)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


def test_every_format_has_its_damage():
    assert SOUND.keys() == FORMATS.keys()


@pytest.mark.parametrize("form", SOUND)
def test_damage_ends_in_an_error_or_changes_nothing(form, tmp_path):
    found = campaign(form, tmp_path)
    print(found)
    assert not found["failures"], found["failures"][:5]
    counts = found["counts"]
    assert sum(counts.values()) == SEEDS and counts["error"] > SEEDS / 2 and counts["equal"] > 10


@pytest.mark.parametrize(
    "sabotage, form, seeds, words",
    [
        ("no checksums", "torch", 60, "other weights: "),
        ("other values", "safetensors", 20, "other weights: "),
        ("another exception", "safetensors", 3, "KeyError"),
        ("an error without a file", "safetensors", 3, "names no file: something is wrong"),
        ("a hang", "safetensors", 2, "it took too long"),
        ("much memory", "safetensors", 2, "MB more than sound files take"),
    ],
)
def test_the_campaign_notices_a_reader_that_is_wrong(sabotage, form, seeds, words, tmp_path):
    found = campaign(form, tmp_path, "--sabotage", sabotage, "--seeds", str(seeds), "--seconds", "1")
    assert any(words in failure["what"] for failure in found["failures"]), found


# --- what no seed may ever draw


@pytest.mark.parametrize(
    "fields, words",
    [
        ({"n_layer": 10**12}, "holds 28 tensors, its config asks for n_layer=1000000000000"),
        ({"n_layer": 10**400}, "below 2**63"),
        ({"n_embd": 10**4299, "n_head": 1}, "below 2**63"),
        ({"num_labels": 10**12}, "num_labels=1000000000000: it must be at most 500000"),
        ({"vocab_size": 10**15}, "its config asks for (1000000000000000, 5)"),
        ({"initializer_range": 10**400}, "positive and finite"),
        ({"layer_norm_epsilon": 10**400}, "positive and finite"),
        ({"id2label": {"0": [], "1": {}}}, "a name must be text"),
    ],
    ids=str,
)
def test_numbers_of_a_config_that_cannot_be(fields, words, tmp_path):
    save(tmp_path, "safetensors")
    (tmp_path / "config.json").write_text(json.dumps(CONFIG.to_dict() | fields))
    with pytest.raises(GPT2Error, match=re.escape(words)) as raised, checkpoint.open(tmp_path) as source:
        checkpoint.match(source, "lm_head")
    assert str(tmp_path) in str(raised.value)


@pytest.mark.parametrize("depth", [700, 100_000])
def test_a_config_without_a_floor(depth, tmp_path):
    (tmp_path / "config.json").write_text('{"x": ' + "[" * depth + "]" * depth + "}")
    with pytest.raises(GPT2Error, match=r"config\.json"):
        GPT2Config.from_pretrained(tmp_path)


@pytest.mark.parametrize("named", [5, {}, {"a": 1}, [[]], [None], "GPT2LMHeadModel"], ids=str)
def test_architectures_of_another_kind(named, tmp_path):
    save(tmp_path, "safetensors")
    (tmp_path / "config.json").write_text(json.dumps(CONFIG.to_dict() | {"architectures": named}))
    with checkpoint.open(tmp_path) as source:
        assert checkpoint.find_head(source) == "model"


def pickled(extra=b"", shape=(2, 2), stride=(2, 1), count=4, key=b"X\1\0\0\x000"):
    """Returns the pickle of a state_dict of one tensor, in torch's own words."""
    numbers = [b"(" + b"".join(b"K" + bytes([n]) for n in ns) + b"t" for ns in (shape, stride)]
    storage = text("storage") + b"ctorch\nFloatStorage\n" + key + text("cpu") + b"K" + bytes([count])
    call = b"ctorch._utils\n_rebuild_tensor_v2\n((" + storage + b"tQK\0" + b"".join(numbers) + b"\x89}tR"
    return b"\x80\x02}" + extra + text("wte.weight") + call + b"s."


PAIRS = b"]q\x01(" + b"".join(b"K%cN\x86" % i for i in range(200)) + b"e0"  # 200 items, remembered
HOSTILE = {
    "sound": (pickled(), None),
    "one name twice": (pickled(text("wte.weight") + b"Ns"), "a dict holds 'wte.weight' twice"),
    "numbers that repeat": (pickled(stride=(1, 1)), "has strides (1, 1), which repeat numbers"),
    "one number for all": (pickled(stride=(0, 0)), "has strides (0, 0), which repeat numbers"),
    "a storage of another size": (pickled(count=5), "is of 5 numbers, of which 16 bytes are stored"),
    "a key of many tuples": (pickled(key=b"K\x01" + b"2\x86" * 60), "made in a way that torch does not know"),
    "a global of many tuples": (b"\x80\x02K\x01" + b"2\x86" * 60 + b"2\x93.", "names a global by what is no text"),
    "a number of 4000 bytes": (
        pickled(b"\x8b" + struct.pack("<i", 4000) + b"\x7f" * 4000 + b"Ns"),
        "a number has 31999 bits",
    ),
    "two million sets": (b"\x80\x02" + b"\x8f" * 2_000_000, "more than 1000000 operations"),
    "one list in many dicts": (
        b"\x80\x02" + PAIRS + b"ccollections\nOrderedDict\nq\x02" + b"h\x02h\x01\x85R0" * 5000 + b".",
        "it makes dicts of one list again and again",
    ),
}


@pytest.mark.parametrize("data, words", HOSTILE.values(), ids=HOSTILE)
def test_hostile_pickles(data, words, tmp_path):
    with zipfile.ZipFile(tmp_path / "a.bin", "w") as archive:
        archive.writestr("a/data.pkl", data)
        archive.writestr("a/data/0", np.arange(4, dtype="<f4").tobytes())
    if words is None:
        with checkpoint.open(tmp_path / "a.bin") as source:
            np.testing.assert_array_equal(source["wte.weight"], [[0, 1], [2, 3]])
    else:
        with pytest.raises(GPT2Error, match=re.escape(words)) as raised:
            checkpoint.open(tmp_path / "a.bin")
        assert "a.bin" in str(raised.value)


def test_numbers_that_no_tensor_uses(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.bin", "w") as archive:
        archive.writestr("a/data.pkl", pickled())
        archive.writestr("a/data/0", bytes(16))
        archive.writestr("a/data/1", bytes(16))
    with pytest.raises(GPT2Error, match=r"a\.bin is truncated or damaged: no tensor uses a/data/1"):
        checkpoint.open(tmp_path / "a.bin")


def test_a_stream_is_little_endian_whatever_it_says(tmp_path):
    """As torch writes and reads it on machines of both kinds."""
    save_stream(tmp_path)
    path = tmp_path / "pytorch_model.bin"
    data = path.read_bytes()
    place = data.index(b"little_endian") + 15
    assert data[place : place + 1] == b"\x88"  # True
    path.write_bytes(data[:place] + b"\x89" + data[place + 1 :])
    loaded = torch.load(path, weights_only=True)
    with checkpoint.open(tmp_path) as source:
        assert all((source[published_name(name)] == loaded[name].numpy()).all() for name in values())


def block(rows):
    """Returns a block of a table of rows: how much of the last name stays, what is added to it, what it stands for."""
    content = b"".join(varint(n) + varint(len(name)) + varint(len(x)) + name + x for n, name, x in rows)
    content += bytes(4)  # no place where a name is whole
    checksum = _masked(crc32c([np.frombuffer(content + b"\0", np.uint8)]))
    return content + b"\0" + checksum.to_bytes(4, "little")


def varint(n):
    """Returns a number as protocol buffers have it."""
    return bytes([n & 127 | 128]) + varint(n >> 7) if n > 127 else bytes([n])


def table(rows, times=1):
    """Returns an index of one block of rows, which is listed some times."""
    data = block(rows)
    handles = [(0, b"x%d" % i, varint(0) + varint(len(data) - 5)) for i in range(times)]
    listed = block(handles)
    footer = varint(0) + varint(0) + varint(len(data)) + varint(len(listed) - 5)
    return data + listed + footer.ljust(40, b"\0") + MAGIC


@pytest.mark.parametrize(
    "index, words",
    [
        (table([(i, b"x", b"") for i in range(100_000)]), "has a name of 4097 bytes"),
        (table([(0, b"%d" % i, b"") for i in range(10_000)], times=10_000), "its blocks overlap"),
    ],
    ids=["names that grow", "one block many times"],
)
def test_hostile_indices(index, words, tmp_path):
    (tmp_path / "model.ckpt.index").write_bytes(index)
    with pytest.raises(GPT2Error, match=words) as raised:
        checkpoint.open(tmp_path)
    assert "model.ckpt.index" in str(raised.value)


def test_one_dataset_in_the_other_byte_order(tmp_path):
    save(tmp_path, "keras")
    path = tmp_path / "model.weights.h5"
    data = bytearray(path.read_bytes())
    data[data.index(struct.pack("<HHBBBBI", 0, 32, 23, 8, 0, 23, 127)) - 7] ^= 1
    path.write_bytes(data)
    with pytest.raises(GPT2Error, match=r"model\.weights\.h5 is truncated or damaged: .* are in opposite orders"):
        checkpoint.open(tmp_path)


def test_a_dataset_among_the_names(tmp_path):
    save(tmp_path, "keras")
    path = tmp_path / "model.weights.h5"
    data = bytearray(path.read_bytes())
    bits = values()["transformer.ln_f.bias"].tobytes()
    address = data.index(struct.pack("<QQ", data.index(bits), len(bits)))
    data[address : address + 8] = struct.pack("<Q", data.index(b"SNOD"))
    path.write_bytes(data)
    with pytest.raises(GPT2Error, match=r"dataset '.*' lies where the file describes what it holds"):
        checkpoint.open(tmp_path)


def test_a_file_that_tells_its_config_is_named_in_its_errors(tmp_path):
    save_llm_c(tmp_path, 3)
    path = tmp_path / "model.bin"
    data = bytearray(path.read_bytes())
    data[20] = 3  # heads
    path.write_bytes(data)
    with pytest.raises(GPT2Error, match=r"model\.bin: n_embd=5 is not divisible by n_head=3"):
        checkpoint.open(tmp_path)
