"""OpenAI's checkpoints, TensorFlow's V2 format: read with numpy alone, equal to what TensorFlow reads and writes."""

import shutil

import numpy as np
import pytest
import tensorflow as tf

from gpt2_core import GPT2Error, checkpoint
from gpt2_core.checkpoint.crc32c import crc32c
from gpt2_core.checkpoint.protobuf import varint
from gpt2_core.checkpoint.tensor import TensorFile
from gpt2_core.checkpoint.tf1_bundle import _masked, bundle_tensor, data_files, read_index
from tests.frameworks import DATA, Keras, Torch

OPENAI = DATA / "openai_tf1"
INDEX, VALUES = "model.ckpt.index", "model.ckpt.data-00000-of-00001"


def of_tensorflow(prefix):
    """Returns name -> array as TensorFlow reads a checkpoint."""
    reader = tf.train.load_checkpoint(str(prefix))
    return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}


def write(prefix, variables):
    """Has TensorFlow write variables, name -> array."""
    names, values = list(variables), [tf.constant(x) for x in variables.values()]
    tf.raw_ops.SaveV2(prefix=str(prefix), tensor_names=names, shape_and_slices=[""] * len(names), tensors=values)


def published(name):
    """Returns the published name of one of OpenAI's variables."""
    parts = [f"h.{part[1:]}" if part[0] == "h" else part for part in name.removeprefix("model/").split("/")]
    parts[-1] = {"g": "weight", "w": "weight", "b": "bias"}.get(parts[-1], f"{parts[-1]}.weight")
    return ".".join(parts)


@pytest.mark.parametrize("path", ["", "model.ckpt", INDEX])
def test_every_variable_is_tensorflow_s(path):
    expected = {published(name): x for name, x in of_tensorflow(OPENAI / "model.ckpt").items()}
    with checkpoint.open(OPENAI / path) as source:
        assert source.format == "openai-tf1" and not source.skipped and set(source) == set(expected)
        for name, x in expected.items():
            np.testing.assert_array_equal(source[name], x[0] if x.ndim == 3 else x)
        assert [file.name for file in source.files] == [INDEX, VALUES]


def test_both_trees_load_it(tmp_path):
    models = [framework.load("lm_head", OPENAI) for framework in (Torch(), Keras())]
    weights = [framework.weights(model) for framework, model in zip((Torch(), Keras()), models, strict=True)]
    assert list(weights[0]) == list(weights[1])
    assert all((weights[0][name] == weights[1][name]).all() for name in weights[0])


def test_other_variables_are_skipped(tmp_path):
    """A counter, an optimizer's slots, another model's scope, text: what trainings leave in a checkpoint."""
    variables = of_tensorflow(OPENAI / "model.ckpt")
    others = {
        "global_step": np.int64(7),
        "model/wte/Adam": np.ones((3, 2), np.float32),
        "model/h0/attn/c_attn/w/Adam_1": np.ones(4, np.float32),
        "beta1_power": np.float32(0.9),
        "critic/model/wte": np.ones((2, 2), np.float32),
        "note": np.array([b"some text"]),
    }
    write(tmp_path / "model.ckpt", variables | others)
    shutil.copy(OPENAI / "hparams.json", tmp_path)
    with checkpoint.open(tmp_path) as source, checkpoint.open(OPENAI) as expected:
        assert set(source.skipped) == set(others) and set(source) == set(expected)
        assert all((source[name] == expected[name]).all() for name in expected)
    Torch().load("lm_head", tmp_path)


def test_the_newest_of_several(tmp_path):
    variables = of_tensorflow(OPENAI / "model.ckpt")
    for step in (10, 20, 30):
        write(tmp_path / f"model-{step}", {name: x * step for name, x in variables.items()})
    with pytest.raises(GPT2Error, match=r"holds several checkpoints, model-10\.index, model-20.index, model-30.index"):
        checkpoint.open(tmp_path)
    (tmp_path / "checkpoint").write_text(
        'model_checkpoint_path: "/tmp/run1/model-20"\nall_model_checkpoint_paths: "x"\n'
    )
    with checkpoint.open(tmp_path) as source:
        np.testing.assert_array_equal(source["wpe.weight"], variables["model/wpe"] * 20)


def test_several_data_files(tmp_path):
    variables = list(of_tensorflow(OPENAI / "model.ckpt").items())
    for i, part in enumerate((variables[:20], variables[20:])):
        write(tmp_path / f"part{i}", dict(part))
    prefixes = [str(tmp_path / f"part{i}") for i in range(2)]
    tf.raw_ops.MergeV2Checkpoints(checkpoint_prefixes=prefixes, destination_prefix=str(tmp_path / "model.ckpt"))
    with checkpoint.open(tmp_path / "model.ckpt") as source:
        assert len(source.files) == 3
        assert all((source[published(name)] == (x[0] if x.ndim == 3 else x)).all() for name, x in variables)
    next(tmp_path.glob("*-of-00002")).unlink()
    with pytest.raises(GPT2Error, match=r"lacks model\.ckpt\.data-0000[01]-of-00002, which model.ckpt.index needs"):
        checkpoint.open(tmp_path / "model.ckpt")


@pytest.mark.parametrize(
    "dtype",
    [
        "float64",
        "float16",
        "bfloat16",
        "int64",
        "int32",
        "int16",
        "int8",
        "uint8",
        "uint16",
        "uint32",
        "uint64",
        "bool",
    ],
)
def test_every_type(tmp_path, dtype):
    value = tf.cast(tf.constant([0, 1, 100, 3]), dtype)
    tf.raw_ops.SaveV2(prefix=str(tmp_path / "x"), tensor_names=["a"], shape_and_slices=[""], tensors=[value])
    count, entries = read_index(TensorFile(tmp_path / "x.index"))
    tensor = bundle_tensor(TensorFile(data_files(tmp_path / "x.index", count)[0]), "a", entries["a"])
    assert (tensor.dtype, tensor.shape) == (dtype, (4,))
    assert tensor.bits().tobytes() == value.numpy().tobytes()


def test_another_kind_of_checkpoint(tmp_path):
    tf.train.Checkpoint(x=tf.Variable(1.0)).write(str(tmp_path / "model.ckpt"))
    with pytest.raises(GPT2Error, match=r"holds none of GPT-2's variables \(model/wte and so on\), but "):
        checkpoint.open(tmp_path)


@pytest.mark.parametrize("file", [INDEX, VALUES])
@pytest.mark.parametrize("seed", range(100))
def test_damage_is_an_error(tmp_path, file, seed):
    """Flipped bits, bytes cut off, bytes overwritten: both files have checksums over all that is read of them."""
    shutil.copytree(OPENAI, tmp_path, dirs_exist_ok=True)
    r = np.random.default_rng(seed)
    data = bytearray((OPENAI / file).read_bytes())
    place = int(r.integers(len(data)))
    match seed % 3:
        case 0:
            data[place] ^= 1 << int(r.integers(8))
        case 1:
            del data[place:]
        case 2:
            data[place : place + 8] = r.bytes(8)
    (tmp_path / file).write_bytes(data)
    with checkpoint.open(OPENAI) as whole:
        try:
            with checkpoint.open(tmp_path) as source:
                same = {name: (source[name] == whole[name]).all() for name in whole}
        except GPT2Error as error:
            assert str(tmp_path) in str(error)
        else:  # a byte of the footer that nothing depends on
            assert all(same.values()) and file == INDEX and seed % 3 != 1


@pytest.mark.parametrize("seed", range(300))
def test_a_hostile_index_is_an_error(tmp_path, seed):
    """As above, in the block of all names, whose checksum is made to fit again."""
    shutil.copytree(OPENAI, tmp_path, dirs_exist_ok=True)
    r = np.random.default_rng(seed)
    data = bytearray((OPENAI / INDEX).read_bytes())
    for _ in range(int(r.integers(1, 4))):
        data[int(r.integers(0, 1000))] = int(r.choice([0, 1, 127, 128, 255, int(r.integers(256))]))
    size = names_block(data)
    trailer = _masked(crc32c([np.frombuffer(bytes(data[: size + 1]), np.uint8)]))
    data[size + 1 : size + 5] = trailer.to_bytes(4, "little")
    (tmp_path / INDEX).write_bytes(data)
    with checkpoint.open(OPENAI) as whole:
        known = {whole[name].tobytes() for name in whole}
    try:
        with checkpoint.open(tmp_path) as source:
            assert {source[name].tobytes() for name in source} <= known  # a name may differ, and numbers never
    except GPT2Error as error:
        assert str(tmp_path) in str(error)


def names_block(data):
    """Returns the size of the first block, which holds all names of a small checkpoint; another one follows it."""
    return varint(data, len(data) - 48)[0] - 5


@pytest.mark.parametrize("size", [0, 1, 3, 4, 255, 256, 257, 1000, 5000, 70_001])
def test_the_checksum_is_that_of_one_bit_after_another(size):
    data = np.random.default_rng(size).integers(0, 256, size, dtype=np.uint8)
    register = 0xFFFFFFFF
    for byte in data.tolist():
        register ^= byte
        for _ in range(8):
            register = register >> 1 ^ (0x82F63B78 if register & 1 else 0)
    for parts in (1, 2, 7):
        assert crc32c(np.array_split(data, parts)) == register ^ 0xFFFFFFFF


def test_the_checksums_of_the_standard():
    """RFC 3720, appendix B.4."""
    assert crc32c([np.frombuffer(b"123456789", np.uint8)]) == 0xE3069283
    assert crc32c([np.zeros(32, np.uint8)]) == 0x8A9136AA
    assert crc32c([np.full(32, 255, np.uint8)]) == 0x62A8AB43
    assert crc32c([np.arange(32, dtype=np.uint8)]) == 0x46DD794E
