"""Checkpoint files: read and written, found, matched with a config, and saved all or nothing."""

import errno
import json
import os
import shutil
import subprocess
import sys
import threading
import time
import warnings

import numpy as np
import pytest
import safetensors.numpy
import tensorflow as tf
import torch

from gpt2_core import GPT2Config, GPT2Error, atomic, checkpoint, convert
from gpt2_core.atomic import JOURNAL, Replacement
from gpt2_core.checkpoint import tensor
from gpt2_core.checkpoint.safetensors_file import write_safetensors
from gpt2_core.checkpoint.shards import index_text, size_in_bytes
from gpt2_core.checkpoint.tensor import STORAGE, Tensor, TensorFile
from gpt2_core.checkpoint.tensor import convert as convert_bits
from gpt2_core.initial import initial_weights
from gpt2_core.weights import weight_specs
from gpt2_tf.parameters import tensor_of
from tests.frameworks import DATA, Keras, Torch
from tests.saving import save_constant

LM = DATA / "transformers" / "lm_head"
CONFIG = GPT2Config(vocab_size=40, n_positions=12, n_embd=16, n_layer=2, n_head=2)
SOURCES = [LM / "model.safetensors", LM / "tf_model.h5", LM / "sharded_safetensors", LM / "sharded_h5"]


def originals():
    """Returns the lm_head fixture's weights as the safetensors library reads them."""
    weights = safetensors.numpy.load_file(LM / "model.safetensors")
    return {name.removeprefix("transformer."): values for name, values in weights.items()}


def save_random(folder, head="lm_head", config=CONFIG, format="safetensors", dtype="float32", **options):
    """Saves a fresh model with the core alone; returns its weights, name -> array."""
    weights = dict(initial_weights(config, head, 0))
    tensors = {name: Tensor.of(values) for name, values in weights.items()}
    if dtype != "float32":
        tensors = {name: Tensor(dtype, t.shape, lambda t=t: t.bits(dtype)) for name, t in tensors.items()}
    checkpoint.save(folder, config, tensors, head, format=format, **options)
    return weights


def message_of(call, *arguments, **options):
    with pytest.raises(GPT2Error) as raised:
        call(*arguments, **options)
    return str(raised.value)


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.name)
def test_every_source_holds_the_same_tensors(source):
    expected = originals()
    with checkpoint.open(source) as opened:
        assert set(opened) == set(expected) and opened.config.n_embd == 24
        for name, values in opened.items():
            np.testing.assert_array_equal(values, expected[name], strict=True)
        assert {name: t.shape for name, t in opened.tensors.items()} == {n: v.shape for n, v in expected.items()}


@pytest.mark.parametrize("head", ["model", "lm_head", "double_heads", "sequence_classification"])
def test_tf_h5_of_every_head_fits_the_table(head):
    with checkpoint.open(DATA / "transformers" / head / "tf_model.h5") as source:
        found = checkpoint.match(source, head)
        assert checkpoint.find_head(source) == head and source.format == "tf-h5"
        assert not found.new and list(found.tensors) == list(weight_specs(source.config, head))


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.name)
def test_both_trees_load_every_source(framework, source):
    weights = framework.weights(framework.load("lm_head", source))
    for name, values in originals().items():
        np.testing.assert_array_equal(weights[f"transformer.{name}"], values)


def test_with_and_without_the_prefix(framework):
    """A base checkpoint opens as a language model, and a language model's as a base."""
    base = safetensors.numpy.load_file(DATA / "transformers" / "model" / "model.safetensors")
    assert "wte.weight" in base and "transformer.wte.weight" in safetensors.numpy.load_file(LM / "model.safetensors")
    as_head = framework.weights(framework.load("lm_head", DATA / "transformers" / "model"))
    as_base = framework.weights(framework.load("model", LM))
    np.testing.assert_array_equal(as_head["transformer.wte.weight"], base["wte.weight"])
    np.testing.assert_array_equal(as_base["wte.weight"], originals()["wte.weight"])


def test_old_buffers_and_spellings_are_understood(tmp_path, framework):
    weights = {f"transformer.{name}": values for name, values in originals().items()}
    weights["transformer.h.0.ln_1.gamma"] = weights.pop("transformer.h.0.ln_1.weight")
    weights["transformer.h.0.ln_1.beta"] = weights.pop("transformer.h.0.ln_1.bias")
    weights["transformer.h.0.attn.bias"] = np.tril(np.ones((1, 1, 64, 64), np.uint8))
    weights["transformer.h.1.attn.masked_bias"] = np.array(-1e4, np.float32)
    weights["lm_head.weight"] = weights["transformer.wte.weight"]
    safetensors.numpy.save_file(weights, tmp_path / "model.safetensors")
    shutil.copy(LM / "config.json", tmp_path)
    with checkpoint.open(tmp_path) as source:
        assert sorted(source.skipped) == ["transformer.h.0.attn.bias", "transformer.h.1.attn.masked_bias"]
    loaded = framework.weights(framework.load("lm_head", tmp_path))
    np.testing.assert_array_equal(loaded["transformer.h.0.ln_1.bias"], originals()["h.0.ln_1.bias"])
    weights["lm_head.weight"] = weights["lm_head.weight"] + 1
    safetensors.numpy.save_file(weights, tmp_path / "model.safetensors")
    assert "tie_word_embeddings=False" in message_of(framework.load, "lm_head", tmp_path)
    untied = framework.weights(framework.load("lm_head", tmp_path, tie_word_embeddings=False))
    np.testing.assert_array_equal(untied["lm_head.weight"], weights["lm_head.weight"])


@pytest.mark.parametrize("format", ["safetensors", "tf-h5"])
@pytest.mark.parametrize("head", ["model", "lm_head"])
def test_from_one_tree_to_the_other_and_back_bit_for_bit(format, head, tmp_path):
    frameworks = [Torch(), Keras(), Torch()]
    model = frameworks[0].create(head, CONFIG, seed=3)
    first = frameworks[0].weights(model)
    for step, framework in enumerate(frameworks[1:]):
        model.save_pretrained(tmp_path / str(step), format=format)
        model = framework.load(head, tmp_path / str(step))
        assert model.config.n_embd == CONFIG.n_embd
        for name, values in framework.weights(model).items():
            np.testing.assert_array_equal(values, first[name], strict=True)


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16", "float16"])
def test_every_dtype_survives_saving_and_loading(framework, dtype, tmp_path):
    model = framework.create("lm_head", CONFIG, dtype=dtype)
    model.save_pretrained(tmp_path)
    with checkpoint.open(tmp_path) as source:
        assert {tensor.dtype for tensor in source.tensors.values()} == {dtype}
        assert source.config.extra["dtype"] == dtype
    for other in (Torch(), Keras()):
        again = other.load("lm_head", tmp_path, dtype="auto")
        assert checkpoint.dtype_name(again.dtype) == dtype
        widened = other.load("lm_head", tmp_path)
        assert checkpoint.dtype_name(widened.dtype) == ("float64" if dtype == "float64" else "float32")
        for name, values in framework.weights(model).items():
            np.testing.assert_array_equal(other.weights(again)[name], values)
            np.testing.assert_array_equal(other.weights(widened)[name], values)


def test_what_we_write_other_libraries_read(tmp_path):
    """safetensors, h5py, and tf_keras' own lists of names in an h5 file."""
    import h5py

    weights = save_random(tmp_path)
    read = safetensors.numpy.load_file(tmp_path / "model.safetensors")
    assert read.keys() == weights.keys() and all(np.array_equal(read[name], weights[name]) for name in weights)
    with checkpoint.open(LM) as source:
        tensors = checkpoint.match(source, "lm_head").tensors
        checkpoint.save(tmp_path / "h5", source.config, tensors, "lm_head", format="tf-h5")

    def listing(path):
        with h5py.File(path) as file:
            found = {}
            file.visititems(lambda name, item: found.update({name: getattr(item, "shape", None)}))
            text = lambda values: [v.decode() if isinstance(v, bytes) else v for v in values]  # noqa: E731
            return found, text(file.attrs["layer_names"]), text(file["transformer"].attrs["weight_names"])

    ours, theirs = listing(tmp_path / "h5" / "tf_model.h5"), listing(LM / "tf_model.h5")
    assert ours[0] == theirs[0] and ours[1] == theirs[1] and sorted(ours[2]) == sorted(theirs[2])
    with h5py.File(tmp_path / "h5" / "tf_model.h5") as ours, h5py.File(LM / "tf_model.h5") as theirs:
        for name in theirs["transformer"].attrs["weight_names"]:
            np.testing.assert_array_equal(ours["transformer"][name][()], theirs["transformer"][name][()])


def test_shards_and_what_saving_again_removes(tmp_path, framework):
    weights = save_random(tmp_path, max_shard_size="4KB")
    files = sorted(path.name for path in tmp_path.glob("*.safetensors"))
    assert len(files) > 3 and files[0] == f"model-00001-of-{len(files):05d}.safetensors"
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    assert set(index["weight_map"]) == set(weights)
    assert index["metadata"]["total_size"] == sum(values.nbytes for values in weights.values())
    loaded = framework.weights(framework.load("lm_head", tmp_path))
    assert all(np.array_equal(loaded[name], values) for name, values in weights.items())
    save_random(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "model.safetensors"]


def test_convert_is_bit_exact_and_does_not_overwrite(tmp_path):
    report = convert(LM / "sharded_h5", tmp_path / "new")
    assert (report.head, report.source_format, report.read) == ("lm_head", "tf-h5", 28)
    with checkpoint.open(tmp_path / "new") as source:
        assert all(np.array_equal(source[name], values) for name, values in originals().items())
    assert "--force" in message_of(convert, LM, tmp_path / "new")
    convert(LM, tmp_path / "new", force=True, dtype="bf16")
    with checkpoint.open(tmp_path / "new") as source:
        assert {tensor.dtype for tensor in source.tensors.values()} == {"bfloat16"}


def test_bits_are_rounded_as_torch_rounds_them():
    r = np.random.default_rng(0)
    values = r.integers(0, 2**32, 200_000, np.uint32).view(np.float32)
    values = np.concatenate([values, [0.0, -0.0, np.inf, -np.inf, 3.4e38, 1e-45, 65519.9, 65520.1]]).astype(np.float32)
    values = values[~np.isnan(values)]
    as_torch = torch.from_numpy(values)
    ours = convert_bits(values, "float32", "bfloat16")
    np.testing.assert_array_equal(ours, as_torch.to(torch.bfloat16).view(torch.uint16).numpy())
    np.testing.assert_array_equal(convert_bits(values, "float32", "float16"), as_torch.half().numpy())
    widened = convert_bits(ours, "bfloat16", "float32")
    np.testing.assert_array_equal(widened, torch.from_numpy(ours).view(torch.bfloat16).float().numpy())
    assert np.isnan(convert_bits(convert_bits(np.float32([np.nan]), "float32", "bfloat16"), "bfloat16", "float32"))
    assert STORAGE["bfloat16"].itemsize == 2


class TestBadInput:
    """Each error names the file and says what to do; both trees say the same."""

    def load_fails(self, folder, *words, **options):
        said = [message_of(f.load, "lm_head", folder, **options) for f in (Torch(), Keras())]
        assert said[0] == said[1] and all(word in said[0] for word in words), said[0]

    def test_nothing_there(self, tmp_path):
        self.load_fails(tmp_path / "nowhere", "no file or folder", "nowhere")
        self.load_fails(tmp_path, "holds no checkpoint", "model.safetensors", "tf_model.h5", "found nothing")
        (tmp_path / "notes.txt").write_text("hello")
        self.load_fails(tmp_path, "found notes.txt")
        self.load_fails(tmp_path / "notes.txt", "is no checkpoint that this reads")

    def test_no_config(self, tmp_path):
        shutil.copy(LM / "model.safetensors", tmp_path)
        self.load_fails(tmp_path, "no config.json")

    @pytest.mark.parametrize(
        "change, words",
        [
            ({"n_embd": 48}, ["wte.weight has shape (97, 24)", "(97, 48)", "n_embd=48"]),
            ({"n_layer": 3}, ["n_layer=3", "it lacks transformer.h.2.ln_1.weight", "8 more"]),
            ({"n_layer": 1}, ["n_layer=1", "beyond the config, h.1."]),
            ({"vocab_size": 98}, ["vocab_size=98"]),
            ({"n_inner": 7}, ["h.0.mlp.c_fc.weight", "n_inner=7"]),
        ],
    )
    def test_a_config_that_contradicts_the_tensors(self, change, words):
        self.load_fails(LM, *words, **change)

    @pytest.mark.parametrize("file", ["model.safetensors", "tf_model.h5"])
    @pytest.mark.parametrize("keep", [0, 5, 100, 3000, -1])
    def test_a_truncated_file(self, file, keep, tmp_path):
        shutil.copy(LM / "config.json", tmp_path)
        (tmp_path / file).write_bytes((LM / file).read_bytes()[:keep])
        self.load_fails(tmp_path, file)

    def test_a_shard_that_is_missing_or_elsewhere(self, tmp_path):
        shutil.copytree(LM / "sharded_safetensors", tmp_path / "a")
        (tmp_path / "a" / "model-00002-of-00002.safetensors").unlink()
        self.load_fails(tmp_path / "a", "lacks model-00002-of-00002.safetensors")
        index = tmp_path / "a" / "model.safetensors.index.json"
        index.write_text(index.read_text().replace('"model-00002', '"../model-00002'))
        self.load_fails(tmp_path / "a", "same folder")
        index.write_text("{}")
        self.load_fails(tmp_path / "a", "is no shard index")

    def test_a_save_that_another_file_would_hide(self, framework, tmp_path):
        model = framework.create("lm_head", CONFIG)
        model.save_pretrained(tmp_path)
        words = message_of(model.save_pretrained, tmp_path, format="tf-h5")
        assert "holds model.safetensors, which would be read in place of the new tf_model.h5" in words
        (tmp_path / "model.safetensors").unlink()
        model.save_pretrained(tmp_path, format="tf-h5")
        model.save_pretrained(tmp_path)  # this one is read first

    def test_a_dtype_that_is_none(self):
        self.load_fails(LM, "dtype='float8'", dtype="float8")
        self.load_fails(LM, "dtype='int32'", dtype="int32")

    def test_formats_that_cannot_hold_the_model(self, framework, tmp_path):
        import dataclasses

        untied = framework.create("lm_head", dataclasses.replace(CONFIG, tie_word_embeddings=False))
        assert "no place for lm_head.weight" in message_of(untied.save_pretrained, tmp_path, format="tf-h5")
        half = framework.create("lm_head", CONFIG, dtype="bfloat16")
        assert "no bfloat16" in message_of(half.save_pretrained, tmp_path, format="tf-h5")
        assert "one of safetensors, torch, tf-h5, keras" in message_of(half.save_pretrained, tmp_path, format="pickle")
        assert "max_shard_size='lots'" in message_of(half.save_pretrained, tmp_path, max_shard_size="lots")
        assert not list(tmp_path.iterdir()), "a save that failed left something behind"

    @pytest.mark.parametrize(
        "header, words",
        [
            ({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}}, "does not fill"),
            ({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}, "truncated"),
            ({"a": {"dtype": "F4", "shape": [1], "data_offsets": [0, 4]}}, "dtype 'F4'"),
            ({"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}}, "shape (-1,)"),
            (
                {
                    "a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]},
                    "b": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]},
                },
                "begins at byte 0",
            ),
            ({"a": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}}, "follow the last tensor"),
            ({"a": 3}, "header entry"),
            ([], "not a JSON object"),
        ],
    )
    def test_damaged_safetensors_headers(self, header, words, tmp_path):
        text = json.dumps(header).encode()
        (tmp_path / "x.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + b"\0" * 4)
        assert words in message_of(checkpoint.open, tmp_path / "x.safetensors")


def test_a_head_that_is_left_out_is_named(framework):
    folder = DATA / "transformers" / "sequence_classification"
    with pytest.warns(UserWarning, match=r"holds score\.weight, for which this model has no head: left out"):
        framework.load("lm_head", folder / "tf_model.h5")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        framework.load("model", LM)


@pytest.mark.parametrize("rename", [lambda name: f"_orig_mod.{name}", lambda name: f"module.{name}"])
def test_names_under_wrappers(tmp_path, rename):
    weights = {rename(f"transformer.{name}"): values for name, values in originals().items()}
    safetensors.numpy.save_file(weights, tmp_path / "model.safetensors")
    with checkpoint.open(tmp_path / "model.safetensors") as source:
        assert set(source) == set(originals())


def test_a_tied_file_that_kept_the_head_s_name_alone(tmp_path, framework):
    weights = originals()
    weights["lm_head.weight"] = weights.pop("wte.weight")
    safetensors.numpy.save_file(weights, tmp_path / "model.safetensors")
    shutil.copy(LM / "config.json", tmp_path)
    loaded = framework.weights(framework.load("lm_head", tmp_path))
    np.testing.assert_array_equal(loaded["transformer.wte.weight"], weights["lm_head.weight"])


def test_dtypes_by_any_name():
    import tensorflow as tf

    for given in ("fp32", "float32", np.float32, np.dtype("<f4"), torch.float32, tf.float32):
        assert checkpoint.dtype_name(given) == "float32"


def test_force_replaces_whatever_was_there(tmp_path):
    save_random(tmp_path, max_shard_size="4KB")
    convert(LM, tmp_path, "tf-h5", force=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "tf_model.h5"]


def test_convert_takes_the_tokenizer_along(tmp_path, shakespeare):
    from gpt2_core import GPT2Tokenizer

    convert(shakespeare, tmp_path / "a", "tf-h5")
    assert len(GPT2Tokenizer.from_pretrained(tmp_path / "a" / "tf_model.h5")) == 2048
    convert(tmp_path / "a", tmp_path / "a", force=True)
    assert len(GPT2Tokenizer.from_pretrained(tmp_path / "a")) == 2048


def test_shards_whose_word_table_is_called_lm_head(tmp_path):
    """As safetensors' save_model names it; the index is compared with what the shards hold, before it is renamed."""
    with checkpoint.open(LM) as source:
        tensors = {**source.tensors, "lm_head.weight": source.tensors["wte.weight"]}
        del tensors["wte.weight"]
        expected = {name: source[name].tobytes() for name in source}
        source.config.save_pretrained(tmp_path)
        first = {name: tensors[name] for name in list(tensors)[:9]}
        shards = {"a.safetensors": first, "b.safetensors": {n: x for n, x in tensors.items() if n not in first}}
        for name, shard in shards.items():
            write_safetensors(tmp_path / name, shard, {})
    (tmp_path / "model.safetensors.index.json").write_text(index_text(shards))
    with checkpoint.open(tmp_path) as source:
        assert expected.items() <= {name: source[name].tobytes() for name in source}.items()


def test_convert_takes_floating_types_alone(tmp_path):
    assert "dtype='int64'" in message_of(convert, LM, tmp_path / "new", dtype="int64")
    assert not (tmp_path / "new").exists()


def test_a_new_head_is_announced(tmp_path):
    with checkpoint.open(LM) as source, pytest.warns(UserWarning, match=r"has no score\.weight: this head is new"):
        found = checkpoint.match(source, "sequence_classification")
        weights = found.weights(source.config, "sequence_classification", 0)
    assert found.new == ["score.weight"] and weights["score.weight"]().shape == (2, 24)


def test_sizes():
    assert [size_in_bytes(s) for s in (7, "7", "5GB", "1.5 KiB", "2mb")] == [7, 7, 5 * 10**9, 1536, 2 * 10**6]
    for bad in (0, -1, "5XB", "", "GB"):
        with pytest.raises(GPT2Error, match="max_shard_size"):
            size_in_bytes(bad)


class TestAllOrNothing:
    def test_an_error_while_writing_leaves_the_old_files(self, tmp_path):
        save_random(tmp_path)
        before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

        def broken():
            raise RuntimeError("no more values")

        specs = weight_specs(CONFIG, "lm_head")
        tensors = {name: Tensor("float32", spec.shape, broken) for name, spec in specs.items()}
        with pytest.raises(RuntimeError, match="no more values"):
            checkpoint.save(tmp_path, CONFIG, tensors, "lm_head")
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before

    def test_a_disk_error_is_told_as_one(self, tmp_path):
        with pytest.raises(GPT2Error, match=r"No space left.*unchanged"), Replacement(tmp_path) as new:
            new.path("a").write_text("half")
            raise OSError(28, "No space left on device")
        assert not list(tmp_path.iterdir())
        (tmp_path / "file").write_text("")
        with pytest.raises(GPT2Error, match="cannot save into"), Replacement(tmp_path / "file" / "folder"):
            pass

    def test_the_disk_writes_while_the_file_is_made(self, tmp_path, monkeypatch):
        flushed, flush = threading.Event(), atomic._flush
        monkeypatch.setattr(atomic, "_flush", lambda path: [flush(path), flushed.set()])
        with Replacement(tmp_path) as new:
            new.path("a").write_text("half")
            assert flushed.wait(60)
        assert (tmp_path / "a").read_text() == "half"

    def test_a_failure_that_the_system_tells_early_is_kept(self, tmp_path, monkeypatch):
        told, flush = threading.Event(), atomic._flush

        def failing_once(path):
            if not told.is_set():
                told.set()
                raise OSError(errno.EIO, "Input/output error")
            flush(path)

        monkeypatch.setattr(atomic, "_flush", failing_once)
        with pytest.raises(GPT2Error, match=r"Input/output error\. What was there is unchanged"):
            with Replacement(tmp_path) as new:
                new.path("a").write_text("half")
                assert told.wait(60)
        assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize("max_shard_size", ["5GB", "20KB"])
    def test_killed_at_any_moment_the_old_or_the_new_one_is_whole(self, tmp_path, max_shard_size):
        """A process saves two models in turn, without end, and is killed: what is there opens and is one of them.

        They differ in every weight and in their number of layers, so in config, shards and index too.
        """
        save_constant(tmp_path, 0, max_shard_size)
        r = np.random.default_rng(0)
        seen = []
        unfinished = 0
        for kill in range(100):
            if kill >= 25 and set(seen) == {0.0, 1.0}:
                break
            command = [sys.executable, "-m", "tests.saving", str(tmp_path), max_shard_size]
            process = subprocess.Popen(command, stdout=subprocess.PIPE)
            assert process.stdout.readline() == b"ready\n"
            time.sleep(r.uniform(0.0, 0.1 * (1 + kill // 25)))  # longer where the machine is slow
            process.kill()
            process.wait()
            process.stdout.close()
            unfinished += (tmp_path / JOURNAL).exists()
            with checkpoint.open(tmp_path) as source:
                tensors = checkpoint.match(source, "lm_head").tensors
                found = {float(value) for tensor in tensors.values() for value in np.unique(tensor.array())}
                assert len(found) == 1, f"half of each: {found}"
                assert source.config.n_layer == found.copy().pop() + 1
            seen += found
        assert set(seen) == {0.0, 1.0}
        print(f"{unfinished} of {kill} kills fell between the decision and its end")

    def test_a_decided_save_is_finished_by_the_next_reader(self, tmp_path, monkeypatch):
        save_constant(tmp_path, 0, "20KB")
        renames = []

        def failing(source, target, replace=os.replace):
            renames.append(target)
            if len(renames) > 5:  # the journal's own rename and four of the files'
                raise KeyboardInterrupt
            replace(source, target)

        monkeypatch.setattr("gpt2_core.atomic.os.replace", failing)
        with pytest.raises(KeyboardInterrupt):
            save_constant(tmp_path, 1, "30KB")
        monkeypatch.undo()
        assert (tmp_path / JOURNAL).exists()
        with checkpoint.open(tmp_path) as source:
            assert {float(value) for values in source.values() for value in np.unique(values)} == {1.0}
        left = [path.name for path in tmp_path.iterdir()]
        assert not [name for name in left if name.startswith(".")]
        assert len(set(left)) == len(source.files) + 2, "shards of the old one are still there"

    def test_what_killed_saves_left_is_cleared_an_hour_later(self, tmp_path):
        old, new, other = (tmp_path / name for name in (".a.00000000.tmp", ".b.00000000.tmp", "c.tmp"))
        for path in (old, new, other):
            path.write_text("")
        for path in (old, other):
            os.utime(path, (0, 0))
        save_random(tmp_path)
        assert not old.exists() and new.exists() and other.exists()

    @pytest.mark.parametrize(
        "entry",
        [
            {"rename": {"../x": ".x.00000000.tmp"}, "remove": []},
            {"rename": {"config.json": "notes.txt"}, "remove": []},
            {"rename": {}, "remove": ["a/b"]},
            {"rename": {}, "remove": [".."]},
            {"rename": {}, "remove": ["notes.txt"]},
            {"rename": []},
            [],
        ],
        ids=str,
    )
    def test_a_journal_that_no_save_wrote_is_refused(self, tmp_path, entry):
        (tmp_path / JOURNAL).write_text(json.dumps(entry))
        assert "delete it" in message_of(checkpoint.open, tmp_path)
        (tmp_path / JOURNAL).write_text("{")
        assert "damaged" in message_of(checkpoint.open, tmp_path)


@pytest.mark.parametrize("has_preadv", [True, False])
def test_large_tensors_are_read_by_two(has_preadv, tmp_path, monkeypatch):
    """Into memory that TensorFlow can use as it is, also where the system cannot read at a place."""
    if not has_preadv:
        monkeypatch.delattr(os, "preadv", raising=False)
    monkeypatch.setattr(tensor, "_SPLIT", 1000)
    weights, threads, fill = save_random(tmp_path), set(), TensorFile._fill
    monkeypatch.setattr(
        TensorFile, "_fill", lambda *given: threads.add(threading.current_thread().name) or fill(*given)
    )
    with checkpoint.open(tmp_path) as source:
        for name, expected in weights.items():
            values = source.tensors[name.removeprefix("transformer.")].read()
            np.testing.assert_array_equal(values, expected)
            assert values.ctypes.data % 64 == 0 and values.flags.writeable
        assert len(threads) > 1
        os.truncate(tmp_path / "model.safetensors", 1000)
        assert "was cut short while it was read" in message_of(source.tensors["wte.weight"].read)


def test_tensorflow_uses_what_is_aligned():
    memory = np.zeros(256, np.uint8)
    start = -memory.ctypes.data % 64
    for place, shared in ((start, True), (start + 4, False)):
        values = memory[place : place + 8].view(np.float32)
        used = tf.convert_to_tensor(tensor_of(values))
        values[:] = 7
        assert (used.numpy() == 7).all() == shared
