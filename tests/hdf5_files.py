"""HDF5 files for tests: made by h5py or by us, read by both."""

import io
from pathlib import Path

import h5py
import numpy as np

from gpt2_core.checkpoint.hdf5 import Hdf5File, write_hdf5

NAME = "tf_model.h5"
DATA = Path(__file__).parent / "data" / "transformers"
FIXTURES = sorted(DATA.glob("**/*.h5"))
LIBRARIES = ["earliest", "v108", "latest"]  # versions of the format


def made_by_h5py(build, **options):
    """Returns the bytes of a file that h5py makes: `build` gets it open."""
    buffer = io.BytesIO()
    with h5py.File(buffer, "w", **options) as file:
        build(file)
    return buffer.getvalue()


def made_by_us(groups, arrays):
    """Returns the bytes of a file that holds the groups and arrays."""
    buffer = io.BytesIO()
    write_hdf5(buffer, groups, {path: (a.shape, a.dtype, lambda a=a: [a]) for path, a in arrays.items()})
    return buffer.getvalue()


def read(data):
    """Returns what our reader finds in a file's bytes."""
    return Hdf5File(io.BytesIO(data), NAME)


def values(data, dataset):
    """Returns a dataset's values."""
    flat = np.frombuffer(data, np.uint8, dataset.nbytes, dataset.offset)
    return flat.view(dataset.dtype).reshape(dataset.shape)


def decoded(value):
    """Returns an attribute as h5py gives it in the form that ours has."""
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, np.ndarray) and value.dtype.kind in "SO":
        return [item.decode() if isinstance(item, bytes) else item for item in value]
    return value


def walk(group, prefix=""):
    """Yields path and object of everything in an h5py group, as it was made if the file tells, or by name."""
    tracked = group.id.get_create_plist().get_link_creation_order() & h5py.h5p.CRT_ORDER_TRACKED
    order = h5py.h5.INDEX_CRT_ORDER if tracked else h5py.h5.INDEX_NAME
    names = []
    group.id.links.iterate(names.append, idx_type=order)  # h5py's own order depends on its version
    for name in map(bytes.decode, names):
        child = group[name]
        yield prefix + name, child
        if isinstance(child, h5py.Group):
            yield from walk(child, f"{prefix}{name}/")


def assert_reads_like_h5py(data):
    """Compares names, their order, types, values and attributes; returns what we read."""
    file = read(data)
    with h5py.File(io.BytesIO(data)) as theirs:
        objects = {"": theirs, **dict(walk(theirs["/"]))}
        is_group = {path: isinstance(child, h5py.Group) for path, child in objects.items()}
        assert list(file.groups) == [path for path in objects if is_group[path]]
        assert list(file.datasets) == [path for path in objects if not is_group[path]]
        for path, child in objects.items():
            if not is_group[path]:
                dataset = file.datasets[path]
                assert (dataset.dtype, dataset.shape) == (child.dtype, child.shape)
                np.testing.assert_array_equal(values(data, dataset), child[()])
            attributes = file.groups[path] if is_group[path] else dataset.attributes
            assert attributes.keys() == child.attrs.keys()
            for name, value in attributes.items():
                expected = decoded(child.attrs[name])
                assert isinstance(value, str | list) or value.dtype == np.asarray(expected).dtype
                np.testing.assert_array_equal(value, expected)
    return file


def keras_like(file):
    """Fills an h5py file with what weights files hold, and with the rarer things that they may."""
    file.attrs["backend"] = "tensorflow"
    file.attrs["layer_names"] = np.array([b"transformer", b"score"])
    file.attrs["bytes"] = np.bytes_(b"2.19.0")
    file.create_group("top_level_model_weights").attrs["weight_names"] = []
    group = file.create_group("transformer")
    group.attrs["weight_names"] = ["model/wte:0", "häl", ""]
    group.attrs["flag"], group.attrs["flags"] = True, np.array([True, False])
    group.attrs["matrix"] = np.arange(6, dtype=">i2").reshape(2, 3)
    dtypes = ["<f2", ">f2", "<f4", ">f4", "<f8", ">f8", "i1", "<i2", ">i4", "u1", "<u8", "?"]
    for i, dtype in enumerate(dtypes):
        group[f"h_._{11 - i}/kernel:0"] = np.arange(6).reshape(2, 3).astype(dtype)
    group["h_._0/kernel:0"].attrs["scale"] = np.float32(0.5)
    file["empty"], file["scalar"] = np.zeros((0, 3), "f4"), np.int64(7)
    file["/".join("abcdefghijklmnopqrstuvwxyz")] = np.arange(3.0)


def many(file):
    """Fills an h5py file with a group too large for one node of any kind."""
    for i in range(500):
        file[f"big/weight_{i * 379 % 500}"] = np.float32(i)


def some_arrays(count):
    """Returns path -> array of several types and shapes, in two groups, not in the order of their names."""
    dtypes = ["<f4", ">f2", "<f8", "<i8", ">u2", "u1"]
    return {
        f"transformer/h_._{i % 7}/{i}:0" if i % 3 else f"big/{i * 379 % 1000:o}": np.arange(i % 4 * 3)
        .reshape(i % 4, 3)
        .astype(dtypes[i % 6])
        for i in range(count)
    }


ATTRIBUTES = {
    "layer_names": ["a", "bé", ""],
    "backend": "tensorflow",
    "version": np.float32(3),
    "none": [],
    "steps": np.arange(4, dtype=">i2"),
}
