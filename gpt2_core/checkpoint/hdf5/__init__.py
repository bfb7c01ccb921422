"""HDF5 without h5py: the subset that Keras' weight files use, read lazily and written in one pass."""

from .reader import SIGNATURE, Dataset, Hdf5File
from .writer import write_hdf5

__all__ = ["SIGNATURE", "Dataset", "Hdf5File", "write_hdf5"]
