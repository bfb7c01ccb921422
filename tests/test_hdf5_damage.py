"""What the HDF5 reader refuses: what weights files do not hold, and damage of every kind."""

import random
import struct
import tracemalloc

import h5py
import numpy as np
import pytest

from gpt2_core.checkpoint.hdf5 import source as hdf5_source
from gpt2_core.errors import GPT2Error
from tests.hdf5_files import (
    ATTRIBUTES,
    FIXTURES,
    LIBRARIES,
    NAME,
    assert_reads_like_h5py,
    keras_like,
    made_by_h5py,
    made_by_us,
    read,
    some_arrays,
)


def nine_attributes(file):
    file["x"] = 1.0
    file["x"].attrs.update({f"a{i}": i for i in range(9)})


def compound_attribute(file):
    file.attrs["x"] = np.zeros(2, [("a", "f4"), ("b", "i4")])


def committed_type(file):
    file["type"] = np.dtype("f4")


def shared_type(file):
    file["type"] = np.dtype("f4")
    file.create_dataset("a", (3,), dtype=file["type"], data=np.zeros(3))


def virtual(file):
    layout = h5py.VirtualLayout((3,), "f4")
    layout[:] = h5py.VirtualSource("other.h5", "x", shape=(3,))
    file.create_virtual_dataset("v", layout)


# what is in a file, and what the error says
REFUSED = {
    "soft link": (lambda f: f.update({"a": h5py.SoftLink("/x")}), "a soft link named 'a'"),
    "external link": (lambda f: f.update({"a": h5py.ExternalLink("b", "/x")}), "link to another file named"),
    "external data": (lambda f: f.create_dataset("a", (3,), "f4", external="b"), "'a' in another file"),
    "chunks": (lambda f: f.create_dataset("g/a", (9,), "f4", compression="gzip"), "'g/a' stored in chunks"),
    "resizable": (lambda f: f.create_dataset("a", (9,), "f4", maxshape=(None,)), "h5repack"),
    "virtual": (virtual, "as a view of other datasets"),
    "never written": (lambda f: f.create_dataset("a", (3,), "f4"), "'a' whose values were never written"),
    "cycle": (lambda f: f.create_group("a").update({"b": f}), "'a/b' is a group that is also reached"),
    "group twice": (lambda f: f.update({"b": f.create_group("a")}), "'b' is a group that is also reached"),
    "dataset twice": (lambda f: f.update({"b": f.create_dataset("a", data=1.0)}), "'a' and 'b' share bytes"),
    "texts": (lambda f: f.update({"a": ["x", "y"]}), "dataset 'a' of strings of variable length"),
    "complex": (lambda f: f.update({"a": np.zeros(3, "c8")}), "of a type that is not read here"),
    "compound": (compound_attribute, "attribute 'x' in the object header of the root group of a type"),
    "committed type": (committed_type, "'type', which is neither a group nor a dataset"),
    "shared type": (shared_type, "shares a part of the object header of 'a'"),
    "text matrix": (lambda f: f.attrs.update({"a": np.full((2, 2), b"x")}), "has text in 2 dimensions"),
    "depth": (lambda f: f.create_group("/".join("a" * 99)), "groups more than 64 deep"),
    "long name": (lambda f: f.create_group("x" * 2000), "1024"),
}


@pytest.mark.parametrize("libver", LIBRARIES)
@pytest.mark.parametrize("build, message", REFUSED.values(), ids=REFUSED)
def test_refuses(build, message, libver):
    with pytest.raises(GPT2Error, match=message) as error:
        read(made_by_h5py(build, libver=libver))
    assert str(error.value).startswith(NAME)


def test_refuses_attributes_in_a_heap():
    assert_reads_like_h5py(made_by_h5py(nine_attributes, libver="earliest"))
    with pytest.raises(GPT2Error, match="more than eight attributes at dataset 'x'"):
        read(made_by_h5py(nine_attributes, libver="latest"))


def test_refuses_user_blocks_and_short_addresses():
    with pytest.raises(GPT2Error, match="user block"):
        read(made_by_h5py(keras_like, userblock_size=512))
    plist = h5py.h5p.create(h5py.h5p.FILE_CREATE)
    plist.set_sizes(4, 4)
    image = h5py.h5f.create(b"unused", fcpl=plist, fapl=in_memory()).get_file_image()
    with pytest.raises(GPT2Error, match=r"lengths of \(4, 4\) bytes"):
        read(image)


def in_memory():
    plist = h5py.h5p.create(h5py.h5p.FILE_ACCESS)
    plist.set_fapl_core(backing_store=False)
    return plist


def test_refuses_a_file_that_its_writer_did_not_close():
    data = bytearray(made_by_h5py(keras_like, libver="latest"))
    data[11] |= 1
    with pytest.raises(GPT2Error, match="was not closed"):
        read(bytes(data))


def test_refuses_a_changed_header():
    data = bytearray(made_by_h5py(keras_like, libver="latest"))
    data[data.index(b"OHDR") + 30] ^= 1
    with pytest.raises(GPT2Error, match="does not match its checksum"):
        read(bytes(data))


def test_refuses_a_b_tree_in_a_circle():
    data = bytearray(made_by_us({}, {f"w{i}": np.zeros(2) for i in range(300)}))
    root = data.rindex(b"TREE")  # above two others; its first child becomes itself
    assert data[root + 5] == 1
    data[root + 32 : root + 40] = struct.pack("<Q", root)
    with pytest.raises(GPT2Error, match=r"reaches the node at byte \d+ twice"):
        read(bytes(data))


def test_refuses_many_texts_that_are_one_long_text():
    data = made_by_h5py(lambda file: file.attrs.update({"names": ["x" * 60_000] + ["y"] * 2000}))
    long = data.index(struct.pack("<I", 60_000))  # length, address and index of a text
    data = data[:long] + data[long : long + 16] * 2001 + data[long + 16 * 2001 :]
    with pytest.raises(GPT2Error, match="more metadata than weights need"):
        read(data)


def test_refuses_long_paths_to_many_members():
    def build(file):
        group = file.create_group("/".join(["x" * 1000] * 60))
        for i in range(1200):
            group.create_group(str(i))

    with pytest.raises(GPT2Error, match="more metadata than weights need"):
        read(made_by_h5py(build))


@pytest.mark.parametrize(
    "data, message",
    [
        (b"", "it has 0 bytes"),
        (b"version https://git-lfs.github.com/spec/v1", "is not an HDF5 file: it starts with"),
        (b"\x89HDF\r\n\x1a\n", "is truncated"),
    ],
)
def test_refuses_what_is_not_hdf5(data, message):
    with pytest.raises(GPT2Error, match=message):
        read(data)


@pytest.mark.parametrize("share", [0.001, 0.1, 0.5, 0.999])
@pytest.mark.parametrize("path", FIXTURES[:2], ids=["first", "second"])
def test_refuses_a_truncated_file(path, share):
    data = path.read_bytes()
    with pytest.raises(GPT2Error, match=r"tf_model\.h5 is truncated"):
        read(data[: int(len(data) * share)])


# --- damage


def mutated(data, rng):
    """Returns the file with one kind of damage, anywhere in it."""
    data, at = bytearray(data), rng.randrange(len(data) - 8)
    kind = rng.randrange(5)
    if kind == 0:
        return bytes(data[:at])
    if kind == 1:  # an address, length or count that cannot be
        width = rng.choice([1, 2, 4, 8])
        number = rng.choice([2 ** (8 * width) - 1, rng.randrange(2 ** (8 * width))])
        data[at : at + width] = number.to_bytes(width, "little")
    elif kind == 2:  # an address of something else
        data[at - at % 8 : at - at % 8 + 8] = struct.pack("<Q", rng.randrange(0, len(data), 8))
    elif kind == 3:  # a stretch of another structure
        source, size = rng.randrange(len(data) - 8), rng.choice([8, 16, 40])
        data[at : at + size] = data[source : source + size]
    for _ in range(rng.randrange(4)):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(data)


def damaged_sources():
    def small(file):
        file.attrs["layer_names"], file.attrs["names"] = ["a", "bc"], np.array([b"d", b"ef"])
        for i in range(20):
            file[f"g/h{i % 2}/w{i}"] = np.float32(i)

    yield made_by_us({"": ATTRIBUTES}, some_arrays(40))
    for libver in LIBRARIES:
        yield made_by_h5py(small, libver=libver, track_order=libver == "v108")


@pytest.mark.parametrize("checked", [True, False], ids=["checksums", "no checksums"])
def test_damage_ends_in_an_error_or_a_sound_file(checked, monkeypatch):
    if not checked:  # as if whoever changed the file had mended the checksums
        monkeypatch.setattr(hdf5_source.Source, "check", lambda *_: None)
    rng = random.Random(7)
    outcomes = {"refused": 0, "read": 0}
    tracemalloc.start()
    try:
        for data in damaged_sources():
            for _ in range(50):
                check_damaged(mutated(data, rng), outcomes)
    finally:
        tracemalloc.stop()
    assert sum(outcomes.values()) == 200 and min(outcomes.values()) > 10


def check_damaged(data, outcomes):
    before = tracemalloc.get_traced_memory()[0]
    tracemalloc.reset_peak()
    try:
        file = read(data)
    except GPT2Error as error:
        assert str(error).startswith(NAME)
        outcomes["refused"] += 1
    else:
        outcomes["read"] += 1
        for path, dataset in file.datasets.items():
            assert 0 <= dataset.offset <= dataset.offset + dataset.nbytes <= len(data), path
    assert tracemalloc.get_traced_memory()[1] - before < 3_000_000
