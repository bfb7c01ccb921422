"""Prints what converting and loading a GPT-2 of 124M weights costs: seconds, and the most memory that a process held.

python tests/bench/convert.py [--rounds 5] [--xl]

Each run is a process of its own; contenders and `cp` take turns within a round, and medians are printed. The time of a
conversion is that of writing and of the flush to the disk, the check of what was written aside; `cp` copies the source
or what was written, whichever is larger.
"""

import argparse
import functools
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
WRITTEN = ("safetensors", "torch", "tf-h5", "keras")
READ = (*WRITTEN, "torch-stream", "openai-tf1", "keras-hub", "nanogpt", "llm.c")


def peak_mb() -> float:
    """Returns the most memory that this process has held, in MB; Linux only."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.split("VmHWM:")[1].split()[0]) / 1000


def convert(source: str, target: str, to: str, dtype: str = "") -> dict:
    from gpt2_core import convert
    from gpt2_core.checkpoint import writer

    checking, check = [], writer._read_back

    def timed(*arguments):
        began = time.perf_counter()
        check(*arguments)
        checking.append(time.perf_counter() - began)

    writer._read_back = timed
    start, began = peak_mb(), time.perf_counter()
    convert(source, target, to, dtype=dtype or None)
    seconds = time.perf_counter() - began - sum(checking)
    return {"imports": start, "peak": peak_mb(), "seconds": seconds, "check": sum(checking)}


def load(library: str, source: str) -> dict:
    if library == "gpt2_tf":
        import keras

        keras.ops.zeros(1)  # has TensorFlow start
        from gpt2_tf import TFGPT2LMHeadModel as Model
    elif library == "gpt2_torch":
        from gpt2_torch import GPT2LMHeadModel as Model
    else:
        from transformers import GPT2LMHeadModel as Model
    start, began = peak_mb(), time.perf_counter()
    model = Model.from_pretrained(source)
    loaded = time.perf_counter() - began
    if library != "gpt2_tf":  # transformers maps the file: reading it is part of loading it
        for weight in model.parameters():
            weight.detach().max()
    return {"imports": start, "peak": peak_mb(), "seconds": time.perf_counter() - began, "until it returns": loaded}


def transformers_convert(source: str, target: str) -> dict:
    from transformers import GPT2LMHeadModel

    start, began = peak_mb(), time.perf_counter()
    GPT2LMHeadModel.from_pretrained(source).save_pretrained(target)
    return {"imports": start, "peak": peak_mb(), "seconds": time.perf_counter() - began}


def make(folder: str, form: str, preset: str = "gpt2") -> dict:
    """Writes a model with random weights in one of READ."""
    from gpt2_core import GPT2Config
    from gpt2_core.initial import initial_weights
    from tests.bench import sources

    config = GPT2Config.preset(preset)
    Path(folder).mkdir(parents=True)
    sources.WRITERS[form](Path(folder), config, functools.partial(initial_weights, config, "lm_head", 0))
    return {}


def child(*arguments) -> dict:
    """Returns what one of this file's functions returns, run in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3"}
    environment |= {"HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, __file__, "--child", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def copied(target: Path, *folders: Path) -> dict:
    """Returns the seconds that `cp` takes for the largest file of some folders, and with the flush to the disk."""
    largest = max((path for folder in folders for path in folder.iterdir()), key=lambda path: path.stat().st_size)
    began = time.perf_counter()
    subprocess.run(["cp", largest, target], check=True)
    seconds = time.perf_counter() - began
    subprocess.run(["sync", target], check=True)
    flushed = time.perf_counter() - began
    target.unlink()
    return {"cp": seconds, "cp and sync": flushed}


def medians(runs: list[dict]) -> dict:
    return {key: statistics.median(run[key] for run in runs) for key in runs[0]}


def conversions(place: Path, rounds: int) -> None:
    print("source        target       imports  beyond them   write  check  write/cp  write/(cp and sync)")
    for form in READ:
        source = place / form
        child("make", source, form)
        cases = [(to, "") for to in (WRITTEN if form in ("safetensors", "torch") else ("safetensors",))]
        cases += [("safetensors", dtype) for dtype in ("bfloat16", "float64") if form == "safetensors"]
        for to, dtype in cases:
            runs = []
            for _ in range(rounds):
                run = child("convert", source, place / "new", to, dtype)
                runs.append(run | copied(place / "copy", source, place / "new"))
                shutil.rmtree(place / "new")
            m = medians(runs)
            print(
                f"{form:12}  {to:11}  {m['imports']:4.0f} MB     {m['peak'] - m['imports']:5.0f} MB  "
                f"{m['seconds']:5.2f} s {m['check']:5.2f} s  {m['seconds'] / m['cp']:8.1f}  "
                f"{m['seconds'] / m['cp and sync']:8.1f}  {dtype}",
                flush=True,
            )
        if form not in WRITTEN:
            shutil.rmtree(source)


def loads(place: Path, rounds: int) -> None:
    print("\nloading       from         imports  beyond them  seconds  (until from_pretrained returns)")
    cases = [(library, form) for form in ("safetensors", "tf-h5") for library in ("gpt2_torch", "gpt2_tf")]
    cases.insert(2, ("transformers", "safetensors"))
    found = {case: [] for case in cases}
    for _ in range(rounds):
        for case in cases:
            found[case].append(child("load", case[0], place / case[1]))
    for (library, form), runs in found.items():
        m = medians(runs)
        beyond = m["peak"] - m["imports"]
        print(
            f"{library:12}  {form:11}  {m['imports']:4.0f} MB  {beyond:8.0f} MB  {m['seconds']:5.2f} s  "
            f"{m['until it returns']:5.2f} s",
            flush=True,
        )
    runs = []
    for _ in range(rounds):
        runs.append(child("transformers_convert", place / "torch", place / "new"))
        shutil.rmtree(place / "new")
    m = medians(runs)
    print(
        f"\ntransformers, torch -> safetensors: {m['seconds']:.2f} s, imports {m['imports']:.0f} MB, "
        f"{m['peak'] - m['imports']:.0f} MB beyond them"
    )


def xl(place: Path) -> None:
    child("make", place / "xl", "safetensors", "gpt2-xl")
    for to in ("safetensors", "torch", "tf-h5", "keras"):
        run = child("convert", place / "xl", place / "new", to) | copied(place / "copy", place / "new")
        shutil.rmtree(place / "new")
        print(f"xl, safetensors -> {to}: {run['peak']:.0f} MB in all, {run['seconds']:.1f} s, cp {run['cp']:.1f} s")


def main() -> None:
    if sys.argv[1:2] == ["--child"]:
        found = globals()[sys.argv[2]](*sys.argv[3:])
        print(json.dumps(found))
        return
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--xl", action="store_true", help="convert a GPT-2 XL too, which takes 12 GB of disk")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        conversions(Path(folder), options.rounds)
        loads(Path(folder), options.rounds)
        if options.xl:
            xl(Path(folder))


if __name__ == "__main__":
    main()
