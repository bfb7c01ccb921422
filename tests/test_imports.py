"""Who imports whom: each package alone, without the other framework, and the contracts of setup.cfg."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FRAMEWORKS = ("torch", "tensorflow", "keras", "jax", "transformers", "h5py", "safetensors", "tokenizers")
LINT_IMPORTS = [sys.executable, "-c", "from importlinter.cli import lint_imports_command; lint_imports_command()"]


def python(code, *arguments, cwd=ROOT):
    """Returns what a fresh interpreter printed; fails with its errors."""
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=cwd,
        check=False,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def without(*names):
    """Returns a line of code after which importing `names` raises ModuleNotFoundError, as where they are missing."""
    return (
        "import sys, importlib.abc\n"
        "class Missing(importlib.abc.MetaPathFinder):\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name.split('.')[0] in {names!r}:\n"
        "            raise ModuleNotFoundError(f'No module named {name!r}', name=name)\n"
        "sys.meta_path.insert(0, Missing())\n"
    )


@pytest.mark.parametrize(
    "package, unwanted",
    [
        ("gpt2_core", FRAMEWORKS),
        ("gpt2_core.cli", FRAMEWORKS),
        ("gpt2_torch", ("tensorflow", "keras", "jax", "h5py", "transformers")),
        ("gpt2_tf", ("torch", "transformers")),
    ],
)
def test_a_package_imports_only_its_own_framework(package, unwanted):
    loaded = python(f"import sys, {package}; print(*sorted(sys.modules))").split()
    assert package in loaded and not set(unwanted) & set(loaded)


@pytest.mark.parametrize("package", ["gpt2_core", "gpt2_torch"])
def test_who_only_loads_a_model_does_not_wait_for_the_tokenizers(package):
    code = (
        f"import sys, {package} as package\n"
        "def loaded(): return {'regex', 'gpt2_core.tokenizer'} & set(sys.modules)\n"
        "assert not loaded() and set(package.__all__) <= set(dir(package)), loaded()\n"
        "try: package.GPT2Tokeniser\n"
        "except AttributeError as error: print(error)\n"
        "assert not loaded()\n"
        f"from {package} import *\n"
        "assert len(loaded()) == 2 and GPT2Tokenizer is vars(package)['GPT2Tokenizer']\n"
        "print(GPT2Tokenizer.from_pretrained('gpt2').encode('Hello'))"
    )
    assert python(code).splitlines() == [f"module {package!r} has no attribute 'GPT2Tokeniser'", "[15496]"]
    assert "True" in python("import gpt2_core; print(gpt2_core.tokenizer.GPT2Tokenizer is gpt2_core.GPT2Tokenizer)")


def test_the_whole_core_works_where_no_framework_is_installed(tmp_path):
    code = without(*FRAMEWORKS) + (
        "import sys, gpt2_core\n"
        "from gpt2_core.cli import main\n"
        "folder, lm = sys.argv[1:]\n"
        "gpt2_core.convert(lm, folder + '/h5', 'tf-h5')\n"
        "gpt2_core.convert(folder + '/h5', folder + '/back')\n"
        "assert main(['verify', folder + '/back', lm]) == 0\n"
        "assert main(['info', folder + '/h5']) == 0\n"
    )
    assert "28 of 28" in python(code, tmp_path, ROOT / "tests" / "data" / "transformers" / "lm_head")


def test_a_tree_loads_the_other_s_files_where_the_other_is_not_installed(tmp_path):
    lm = ROOT / "tests" / "data" / "transformers" / "lm_head"
    torch_code = without("tensorflow", "keras", "h5py") + (
        "import sys; from gpt2_torch import GPT2LMHeadModel as M\n"
        "M.from_pretrained(sys.argv[1] + '/tf_model.h5').save_pretrained(sys.argv[2] + '/a', format='tf-h5')\n"
        "print(M.from_pretrained(sys.argv[2] + '/a').generate([1, 2], max_new_tokens=2).shape)\n"
    )
    assert "(1, 4)" in python(torch_code, lm, tmp_path).replace("[", "(").replace("]", ")")
    keras_code = without("torch") + (
        "import sys; from gpt2_tf import TFGPT2LMHeadModel as M\n"
        "M.from_pretrained(sys.argv[1]).save_pretrained(sys.argv[2] + '/b')\n"
        "print(M.from_pretrained(sys.argv[2] + '/a').generate([1, 2], max_new_tokens=2).shape)\n"
    )
    assert "(1, 4)" in python(keras_code, lm, tmp_path)


@pytest.mark.parametrize(
    "package, missing, command",
    [
        ("gpt2_torch", ["torch"], 'pip install "gpt2-duo[torch]"'),
        ("gpt2_tf", ["keras", "tensorflow"], 'pip install "gpt2-duo[tf]"'),
    ],
)
def test_a_missing_framework_says_the_pip_command(package, missing, command):
    code = without(*missing) + f"try:\n    import {package}\nexcept ImportError as error:\n    print(error)"
    assert f"not installed here: {command}" in python(code)
    arguments = ["generate", "shakespeare", "--framework", package.removeprefix("gpt2_")]
    cli = without(*missing) + f"from gpt2_core.cli import main; import sys; sys.exit(main({arguments}))"
    done = subprocess.run([sys.executable, "-c", cli], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 2 and command in done.stderr and done.stderr.count("\n") == 1


def lint(folder):
    """Returns import-linter's exit code and report on the packages of a folder."""
    done = subprocess.run(
        LINT_IMPORTS,
        capture_output=True,
        text=True,
        cwd=folder,
        check=False,
        env={**os.environ, "PYTHONPATH": str(folder)},
    )
    return done.returncode, done.stdout + done.stderr


def test_the_import_contracts_hold():
    code, report = lint(ROOT)
    assert code == 0 and "8 kept, 0 broken" in report, report


BREAKS = {
    "the core takes a framework": ("gpt2_core/parity.py", "import torch", "The core knows no framework"),
    "PyTorch's tree takes Keras": ("gpt2_torch/layers.py", "import keras", "The PyTorch tree knows neither"),
    "PyTorch's tree takes its twin": ("gpt2_torch/heads.py", "import gpt2_tf.heads", "The PyTorch tree knows neither"),
    "Keras' tree takes PyTorch": ("gpt2_tf/model.py", "import torch", "The Keras tree knows neither"),
    "the core looks up": ("gpt2_core/weights.py", "from . import parity", "Inside the core"),
    "PyTorch's tree looks up": ("gpt2_torch/attention.py", "from . import block", "Inside the PyTorch tree"),
    "Keras' tree looks up": ("gpt2_tf/attention.py", "from . import block", "Inside the Keras tree"),
    "inference looks up": ("gpt2_torch/inference/products.py", "from .. import model", "Inside the PyTorch tree"),
    "PyTorch's inference looks up": ("gpt2_torch/inference/layouts.py", "from . import products", "Inside PyTorch's"),
    "Keras' inference looks up": ("gpt2_tf/inference/graphs.py", "from . import decoder", "Inside Keras' inference"),
}


@pytest.mark.parametrize("file, line, contract", BREAKS.values(), ids=BREAKS)
def test_a_broken_contract_is_seen(tmp_path, file, line, contract):
    for package in ("gpt2_core", "gpt2_torch", "gpt2_tf"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__", "assets/*/*"))
    shutil.copy(ROOT / "setup.cfg", tmp_path)
    changed = tmp_path / file
    changed.write_text(changed.read_text(encoding="utf-8") + f"\n{line}\n", encoding="utf-8")
    code, report = lint(tmp_path)
    broken = [row for row in report.splitlines() if "BROKEN" in row]
    assert code == 1 and any(contract in row for row in broken), report
