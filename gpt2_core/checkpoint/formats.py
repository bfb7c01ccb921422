"""Which format a file is of, told by how it begins or ends: names of files vary, and are wrong at times."""

from __future__ import annotations

from ..errors import GPT2Error
from .contents import Contents
from .hdf5 import SIGNATURE as HDF5
from .keras_h5 import KERAS_FILE, read_keras_archive
from .llm_c import MAGIC as LLM_C
from .llm_c import read_llm_c
from .openai_tf1 import read_openai
from .safetensors_file import read_safetensors
from .tensor import TensorFile
from .tf1_bundle import INDEX_SUFFIX, MAGIC
from .tf_h5 import read_hdf5
from .torch_weights import read_torch
from .zip_members import zip_members


def _read_zip(file: TensorFile) -> Contents:
    """Returns what an archive of Keras' or of torch.save's holds."""
    return read_keras_archive(file) if KERAS_FILE in zip_members(file) else read_torch(file)


_STARTS = {LLM_C: read_llm_c, HDF5: read_hdf5, b"PK\x03\x04": _read_zip, b"\x80\x02\x8a\x0a": read_torch}
# Whose error says best what is wrong with a file that begins like none
SUFFIXES = {
    ".safetensors": read_safetensors,
    ".h5": read_hdf5,
    ".keras": read_keras_archive,
    ".hdf5": read_hdf5,
    ".bin": read_torch,
    ".pt": read_torch,
    ".pth": read_torch,
    ".pkl": read_torch,
    INDEX_SUFFIX: read_openai,
}


def read_contents(file: TensorFile) -> Contents:
    """Returns what an open checkpoint file of any format holds."""
    start = file.bytes_at(0, min(9, file.size))
    if file.size > len(MAGIC) and file.bytes_at(file.size - len(MAGIC), len(MAGIC)) == MAGIC:
        return read_openai(file)
    if start[8:] == b"{":  # after the length of its header
        return read_safetensors(file)
    for signature, read in _STARTS.items():
        if start.startswith(signature):
            return read(file)
    if file.path.suffix.lower() in SUFFIXES:
        return SUFFIXES[file.path.suffix.lower()](file)
    raise GPT2Error(
        f"{file.path} is no checkpoint that this reads: give a safetensors file, one of torch.save, a tf_model.h5, a "
        "model.ckpt.index, or the folder of one"
    )
