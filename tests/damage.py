"""What reading damaged checkpoints ends in; run as a program by test_damage.

    python -m tests.damage FORMAT FOLDER

FOLDER holds sound checkpoints of the format in `sound/0`, `sound/1` and so on. Each seed damages one of them, opens it,
matches it with its config and reads all of its weights, which may end in a GPT2Error that names the file, or in the
weights of the sound one, bit for bit. Whatever else happens is a failure, and is printed among the counts, as JSON.
The core alone is imported: so a crash is the end of this process, and its peak of memory is that of the readers.

No reader can tell that a file was changed where the change makes it another sound file. These are such, and what is
read must then be just what the changed file says:

- numbers changed in a format without checksums: safetensors, HDF5, torch.save's old stream, llm.c;
- two tensors of one shape that exchanged their places, or names, in a header whose checksum was mended;
- a square matrix whose strides in a pickle were exchanged: it is transposed;
- an address in HDF5 without checksums that leads into zeros which belong to nothing;
- a vocabulary of llm.c that ends at another of the last 128 rows of its table, of which some are padding.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import signal
import time
import traceback
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from gpt2_core import GPT2Error, checkpoint
from gpt2_core.checkpoint import reader, zip_members
from gpt2_core.checkpoint.tensor import TensorFile
from gpt2_core.weights import published_name
from tests.damaging import FORMATS, H5, WORDS, Damaged, Files, Sound, Weights, addresses, areas, damage, inside, members
from tests.damaging import zipped as zipped_again

SEEDS = 500
MEMORY = 100  # MB that all of it may take beyond reading what is sound
SECONDS = 20  # for one file of some kB, on a machine that is busy
_LLM_C = (20240326).to_bytes(4, "little")


class TookTooLong(BaseException):
    """Raised by the alarm; no Exception, so that no reader takes it for one of its own."""


def campaign(form: str, folder: Path, seeds: range, seconds: float, sabotage: Callable) -> dict:
    """Returns how often each outcome was met, every failure, and what it took."""
    sounds = [read_sound(place) for place in sorted((folder / "sound").iterdir())]
    sabotage()
    counts, failures, slowest, before = Counter(), [], 0.0, peak()
    for seed in seeds:
        sound = sounds[seed % len(sounds)]
        case = damage(form, seed, sound)
        start = time.perf_counter()
        end = outcome(case, sound, FORMATS[form].checked, folder / "case", seconds)
        slowest = max(slowest, time.perf_counter() - start)
        good = end in ("error", "equal", "undetectable")
        counts[end if good else "failure"] += 1
        if not good:
            failures.append({"seed": seed, "kind": case.kind, "what": end})
    taken = peak() - before
    if taken > MEMORY:
        failures.append({"seed": None, "kind": "memory", "what": f"{taken:.0f} MB more than sound files take"})
    return {"counts": counts, "failures": failures, "memory": round(taken), "slowest": round(slowest, 2)}


def read_sound(folder: Path) -> Sound:
    """Returns the sound checkpoint of a folder."""
    return Sound({file.name: file.read_bytes() for file in sorted(folder.iterdir())}, read(folder))


def read(folder: Path) -> Weights:
    """Returns the weights of a checkpoint as loading a model reads them."""
    with checkpoint.open(folder) as source:
        source.require_config().to_json()  # what is taken for a config can also be saved
        found = checkpoint.match(source, checkpoint.find_head(source))
        tensors = {published_name(name): tensor for name, tensor in found.tensors.items()}
        return {name: (tensor.dtype, tensor.shape, tensor.bits().tobytes()) for name, tensor in tensors.items()}


def outcome(case: Damaged, sound: Sound, checked: bool, folder: Path, seconds: float) -> str:
    """Returns "error", "equal" or "undetectable", and a text about anything else."""
    weights = attempt(case.files, folder, seconds)
    if isinstance(weights, str):
        return weights
    if weights == sound.weights:
        return "equal"
    for said, others in says(case, sound, checked):
        if weights == said and attempt(others, folder, seconds) == sound.weights:
            return "undetectable"
    others = [name for name in sound.weights if weights.get(name) != sound.weights[name]]
    return f"other weights: {', '.join(others)} and {sorted(weights.keys() - sound.weights.keys())}"


def attempt(files: Files, folder: Path, seconds: float) -> Weights | str:
    """Returns the weights that are read of files, "error" for a good one, and a text about anything else."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name, data in files.items():
        (folder / name).write_bytes(data)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        return read(folder)
    except GPT2Error as error:
        return "error" if str(folder) in str(error) else f"an error that names no file: {error}"
    except TookTooLong:
        return "it took too long: " + traceback.format_exc(limit=-3)
    except Exception:
        return traceback.format_exc(limit=-3)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def says(case: Damaged, sound: Sound, checked: bool) -> Iterator[tuple[Weights, Files]]:
    """Yields weights that a damaged checkpoint may be taken for, and its files with that part of the damage mended."""
    if case.exchanged:
        a, b = case.exchanged
        yield sound.weights | {a: sound.weights[b], b: sound.weights[a]}, sound.files
    for name, (dtype, shape, bits) in sound.weights.items() if case.kind.startswith("pickle") else ():
        if len(shape) == 2 and shape[0] == shape[1]:
            turned = np.frombuffer(bits, WORDS[dtype]).reshape(shape).T.tobytes()
            yield sound.weights | {name: (dtype, shape, turned)}, sound.files
    for name, data in case.files.items():
        if data != sound.files[name] and name.endswith(".keras"):
            with contextlib.suppress(zipfile.BadZipFile):
                parts = members(data)
                for said, mended in believed(members(sound.files[name])[H5], parts.get(H5, b""), sound.weights):
                    yield said, case.files | {name: zipped_again((parts | {H5: mended}).items())}
        elif data != sound.files[name] and not checked:
            for said, mended in believed(sound.files[name], data, sound.weights):
                yield said, case.files | {name: mended}


def believed(before: bytes, after: bytes, weights: Weights) -> Iterator[tuple[Weights, bytes]]:
    """Yields what a file says if its numbers and addresses are believed, and the file with these mended."""
    if len(before) != len(after):
        return
    said, mended, places = dict(weights), bytearray(after), areas(before, weights)
    pointers = addresses(before, places) if before.startswith(b"\x89HDF") else {}
    for name, (start, stop, transposed) in places.items():
        dtype, shape, _ = weights[name]
        mended[start:stop] = before[start:stop]
        if name in pointers:
            at, size = pointers[name], stop - start
            mended[at : at + 8] = before[at : at + 8]
            free = bytearray(before)
            free[start:stop] = bytes(size)
            taken = inside(len(before), [place for other, place in places.items() if other != name])
            start = int.from_bytes(after[at : at + 8], "little")
            stop = start + size
            if stop > len(after) or any(free[start:stop]) or taken[start:stop].any():
                return
        if before.startswith(_LLM_C) and name == "wte.weight":
            mended[12:16] = before[12:16]
            shape = (int.from_bytes(after[12:16], "little"), shape[1])
            stop = start + shape[0] * shape[1] * np.dtype(WORDS[dtype]).itemsize
        values = np.frombuffer(after[start:stop], WORDS[dtype])
        said[name] = (dtype, shape, (values.reshape(shape[::-1]).T if transposed else values).tobytes())
    yield said, bytes(mended)


def peak() -> float:
    """Returns the largest amount of memory that this process had, in MB; 0 where the system does not tell."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM")), 0.0)


# --- readers that are wrong: the campaign has to notice


def _before_reading(action: Callable) -> Callable:
    """Returns what has an action done whenever a file is opened."""

    def sabotage():
        sound = reader.read_contents
        reader.read_contents = lambda file: (action(), sound(file))[1]

    return sabotage


def _no_checksums():
    zip_members._compare = lambda *_: None


def _other_values():
    sound = TensorFile._read
    TensorFile._read = lambda self, stored, shape, offset: sound(self, stored, shape, offset) + stored.type(1)


def _raise(error: Exception):
    raise error


def _hang():
    while True:
        pass


SABOTAGE = {
    "none": lambda: None,
    "no checksums": _no_checksums,
    "other values": _other_values,
    "another exception": _before_reading(lambda: _raise(KeyError("x"))),
    "an error without a file": _before_reading(lambda: _raise(GPT2Error("something is wrong"))),
    "a hang": _before_reading(_hang),
    "much memory": _before_reading(lambda: np.ones(3 * MEMORY << 17)),
}


def _too_long(*_):
    raise TookTooLong


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("form", choices=FORMATS)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--seconds", type=float, default=SECONDS)
    parser.add_argument("--sabotage", choices=SABOTAGE, default="none")
    args = parser.parse_args()
    signal.signal(signal.SIGALRM, _too_long)
    warnings.simplefilter("ignore")  # heads that a checkpoint lacks, names that an archive holds twice
    seeds = range(args.first, args.first + args.seeds)
    print(json.dumps(campaign(args.form, args.folder, seeds, args.seconds, SABOTAGE[args.sabotage])))
