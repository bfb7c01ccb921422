"""gpt2 demo: the whole way once, PyTorch to Keras and back, with the small model that ships with the package."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from .. import checkpoint
from ..assets import SHAKESPEARE
from ..errors import GPT2Error
from ..tokenizer import GPT2Tokenizer
from . import info, verify
from .frameworks import FRAMEWORKS, require_both
from .generate import Writer
from .table import print_table

PROMPT = "ROMEO:\n"
SETTINGS = {"do_sample": True, "temperature": 0.8, "top_k": 40, "max_new_tokens": 80}
SEED = 7

# Run where importing TensorFlow, Keras or h5py raises: what opens the file is the core alone
_RELOAD = """
import sys
for name in ("tensorflow", "keras", "h5py"):
    sys.modules[name] = None
from gpt2_torch import GPT2LMHeadModel
GPT2LMHeadModel.from_pretrained(sys.argv[1]).save_pretrained(sys.argv[2])
"""


def add_to(commands) -> None:
    """Adds the subcommand."""
    parser = commands.add_parser("demo", help="the whole way through, once", description=__doc__)
    parser.set_defaults(run=run)


def run(options) -> int:
    """Returns 0 if every weight, number and token came out the same, else 1."""
    require_both()
    with tempfile.TemporaryDirectory() as folder:
        same_weights = _round_trip(Path(folder))
    found = _numbers()
    same_text = _texts()
    return 0 if same_weights and verify.all_within(found) and same_text else 1


def _round_trip(folder: Path) -> bool:
    _heading("1. The small model that ships with the package")
    with checkpoint.open(SHAKESPEARE) as source:
        info.print_facts(info.describe(source))

    _heading("2. PyTorch writes it, Keras reads it")
    torch_model, keras_model = (framework.model_class() for framework in FRAMEWORKS.values())
    torch_model.from_pretrained(SHAKESPEARE).save_pretrained(folder / "from_torch")
    model = keras_model.from_pretrained(folder / "from_torch")
    print(f"PyTorch wrote model.safetensors; Keras read {model.num_parameters():,} parameters")

    _heading("3. Keras writes tf_model.h5, PyTorch reads it where TensorFlow cannot be imported")
    model.save_pretrained(folder / "from_keras", format="tf-h5")
    command = [sys.executable, "-c", _RELOAD, str(folder / "from_keras"), str(folder / "back")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise GPT2Error(f"PyTorch could not read what Keras wrote: {done.stderr.strip().splitlines()[-1]}")
    print("Keras wrote tf_model.h5; PyTorch read it and wrote model.safetensors again")

    _heading("4. Every weight, bit for bit")
    rows = [(name, *_equal_weights(folder / name)) for name in ("from_torch", "from_keras", "back")]
    print_table(rows, ("folder", "format", "tensors", "equal to the original"))
    return all(tensors == equal for _, _, tensors, equal in rows)


def _equal_weights(folder: Path) -> tuple[str, int, int]:
    """Returns the format, the number of tensors and how many hold the packaged model's bits."""
    with checkpoint.open(SHAKESPEARE) as original, checkpoint.open(folder) as other:
        ours = {name: tensor.bits("float32").tobytes() for name, tensor in original.tensors.items()}
        equal = [name for name, tensor in other.tensors.items() if tensor.bits().tobytes() == ours.get(name)]
        return other.format, len({*original, *other}), len(equal)


def _numbers() -> dict:
    _heading("5. The same numbers: largest difference between PyTorch and Keras")
    found = verify.compare_outputs([("torch", str(SHAKESPEARE)), ("tf", str(SHAKESPEARE))], seed=0)
    verify.print_outputs(found)
    return found


def _texts() -> bool:
    _heading("6. The same text: one prompt, one seed")
    tokenizer = GPT2Tokenizer.from_pretrained(SHAKESPEARE)
    found = []
    for framework in FRAMEWORKS.values():
        writer = Writer(framework.load(SHAKESPEARE), tokenizer, SETTINGS, SEED)
        ((continuation,),) = writer([PROMPT])
        print(f"--- {framework.title}\n{PROMPT}{continuation.text}\n")
        found.append(continuation.ids)
    same = found[0] == found[1]
    print(f"{len(found[0])} tokens: {'the same in both' if same else 'DIFFERENT'}")
    return same


def _heading(text: str) -> None:
    print(f"\n{text}\n{'=' * len(text)}", flush=True)
