"""Keras 3's own files, of gpt2_tf and of KerasHub, read with numpy alone."""

import dataclasses
import zipfile

import h5py
import numpy as np
import pytest

from gpt2_core import GPT2Config, GPT2Error, checkpoint
from gpt2_core.parity import require_close
from gpt2_core.weights import HEADS
from tests.frameworks import DATA, Keras, Torch
from tests.heads import CONFIG, labelled

KERAS_HUB = DATA / "keras_hub"


@pytest.mark.parametrize("ending", [".weights.h5", ".keras"])
@pytest.mark.parametrize("untied", [False, True])
@pytest.mark.parametrize("head", HEADS)
def test_what_keras_saves_opens_in_pytorch(head, untied, ending, tmp_path):
    config = dataclasses.replace(CONFIG, add_cross_attention=True, tie_word_embeddings=not untied)
    model = Keras().create(head, config, seed=4)
    path = tmp_path / f"model{ending}"
    if ending == ".keras":
        model.save(path)
    else:
        model.save_weights(path)
        config.save_pretrained(tmp_path)
    with checkpoint.open(path) as source:
        assert (source.format, dataclasses.replace(source.config, extra={})) == ("keras", config)
        # variables alone do not tell a tied language model from its trunk
        assert checkpoint.find_head(source) == (head if ending == ".keras" or untied or head != "lm_head" else "model")
    ours = Torch().weights(Torch().load(head, path))
    require_close(ours, Keras().weights(model), 0.0)


@pytest.mark.parametrize("untied", [False, True])
@pytest.mark.parametrize("head", HEADS)
def test_keras_loads_what_is_written_without_it(head, untied, tmp_path):
    config = dataclasses.replace(CONFIG, n_layer=3, add_cross_attention=True, tie_word_embeddings=not untied)
    theirs = Torch().create(head, config, seed=4)
    theirs.save_pretrained(tmp_path, format="keras")
    model = Keras().create(head, config, seed=5)
    model.load_weights(tmp_path / "model.weights.h5")
    require_close(Keras().weights(model), Torch().weights(theirs), 0.0)
    model.save_weights(tmp_path / "own.weights.h5")
    assert places(tmp_path / "own.weights.h5") == places(tmp_path / "model.weights.h5")
    require_close(Torch().weights(Torch().load(head, tmp_path / "model.weights.h5")), Torch().weights(theirs), 0.0)


def places(path):
    """Returns what h5py finds in a file: layers with their names, datasets with their shapes."""
    found = {}

    def visit(place, x):
        name = x.attrs.get("name", "")
        if place != "vars":  # that of the model, which is numbered
            found[place] = getattr(x, "shape", name.decode() if isinstance(name, bytes) else name)

    with h5py.File(path) as file:
        file.visititems(visit)
    return found


@pytest.mark.parametrize("dtype", ["float64", "float16", "bfloat16"])
def test_other_types(dtype, tmp_path):
    CONFIG.save_pretrained(tmp_path)
    model = Keras().create("lm_head", CONFIG, dtype=dtype)
    model.save_weights(tmp_path / "model.weights.h5")
    again = Torch().load("lm_head", tmp_path, "auto")
    assert str(again.dtype) == f"torch.{dtype}"
    require_close(Torch().weights(again), Keras().weights(model), 0.0)
    again.save_pretrained(tmp_path / "new", format="keras")
    new = Keras().create("lm_head", CONFIG, seed=9, dtype=dtype)
    new.load_weights(tmp_path / "new" / "model.weights.h5")
    require_close(Keras().weights(new), Keras().weights(model), 0.0)


def test_a_trained_model_leaves_its_optimizer_behind(tmp_path):
    inputs, targets = labelled("lm_head")
    model = Keras().create("lm_head", CONFIG)
    model.compile("adam")
    model.fit(inputs, targets["labels"], verbose=0)
    model.save(tmp_path / "a.keras")
    with checkpoint.open(tmp_path / "a.keras") as source:
        assert len(source.skipped) > 50 and not any("wte" in name and "adam" not in name for name in source.skipped)
    require_close(Torch().weights(Torch().load("lm_head", tmp_path)), Keras().weights(model), 0.0)


def test_a_flipped_bit_of_an_archive_is_seen(tmp_path):
    path = tmp_path / "a.keras"
    Keras().create("lm_head", CONFIG).save(path)
    with checkpoint.open(path) as source:
        place = path.read_bytes().index(source["wte.weight"].tobytes()) + 100
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)
    with (
        checkpoint.open(path) as source,
        pytest.raises(GPT2Error, match=r"'model.weights.h5' does not match its checksum"),
    ):
        source["wpe.weight"]


def test_an_archive_of_something_else(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.keras", "w") as archive:
        archive.writestr("model.weights.h5", b"")
    with pytest.raises(
        GPT2Error, match=r"is a zip archive, but none of Keras: it holds no model.weights.h5 and config.json"
    ):
        checkpoint.open(tmp_path / "a.keras")


def test_keras_hub_s_numbers(runner):
    """A preset and its outputs, float32."""
    expected = np.load(KERAS_HUB / "expected.npz")
    model = runner.load("lm_head", KERAS_HUB)
    inputs = {name: expected[name] for name in ("input_ids", "attention_mask")}
    run = runner.run(model, **inputs, output_hidden_states=True)
    real = inputs["attention_mask"] == 1
    ours = {"logits": run["logits"][real], "hidden": run[f"hidden_states.{model.config.n_layer}"][real]}
    require_close(ours, {name: expected[name][real] for name in ours}, 1e-5)


def test_keras_hub_s_config():
    config = GPT2Config.from_pretrained(KERAS_HUB)
    assert (config.vocab_size, config.n_positions, config.n_embd, config.n_layer, config.n_head) == (97, 64, 32, 2, 4)
    assert (config.n_inner, config.resid_pdrop, config.activation_function) == (128, 0.1, "gelu_new")
    with pytest.raises(GPT2Error, match=r"a config of KerasHub's GPT-2 has vocabulary_size, .*: this one is not whole"):
        GPT2Config.from_dict({"registered_name": "keras_hub>GPT2Backbone", "config": {"num_layers": 2}})
