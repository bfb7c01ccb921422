"""gpt2 convert: from every format that is read to every one that is written, bit for bit; what it says of it."""

import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from gpt2_core import GPT2Error, checkpoint, convert
from gpt2_core.checkpoint import FORMATS, Tensor
from gpt2_core.checkpoint import writer as writing
from gpt2_core.checkpoint.safetensors_file import write_safetensors
from gpt2_core.cli import main
from gpt2_core.weights import HEADS
from tests.frameworks import DATA, Keras, Torch
from tests.heads import CONFIG
from tests.matrix import opens

ROOT = Path(__file__).parent.parent
TRANSFORMERS, OLD = DATA / "transformers", DATA / "transformers_4_28"
TF_SAFETENSORS = DATA / "transformers_tf_safetensors"
# What other people's code wrote: who, and where it lies
FOREIGN = [
    ("transformers 4.57, safetensors", TRANSFORMERS / "lm_head" / "model.safetensors"),
    ("transformers 4.57, bin", TRANSFORMERS / "lm_head" / "pytorch_model.bin"),
    ("transformers 4.57, bin in shards", TRANSFORMERS / "lm_head" / "sharded_bin"),
    ("transformers 4.57, safetensors in shards", TRANSFORMERS / "lm_head" / "sharded_safetensors"),
    ("transformers 4.57, h5 in shards", TRANSFORMERS / "lm_head" / "sharded_h5"),
    *(("transformers 4.57, h5", TRANSFORMERS / head / "tf_model.h5") for head in HEADS[:4]),
    *(("transformers 4.28, h5", OLD / head / "tf_model.h5") for head in HEADS[1:4]),
    *(("transformers 4.28, bin with masks and head", OLD / head / "pytorch_model.bin") for head in HEADS[1:3]),
    ("transformers 4.28, stream of pickles", OLD / "lm_head" / "stream.pt"),
    *(("transformers 4.57 TF, safetensors", TF_SAFETENSORS / head) for head in HEADS[1:4]),
    ("transformers 4.57 TF, safetensors in shards", TF_SAFETENSORS / "lm_head_sharded"),
    ("OpenAI, TensorFlow 1", DATA / "openai_tf1"),
    ("KerasHub", DATA / "keras_hub"),
]


def bits(path):
    """Returns published name -> (type, shape, bits) of a checkpoint."""
    with checkpoint.open(path) as source:
        return {name: (t.dtype, t.shape, t.bits().tobytes()) for name, t in source.tensors.items()}


@pytest.mark.parametrize("to", FORMATS)
@pytest.mark.parametrize("writer, source", FOREIGN)
def test_foreign_checkpoints(writer, source, to, tmp_path, record_property):
    report = convert(source, tmp_path, to)
    opens(record_property, writer, f"convert to {to}", report.head)
    expected = bits(source)
    if report.tied:
        del expected["lm_head.weight"]
    assert bits(tmp_path) == expected and report.checked == len(expected)


@pytest.mark.parametrize("dtype", ["float32", "float16", "float64", "bfloat16"])
@pytest.mark.parametrize("head", HEADS)
def test_every_format_to_every_format(head, dtype, tmp_path, record_property):
    """Written from what either framework saved, and loaded into either."""
    ring = [name for name in FORMATS if dtype != "bfloat16" or name != "tf-h5"]  # which has none
    model = Torch().create(head, dataclasses.replace(CONFIG, add_cross_attention=True), seed=2, dtype=dtype)
    model.save_pretrained(tmp_path / "start")
    expected = bits(tmp_path / "start")
    for writer in (Torch(), Keras()):
        for first in ring:
            folder = tmp_path / f"{writer.package} {first}"
            writer.load(head, tmp_path / "start", "auto").save_pretrained(folder, format=first)
            assert bits(folder) == expected
            for to in ring:
                convert(folder, folder / to, to)
                assert bits(folder / to) == expected
                opens(record_property, f"{writer.package}, {first}", f"convert to {to}", head)
            for reader in (Torch(), Keras()):
                reader.load(head, folder, "auto").save_pretrained(folder / reader.package)
                assert bits(folder / reader.package) == expected
                opens(record_property, f"{writer.package}, {first}", reader.package, head)


@pytest.mark.parametrize("writer, source", FOREIGN)
def test_foreign_checkpoints_in_either_framework(writer, source, framework, tmp_path, record_property):
    with checkpoint.open(source) as found:
        head = checkpoint.find_head(found)
    framework.load(head, source).save_pretrained(tmp_path)
    expected = bits(source)
    expected.pop("lm_head.weight", None)  # tied
    assert bits(tmp_path) == expected
    opens(record_property, writer, framework.package, head)


@pytest.mark.parametrize("source", [path for who, path in FOREIGN if who.startswith("transformers")])
def test_every_era_of_transformers_holds_the_same_weights(source):
    head = next(part for part in reversed(source.parts) if part.removesuffix("_sharded") in HEADS)
    expected = bits(TRANSFORMERS / head.removesuffix("_sharded") / "tf_model.h5")
    ours = bits(source)
    assert ours.pop("lm_head.weight", ours["wte.weight"]) == ours["wte.weight"]
    assert ours == expected


def test_what_it_says(capfd, tmp_path):
    assert main(["convert", str(TRANSFORMERS / "double_heads" / "tf_model.h5"), str(tmp_path / "a")]) == 0
    out, err = capfd.readouterr()
    assert "30 tensors (double_heads) from tf-h5 to" in out and err == ""  # progress is for terminals
    assert "renamed: 30, as " in out and "transposed: 1, multiple_choice_head.summary.weight" in out
    assert "checked: 30 tensors hold the source's bits" in out
    assert main(["convert", str(tmp_path / "a"), str(tmp_path / "b"), "--to", "torch", "--json"]) == 0
    report = json.loads(capfd.readouterr().out)
    assert (report["source_format"], report["head"], report["checked"]) == ("safetensors", "double_heads", 30)
    assert main(["convert", str(tmp_path / "a"), str(tmp_path / "b")]) == 2
    assert "holds pytorch_model.bin already: use --force" in capfd.readouterr().err


def test_masks_and_a_tied_head(tmp_path):
    with checkpoint.open(TRANSFORMERS / "lm_head") as source:
        source.config.save_pretrained(tmp_path)
        mask, wte = Tensor.of(np.ones((1, 1, 4, 4), np.uint8)), source.tensors["wte.weight"]
        more = {"h.0.attn.bias": mask, "lm_head.weight": wte}
        write_safetensors(tmp_path / "model.safetensors", {**source.tensors, **more}, {})
    report = convert(tmp_path, tmp_path / "new")
    assert (report.read, report.skipped, report.tied, report.checked) == (29, ["h.0.attn.bias"], True, 28)


def test_progress_names_every_tensor_twice(tmp_path):
    said = []
    report = convert(TRANSFORMERS / "lm_head", tmp_path, progress=lambda *step: said.append(step))
    for what in ("write", "check"):
        steps = [step[1:] for step in said if step[0] == what]
        assert [step[0] for step in steps] == list(range(1, 29)) and {step[1] for step in steps} == {28}
        assert len({step[2] for step in steps}) == report.checked == 28


@pytest.mark.parametrize("size", ["5GB", "30KB"])
@pytest.mark.parametrize("to", FORMATS)
def test_what_was_written_wrong_is_seen_in_time(tmp_path, monkeypatch, to, size):
    """And what was there before stays."""
    convert(TRANSFORMERS / "lm_head", tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    right = writing._WRITERS[to]

    def wrong(path, tensors, head):
        last = list(tensors)[-1]
        right(path, {**tensors, last: Tensor.of(np.zeros(tensors[last].shape, np.float32))}, head)

    monkeypatch.setitem(writing._WRITERS, to, wrong)
    with pytest.raises(GPT2Error, match=r"model.* would not hold the transformer\..* that was written"):
        convert(TRANSFORMERS / "lm_head", tmp_path, to, max_shard_size=size, force=True)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_source_with_a_wrong_checksum_replaces_nothing(tmp_path):
    """Its numbers are copied first and its checksums checked last, and that is before anything is put in place."""
    convert(TRANSFORMERS / "lm_head", tmp_path / "new")
    before = {path.name: path.read_bytes() for path in (tmp_path / "new").iterdir()}
    shutil.copytree(DATA / "openai_tf1", tmp_path / "source")
    values = tmp_path / "source" / "model.ckpt.data-00000-of-00001"
    data = bytearray(values.read_bytes())
    data[1000] ^= 1
    values.write_bytes(data)
    with pytest.raises(GPT2Error, match="does not match its checksum"):
        convert(tmp_path / "source", tmp_path / "new", force=True)
    assert {path.name: path.read_bytes() for path in (tmp_path / "new").iterdir()} == before


def test_neither_framework_is_needed(tmp_path):
    code = """
import sys
for name in ("torch", "tensorflow", "keras", "h5py", "jax", "transformers", "safetensors"):
    sys.modules[name] = None
from gpt2_core import convert
from gpt2_core.checkpoint import FORMATS
for i, source in enumerate(sys.argv[2:]):
    for to in FORMATS:
        print(convert(source, f"{sys.argv[1]}/{i}-{to}", to).checked)
"""
    command = [sys.executable, "-c", code, str(tmp_path), *(str(path) for _, path in FOREIGN)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert len(done.stdout.split()) == len(FOREIGN) * len(FORMATS)
