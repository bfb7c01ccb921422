"""A checkpoint of any format as a lazy, read-only mapping of published names to arrays; and the writers."""

from .find import KNOWN_FILES
from .match import Matched, compare_names, find_head, match, require_table
from .reader import Checkpoint
from .reader import open_checkpoint as open
from .tensor import Tensor, dtype_name, float_name
from .writer import FORMATS, save

__all__ = [
    "FORMATS",
    "KNOWN_FILES",
    "Checkpoint",
    "Matched",
    "Tensor",
    "compare_names",
    "dtype_name",
    "find_head",
    "float_name",
    "match",
    "open",
    "require_table",
    "save",
]
