"""A disk that is full while a checkpoint is written: an error, nothing left behind, and what was there whole."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from gpt2_core.checkpoint import FORMATS
from tests.frameworks import DATA

ROOT = Path(__file__).parent.parent
LM = DATA / "transformers" / "lm_head"

# argv: source, target, format, shard size. Prints what convert said, and what the folder holds after it
_CONVERT = """
import hashlib, sys
from pathlib import Path
from gpt2_core import GPT2Error, convert
source, target, to, size = sys.argv[1:]
def held():
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in Path(target).rglob("*")}
before = held()
try:
    convert(source, target, to, max_shard_size=size, force=True)
    print("written")
except GPT2Error as error:
    print(error)
print("as before" if held() == before else f"left behind: {set(held()) ^ set(before)}")
"""


def in_small_disk(folder, kilobytes, *arguments):
    """Returns what a Python program prints, run where `folder` is a disk of its own, of so many kilobytes."""
    script = 'mount -t tmpfs -o size="$1"k none "$2" && shift 2 && exec "$@"'
    command = ["unshare", "-rm", "sh", "-c", script, "sh", str(kilobytes), str(folder), sys.executable, *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def small_disks(tmp_path_factory):
    if shutil.which("unshare") is None:
        pytest.skip("no unshare here: a small disk can only be made on Linux")
    done = in_small_disk(tmp_path_factory.mktemp("disk"), 8, "-c", "print(1)")
    if done.stdout != "1\n":
        pytest.skip(f"this system lets nobody mount a small disk: {done.stderr.strip()}")


@pytest.mark.parametrize("kilobytes", [4, 40, 72])  # of 80 and more that the files take
@pytest.mark.parametrize("size", ["5GB", "30KB"])
@pytest.mark.parametrize("to", FORMATS)
def test_a_full_disk(tmp_path, small_disks, to, size, kilobytes):
    done = in_small_disk(tmp_path, kilobytes, "-c", _CONVERT, str(LM), str(tmp_path), to, size)
    error, state = done.stdout.splitlines()
    assert f"saving into {tmp_path} failed: No space left on device. What was there is unchanged" == error, done.stderr
    assert state == "as before"


def test_a_large_enough_disk(tmp_path, small_disks):
    done = in_small_disk(tmp_path, 1000, "-c", _CONVERT, str(LM), str(tmp_path), "safetensors", "5GB")
    assert done.stdout.startswith("written\nleft behind"), done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limits of this kind")
@pytest.mark.parametrize("to", FORMATS)
def test_a_file_that_may_not_grow(tmp_path, to):
    """Over an older checkpoint, which stays: the system refuses the write at byte 50,000."""
    shutil.copy(LM / "model.safetensors", tmp_path)
    shutil.copy(LM / "config.json", tmp_path)
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))\n"
    command = [sys.executable, "-c", limit + _CONVERT, str(LM), str(tmp_path), to, "5GB"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    error, state = done.stdout.splitlines()
    assert error == f"saving into {tmp_path} failed: File too large. What was there is unchanged"
    assert state == "as before"
