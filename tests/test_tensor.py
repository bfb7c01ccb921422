"""Tensors that are read in pieces: the same bits as read whole, and little memory for any of them."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from gpt2_core import GPT2Config, checkpoint
from gpt2_core.checkpoint import FORMATS, Tensor
from gpt2_core.checkpoint.tensor import FLOATS, PIECE, STORAGE, TensorFile
from gpt2_core.weights import weight_specs

ROOT = Path(__file__).parent.parent
SIZES = [0, 1, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE + 5]


def in_file(folder, values, dtype="float32"):
    """Returns a Tensor whose numbers lie at byte 12 of a file."""
    (folder / "x").write_bytes(b"0123456789ab" + values.tobytes())
    return TensorFile(folder / "x").tensor(dtype, values.shape, 12)


@pytest.mark.parametrize("size", SIZES)
def test_pieces_are_the_whole(tmp_path, size):
    values = np.random.default_rng(size).standard_normal(size, np.float32)
    for tensor in (in_file(tmp_path, values), Tensor.of(values)):
        pieces = list(tensor.pieces())
        assert b"".join(piece.tobytes() for piece in pieces) == values.tobytes() == tensor.bits().tobytes()
        assert all(piece.size <= PIECE for piece in pieces)
        assert tensor.same_bits(Tensor.of(values)) and Tensor.of(values).same_bits(tensor)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("source", FLOATS)
def test_pieces_convert_as_the_whole_does(tmp_path, source, dtype):
    values = np.random.default_rng(0).standard_normal(PIECE + 70, np.float32)
    stored = Tensor.of(values).bits(source)
    (lazy, whole) = in_file(tmp_path, stored, source), Tensor(source, stored.shape, lambda: stored)
    expected = whole.converted(dtype).read()
    assert expected.dtype == STORAGE[dtype]
    assert lazy.bits(dtype).tobytes() == expected.tobytes() == lazy.converted(dtype).bits().tobytes()
    assert lazy.converted(dtype).same_bits(whole.converted(dtype))


def test_same_bits_is_of_bits():
    nan = np.array([np.nan, 0.0], np.float32)
    assert Tensor.of(nan).same_bits(Tensor.of(nan.copy()))
    assert not Tensor.of(nan).same_bits(Tensor.of(np.array([np.nan, -0.0], np.float32)))
    assert not Tensor.of(nan).same_bits(Tensor.of(nan.reshape(1, 2)))
    assert not Tensor.of(nan).same_bits(Tensor("int32", (2,), lambda: nan.view(np.int32)))
    last = np.zeros(2 * PIECE, np.float32)
    last[-1] = 1
    assert not Tensor.of(last).same_bits(Tensor.of(np.zeros_like(last)))


def test_a_tensor_that_breaks_its_word():
    with pytest.raises(ValueError, match="announced with shape"):
        list(Tensor("float32", (3,), lambda: np.zeros(2, np.float32)).pieces())


def test_asking_for_a_name_reads_nothing():
    with checkpoint.open(ROOT / "tests" / "data" / "transformers" / "lm_head") as source:
        source.close()
        assert "wte.weight" in source and "lm_head.weight" not in source and 3 not in source


_MEASURE = """
import sys
from pathlib import Path
from gpt2_core import GPT2Config, checkpoint, convert
from gpt2_core.checkpoint import Tensor
import numpy as np
folder, first, to, dtype = sys.argv[1:]
from gpt2_core.weights import weight_specs
config = GPT2Config(vocab_size=50257, n_embd=768, n_layer=1)
specs = weight_specs(config, "lm_head")
zeros = lambda start, stop: np.zeros(stop - start, np.float32)
tensors = {name: Tensor("float32", spec.shape, None, zeros) for name, spec in specs.items()}
checkpoint.save(folder + "/a", config, tensors, "lm_head", format=first)
convert(folder + "/a", folder + "/b", to, dtype=dtype or None)
print(int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) // 1024)  # MB at the most
"""


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux'")
@pytest.mark.parametrize(
    "first, to, dtype",
    [(first, to, "") for first in FORMATS for to in FORMATS]
    + [("safetensors", "torch", "bfloat16"), ("tf-h5", "keras", "float64"), ("torch", "safetensors", "float16")],
)
def test_converting_holds_no_whole_table(tmp_path, first, to, dtype):
    """The word table takes 154 MB; saving, converting and checking it, 50 beyond the imports."""
    command = [sys.executable, "-c", _MEASURE, str(tmp_path), first, to, dtype]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert 10 < int(done.stdout) < 100  # Python with numpy alone takes 35


_LOAD = """
import sys
from pathlib import Path
from gpt2_core import GPT2Config
framework, folder = sys.argv[1:]
if framework == "torch":
    from gpt2_torch import GPT2LMHeadModel as Model
else:
    from gpt2_tf import TFGPT2LMHeadModel as Model
read = lambda name: int(Path("/proc/self/status").read_text().split(name + ":")[1].split()[0])
Model(GPT2Config(vocab_size=90, n_embd=32, n_layer=1, n_head=4))  # what a framework makes for its first model
before = read("VmRSS")
model = Model.from_pretrained(folder)
print((read("VmHWM") - before) * 1024 / (4 * model.num_parameters()))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux'")
@pytest.mark.parametrize("first", ["safetensors", "tf-h5"])
@pytest.mark.parametrize("tree", ["torch", "tf"])
def test_loading_holds_the_weights_once(tmp_path, tree, first):
    config = GPT2Config(n_embd=768, n_layer=1)  # 186 MB, of which the word table is 154
    zeros = {
        name: Tensor("float32", spec.shape, None, lambda start, stop: np.zeros(stop - start, np.float32))
        for name, spec in weight_specs(config, "lm_head").items()
    }
    checkpoint.save(tmp_path / "model", config, zeros, "lm_head", format=first)
    command = [sys.executable, "-c", _LOAD, tree, str(tmp_path / "model")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert 0.9 < float(done.stdout.split()[-1]) < 1.1


def test_a_checksum_is_looked_at_unless_left_for_later(tmp_path):
    looked = []
    tensor = dataclasses.replace(in_file(tmp_path, np.ones((2, 3), np.float32)), check=lambda: looked.append(1))
    derived = [
        tensor,
        tensor.reshaped((3, 2)),
        tensor.transposed(),
        tensor.converted("float64"),
        tensor.converted("float32"),
    ]
    for x in derived:
        for read in (x.bits, x.array, lambda x=x: list(x.pieces()), lambda x=x: x.bits("float16")):
            looked.clear()
            read()
            assert looked, x
            looked.clear()
        assert x.unchecked().bits().tobytes() == x.unchecked().array().tobytes() and not looked


def test_one_place_is_not_compared(tmp_path):
    tensor = in_file(tmp_path, np.full(3, np.nan, np.float32))
    unread = dataclasses.replace(tensor, read=None, stretch=None)
    assert unread.same_bits(dataclasses.replace(unread)) and not unread.same_bits(unread.reshaped((3, 1)))
