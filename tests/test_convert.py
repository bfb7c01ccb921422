"""gpt2 convert: from every format that is read to every one that is written, bit for bit; what it says of it."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from gpt2_core import GPT2Error, checkpoint, convert
from gpt2_core.checkpoint import FORMATS, Tensor
from gpt2_core.checkpoint.safetensors_file import write_safetensors
from gpt2_core.cli import main
from gpt2_core.weights import HEADS
from tests.frameworks import DATA, Keras, Torch
from tests.heads import CONFIG

ROOT = Path(__file__).parent.parent
TRANSFORMERS = DATA / "transformers"
# What other people's code wrote
FOREIGN = {
    "transformers 4.57, safetensors": TRANSFORMERS / "lm_head" / "model.safetensors",
    "transformers 4.57, bin": TRANSFORMERS / "lm_head" / "pytorch_model.bin",
    "transformers 4.57, bin in shards": TRANSFORMERS / "lm_head" / "sharded_bin",
    "transformers 4.57, safetensors in shards": TRANSFORMERS / "lm_head" / "sharded_safetensors",
    "transformers 4.57, h5 in shards": TRANSFORMERS / "lm_head" / "sharded_h5",
    "transformers 4.57, h5": TRANSFORMERS / "lm_head" / "tf_model.h5",
    "transformers 4.57, double heads h5": TRANSFORMERS / "double_heads" / "tf_model.h5",
    "transformers 4.57, classifier h5": TRANSFORMERS / "sequence_classification" / "tf_model.h5",
    "OpenAI, TensorFlow 1": DATA / "openai_tf1",
    "KerasHub": DATA / "keras_hub",
}


def bits(path):
    """Returns published name -> (type, shape, bits) of a checkpoint."""
    with checkpoint.open(path) as source:
        return {name: (t.dtype, t.shape, t.bits().tobytes()) for name, t in source.tensors.items()}


@pytest.mark.parametrize("to", FORMATS)
@pytest.mark.parametrize("source", FOREIGN)
def test_foreign_checkpoints(source, to, tmp_path):
    report = convert(FOREIGN[source], tmp_path, to)
    expected = bits(FOREIGN[source])
    if report.tied:
        del expected["lm_head.weight"]
    assert bits(tmp_path) == expected and report.checked == len(expected)


@pytest.mark.parametrize("dtype", ["float32", "float16", "float64", "bfloat16"])
@pytest.mark.parametrize("head", HEADS)
def test_every_format_to_every_format(head, dtype, tmp_path):
    """A ring: each format is written from the one before, the first again from the last."""
    ring = [name for name in FORMATS if dtype != "bfloat16" or name != "tf-h5"]  # which has none
    model = Torch().create(head, dataclasses.replace(CONFIG, add_cross_attention=True), seed=2, dtype=dtype)
    model.save_pretrained(tmp_path / "start")
    expected, before = bits(tmp_path / "start"), tmp_path / "start"
    for first in ring:
        for to in ring:
            after = tmp_path / f"{first}-{to}"
            convert(tmp_path / "start", tmp_path / first, first, force=True)
            convert(tmp_path / first, after, to)
            assert bits(after) == expected
            before = after
    keras = Keras().weights(Keras().load(head, before, dtype))
    assert list(keras) == list(Torch().weights(model))


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


def test_what_was_written_wrong_is_seen(tmp_path, monkeypatch):
    written = checkpoint.save

    def save_wrong(folder, config, tensors, *args, **kwargs):
        last = list(tensors)[-1]
        zeros = Tensor.of(np.zeros(tensors[last].shape, np.float32))
        written(folder, config, {**tensors, last: zeros}, *args, **kwargs)

    monkeypatch.setattr(checkpoint, "save", save_wrong)
    with pytest.raises(
        GPT2Error, match=r"model\.safetensors does not hold the transformer\.ln_f\.bias that was written"
    ):
        convert(TRANSFORMERS / "lm_head", tmp_path)


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
    command = [sys.executable, "-c", code, str(tmp_path), *map(str, FOREIGN.values())]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert len(done.stdout.split()) == len(FOREIGN) * len(FORMATS)
