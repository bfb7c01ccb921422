"""HDF5 files against h5py, the other implementation: each reads what the other writes."""

import io
import struct
import weakref

import h5py
import numpy as np
import pytest

from gpt2_core.checkpoint.hdf5 import source as hdf5_source
from gpt2_core.checkpoint.hdf5 import write_hdf5
from gpt2_core.errors import GPT2Error
from tests.hdf5_files import (
    ATTRIBUTES,
    DATA,
    FIXTURES,
    LIBRARIES,
    assert_reads_like_h5py,
    keras_like,
    made_by_h5py,
    made_by_us,
    many,
    read,
    some_arrays,
    values,
)


def huge(file):
    """Fills an h5py file with so long a list of names that its heap needs blocks of blocks of blocks."""
    for i in range(2800):
        file.create_dataset(f"{i * 379 % 2800:04}{'x' * 200}", (0,), "f4")


@pytest.mark.parametrize("track_order", [False, True])
@pytest.mark.parametrize("libver", LIBRARIES)
@pytest.mark.parametrize("build", [keras_like, many])
def test_reads_what_h5py_writes(build, libver, track_order):
    assert_reads_like_h5py(made_by_h5py(build, libver=libver, track_order=track_order))


@pytest.mark.parametrize("libver", ["earliest", "latest"])
def test_reads_huge_groups(libver):
    data = made_by_h5py(huge, libver=libver)
    assert list(read(data).datasets) == [f"{i:04}{'x' * 200}" for i in range(2800)]
    assert libver == "earliest" or data.count(b"FHIB") > 1


@pytest.mark.parametrize("path", FIXTURES, ids=lambda path: str(path.relative_to(DATA)))
def test_reads_files_of_keras(path):
    file = assert_reads_like_h5py(path.read_bytes())
    assert any(name.endswith("c_attn/weight:0") for name in file.datasets) or "00002" in path.name


def test_fixtures_are_there():
    assert len(FIXTURES) >= 6


@pytest.mark.parametrize("libver", LIBRARIES)
def test_reads_compact_datasets(libver):
    def build(file):
        plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plist.set_layout(h5py.h5d.COMPACT)
        space = h5py.h5s.create_simple((5,))
        dataset = h5py.h5d.create(file.id, b"compact", h5py.h5t.IEEE_F32LE, space, dcpl=plist)
        dataset.write(h5py.h5s.ALL, h5py.h5s.ALL, np.arange(5, dtype="f4"))

    assert_reads_like_h5py(made_by_h5py(build, libver=libver))


@pytest.mark.parametrize("version", [1, 2])
def test_reads_layout_messages_of_before_hdf5_1_6_3(version):
    data = made_by_h5py(lambda file: file.create_dataset("x", data=np.arange(3.0)))
    offset = read(data).datasets["x"].offset
    newer = struct.pack("<BBQQ", 3, 1, offset, 24)
    older = struct.pack("<BBB5xQI", version, 1, 1, offset, 3)
    assert data.count(newer) == 1
    data = data.replace(newer.ljust(len(older), b"\0"), older)
    assert_reads_like_h5py(data)


def test_reads_empty_values():
    def build(file):
        file["null"] = file.attrs["null"] = h5py.Empty("f4")
        file.attrs["text"] = h5py.Empty("S3")

    file = read(made_by_h5py(build))
    assert file.datasets["null"].shape == file.groups[""]["null"].shape == (0,)
    assert file.groups[""]["text"] == ""


def test_reads_bfloat16_of_keras_3_as_opaque_bytes():
    file = read(made_by_h5py(lambda file: file.create_dataset("x", data=np.zeros(3, "V2"))))
    assert file.datasets["x"].dtype == np.dtype("V2")


def test_reads_files_with_more_behind_their_end():
    data = made_by_h5py(keras_like)
    assert read(data + b"more").datasets == read(data).datasets


def test_checksum_is_lookup3():
    # the two published results of hashlittle with initial value 0
    assert hdf5_source.checksum(b"") == 0xDEADBEEF
    assert hdf5_source.checksum(b"Four score and seven years ago") == 0x17770551


# --- the writer


@pytest.mark.parametrize("count", [0, 1, 8, 9, 256, 1000])
def test_h5py_reads_what_we_write(count):
    arrays = some_arrays(count)
    data = made_by_us({"": ATTRIBUTES, "group/inner": {"weight_names": ["x"]}}, arrays)
    file = assert_reads_like_h5py(data)
    assert file.groups.keys() >= {"", "group", "group/inner"} and file.datasets.keys() == arrays.keys()
    assert list(file.groups[""]) == list(ATTRIBUTES)
    for path, array in arrays.items():
        assert file.datasets[path].offset % 8 == 0
        np.testing.assert_array_equal(values(data, file.datasets[path]), array)


def test_h5py_changes_what_we_wrote():
    buffer = io.BytesIO(made_by_us({"": ATTRIBUTES}, some_arrays(1000)))
    with h5py.File(buffer, "r+") as file:
        file["new/x"], file.attrs["new"] = np.ones(3), "text"
        for name in list(file["big"])[::2]:
            del file["big"][name]
        for i in range(50):
            file[f"big/new{i}"] = i
    assert_reads_like_h5py(buffer.getvalue())


def test_same_input_gives_same_bytes():
    assert made_by_us({"": ATTRIBUTES}, some_arrays(20)) == made_by_us({"": ATTRIBUTES}, some_arrays(20))


def test_one_array_is_alive_at_a_time():
    alive = []

    def make(i):
        assert all(array() is None for array in alive)
        array = np.full((100, 3), i, "f4").T  # and one that is not contiguous
        alive.append(weakref.ref(array))
        yield array

    buffer = io.BytesIO()
    declared = {f"w{i}": ((3, 100), np.dtype("f4"), lambda i=i: make(i)) for i in (2, 0, 1)}
    write_hdf5(buffer, {}, declared)
    for name, dataset in read(buffer.getvalue()).datasets.items():
        assert np.all(values(buffer.getvalue(), dataset) == int(name[1]))


def test_notes_are_str_for_h5py_and_for_us():
    buffer, note = io.BytesIO(), {"dtype": "bfloat16", "é": "ü" * 100}
    bits = np.arange(12, dtype="u2")
    declared = {name: ((3, 4), np.dtype("V2"), lambda: [bits.view("V2")]) for name in ("a", "g/b")}
    declared["c"] = ((), np.dtype("f4"), lambda: [np.ones(1, "f4")])
    write_hdf5(buffer, {}, declared, {"a": note, "g/b": note})
    with h5py.File(buffer) as file:
        assert dict(file["a"].attrs) == note == dict(file["g/b"].attrs) and not file["c"].attrs
        assert file["g/b"][()].view("u2").ravel().tolist() == bits.tolist()
    assert read(buffer.getvalue()).datasets["g/b"].attributes == note


@pytest.mark.parametrize("sizes, dtype", [([6, 1], "f4"), ([2, 3], "f4"), ([], "f4"), ([6], "f8"), ([6], ">f4")])
def test_writer_refuses_values_that_are_not_as_declared(sizes, dtype):
    with pytest.raises(GPT2Error, match="'a/w' was declared as"):
        pieces = [np.zeros(size, dtype) for size in sizes]
        write_hdf5(io.BytesIO(), {}, {"a/w": ((2, 3), np.dtype("<f4"), lambda: pieces)})


@pytest.mark.parametrize(
    "groups, arrays, message",
    [
        ({"": {"names": ["x" * 100] * 700}}, {}, "split it into names0"),
        ({"": {"name": "a\0b"}}, {}, "NUL"),
        ({"": {"name": "\ud800"}}, {}, "not Unicode"),
        ({"": {"name": {"a": 1}}}, {}, "has type object"),
        ({"/a": {}}, {}, "no part may be empty"),
        ({}, {"a//b": np.zeros(1)}, "no part may be empty"),
        ({}, {"": np.zeros(1)}, "dataset and a group"),
        ({"a/b": {}}, {"a": np.zeros(1)}, "dataset and a group"),
        ({}, {"x" * 2000: np.zeros(1)}, "1024 bytes"),
        ({}, {"a": np.zeros(1, "c8")}, "has type complex64"),
    ],
)
def test_writer_refuses(groups, arrays, message):
    with pytest.raises(GPT2Error, match=message):
        made_by_us(groups, arrays)
