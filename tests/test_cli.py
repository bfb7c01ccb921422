"""The command gpt2, as a user types it."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from gpt2_core import checkpoint
from gpt2_core.checkpoint.safetensors_file import write_safetensors
from gpt2_core.cli import main
from gpt2_core.version import VERSION
from tests.frameworks import DATA

LM = str(DATA / "transformers" / "lm_head")


def said(capfd, *arguments, code=0):
    """Returns what a command printed; its exit code must be `code`."""
    assert main(list(map(str, arguments))) == code
    return capfd.readouterr().out


def refused(capfd, *arguments):
    """Returns the one line that a command refuses its input with."""
    assert main(list(map(str, arguments))) == 2
    out, err = capfd.readouterr()
    assert out == "" and err.startswith("gpt2: ") and err.count("\n") == 1 and "Traceback" not in err
    return err


def test_info(capfd):
    text = said(capfd, "info", LM)
    assert "lm_head" in text and "18,360" in text and "float32" in text and "safetensors" in text
    facts = json.loads(said(capfd, "info", LM + "/tf_model.h5", "--json"))
    assert (facts["format"], facts["tensors"], facts["missing"], facts["unexpected"]) == ("tf-h5", 28, [], [])
    assert facts["files"] == {"tf_model.h5": 114712}
    assert "double_heads" in said(capfd, "info", DATA / "transformers" / "double_heads" / "tf_model.h5")


def test_info_of_a_checkpoint_that_lacks_tensors(capfd, tmp_path):
    shutil.copy(LM + "/model.safetensors", tmp_path)
    config = json.loads(Path(LM, "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"n_layer": 3}))
    facts = json.loads(said(capfd, "info", tmp_path, "--json", code=1))
    assert len(facts["missing"]) == 12 and facts["missing"][0] == "h.2.ln_1.weight"


ERAS = {
    "transformers/lm_head/model.safetensors": "format 'pt'",
    "transformers/lm_head/pytorch_model.bin": "a zip, PyTorch 1.6 and later",
    "transformers/lm_head/tf_model.h5": "Keras 2.19.0, named as from transformers 4.30 on",
    "transformers/lm_head/sharded_h5": "shards as transformers writes them",
    "openai_tf1": "TensorFlow 1 and 2, V2 checkpoints, data files: 1",
    "keras_hub": "KerasHub on Keras 3",
    "transformers_4_28/lm_head/tf_model.h5": "Keras 2.12.0, named as before transformers 4.30",
    "transformers_4_28/lm_head/stream.pt": "a stream of pickles, before PyTorch 1.6",
    "transformers_tf_safetensors/lm_head": "format 'tf'",
}


@pytest.mark.parametrize("source", ERAS)
def test_info_tells_who_wrote_it(capfd, source):
    facts = json.loads(said(capfd, "info", DATA / source, "--json"))
    assert ERAS[source] in facts["era"] and sum(facts["dtypes"].values()) == facts["tensors"]


def test_weights_without_a_config(capfd, tmp_path):
    shutil.copy(DATA / "transformers" / "sequence_classification" / "tf_model.h5", tmp_path)
    facts = json.loads(said(capfd, "info", tmp_path, "--json"))
    assert (facts["head"], facts["missing"], facts["unexpected"]) == ("sequence_classification", [], [])
    assert (facts["config"]["n_embd"], facts["config"]["n_layer"], facts["config"]["n_head"]) == (24, 2, None)
    assert "n_head unknown" in said(capfd, "info", tmp_path)
    assert "weights do not tell n_head" in refused(capfd, "convert", tmp_path, tmp_path / "new")
    said(capfd, "convert", tmp_path, tmp_path / "new", "--n-head", 4)
    with checkpoint.open(tmp_path / "new") as new:
        told = DATA / "transformers" / "sequence_classification" / "tf_model.h5"
        with checkpoint.open(told) as expected:
            for field in ("vocab_size", "n_positions", "n_embd", "n_layer", "n_head", "n_inner", "num_labels"):
                assert getattr(new.config, field) == getattr(expected.config, field)


def test_what_a_published_width_tells(capfd, tmp_path):
    wte = checkpoint.Tensor("float32", (3, 1280), lambda: np.zeros((3, 1280), np.float32))
    write_safetensors(tmp_path / "model.safetensors", {"wte.weight": wte}, {})
    refusal = refused(capfd, "verify", tmp_path, tmp_path, "--framework", "torch")
    assert "a published GPT-2 of this width has 20" in refusal


def test_info_of_a_tied_head_that_the_file_repeats(capfd, tmp_path):
    shutil.copy(LM + "/config.json", tmp_path)
    with checkpoint.open(LM) as source:
        tensors = {**source.tensors, "lm_head.weight": source.tensors["wte.weight"]}
        write_safetensors(tmp_path / "model.safetensors", tensors, {})
    facts = json.loads(said(capfd, "info", tmp_path, "--json"))
    assert (facts["tensors"], facts["missing"], facts["unexpected"]) == (29, [], [])


def test_verify_compares_the_frameworks(capfd):
    text = said(capfd, "verify", LM)
    assert all(name in text for name in ("logits", "hidden_states", "attentions", "past_key_values", "loss"))
    assert "TOO FAR" not in text
    rows = json.loads(said(capfd, "verify", LM, "--json"))
    assert all(0 <= row["relative"] <= 1e-9 for row in rows["float64"])
    assert 0 < max(row["relative"] for row in rows["float32"]) <= 1e-5


@pytest.mark.parametrize("head, field", [("double_heads", "mc_logits"), ("sequence_classification", "logits")])
def test_verify_takes_the_model_that_the_checkpoint_is_of(capfd, head, field):
    rows = json.loads(said(capfd, "verify", DATA / "transformers" / head, "--json"))["float64"]
    shapes = {row["name"]: row["shape"] for row in rows}
    assert shapes[field] == ([1, 3] if head == "double_heads" else [3, 3])


def test_verify_fails_past_the_tolerance(capfd, monkeypatch):
    monkeypatch.setitem(sys.modules["gpt2_core.parity"].TOLERANCE, "float32", 1e-12)
    assert "TOO FAR" in said(capfd, "verify", LM, code=1)


def test_verify_compares_weights(capfd, tmp_path):
    assert "28 of 28" in said(capfd, "verify", LM, LM + "/sharded_h5")
    text = said(capfd, "verify", LM, DATA / "transformers" / "model", code=1)
    assert "0 of 28" in text and "wte.weight" in text
    main(["convert", LM, str(tmp_path), "--dtype", "bf16"])
    assert "bfloat16" in said(capfd, "verify", LM, tmp_path, code=1)


def test_verify_takes_a_tied_head_for_the_word_table(capfd):
    for a, b in ((LM, DATA / "transformers_4_28" / "lm_head" / "pytorch_model.bin"), (LM, LM)):
        assert "equal bit for bit" in said(capfd, "verify", a, b) and "equal bit for bit" in said(capfd, "verify", b, a)


def test_verify_compares_outputs_of_two_checkpoints(capfd, tmp_path):
    for framework in ("torch", "tf"):
        rows = json.loads(said(capfd, "verify", LM, LM + "/tf_model.h5", "--framework", framework, "--json"))
        assert {row["absolute"] for dtype in rows for row in rows[dtype]} == {0}
    main(["convert", LM, str(tmp_path), "--dtype", "bf16"])
    assert "hold the source's values, as bfloat16" in capfd.readouterr().out
    assert "TOO FAR" in said(capfd, "verify", LM, tmp_path, "--framework", "torch", code=1)
    classifier = DATA / "transformers" / "sequence_classification"
    assert "cannot be compared" in refused(capfd, "verify", LM, classifier, "--framework", "torch")
    assert "--framework is for two" in refused(capfd, "verify", LM, "--framework", "torch")


def test_convert(capfd, tmp_path):
    assert "28 tensors" in said(capfd, "convert", LM, tmp_path / "a", "--to", "tf-h5")
    assert "--force" in refused(capfd, "convert", LM, tmp_path / "a")
    said(capfd, "convert", tmp_path / "a", tmp_path / "a", "--force")
    assert "28 of 28" in said(capfd, "verify", tmp_path / "a", LM)


def test_bad_input_is_one_line_and_exit_code_2(capfd, tmp_path):
    assert "no file or folder" in refused(capfd, "info", tmp_path / "nowhere")
    assert "holds no checkpoint" in refused(capfd, "verify", tmp_path)
    assert "seed=-1" in refused(capfd, "verify", LM, "--seed", "-1")
    assert "not valid JSON" in refused(capfd, "info", _folder_with(tmp_path / "a", config="{"))
    assert "truncated" in refused(capfd, "info", _folder_with(tmp_path / "b", cut=50))
    assert "does not fit its config" in refused(
        capfd, "verify", _folder_with(tmp_path / "c", config='{"n_layer": 9, "n_embd": 24, "n_head": 4}')
    )


def _folder_with(folder, config=None, cut=None):
    shutil.copytree(LM, folder, ignore=shutil.ignore_patterns("sharded*", "*.h5", "*.npz"))
    if config is not None:
        (folder / "config.json").write_text(config)
    if cut is not None:
        data = (folder / "model.safetensors").read_bytes()
        (folder / "model.safetensors").write_bytes(data[:cut])
    return folder


@pytest.mark.parametrize("arguments", [[], ["generat"], ["convert", "a", "b", "--to", "onnx"]])
def test_wrong_words_exit_with_2(arguments, capfd):
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2


def test_version_and_module(capfd):
    done = subprocess.run([sys.executable, "-m", "gpt2_core", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"gpt2-duo {VERSION}"


def test_a_reader_that_has_seen_enough_is_no_error():
    command = f'"{sys.executable}" -m gpt2_core info "{LM}" --json | head -1'
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=True)
    assert done.stdout == "{\n" and done.stderr == ""


def test_demo(capfd):
    text = said(capfd, "demo")
    assert text.count("model.safetensors") >= 2 and "tf_model.h5" in text and "the same in both" in text
    rows = [line.split() for line in text.splitlines() if line.startswith(("from_", "back"))]
    assert len(rows) == 3 and all(row[2] == row[3] for row in rows)
