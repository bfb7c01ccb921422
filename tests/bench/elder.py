"""The environment of transformers 4, the last with TensorFlow, which does not go with transformers 5."""

import subprocess
import sys
import venv
from pathlib import Path

PACKAGES = ("transformers==4.57.6", "tensorflow==2.19.1", "tf-keras==2.19.0", "numpy<2.2")


def python_of(folder):
    """Returns the environment's Python, made in a folder when it is first asked for, which takes minutes."""
    python = Path(folder) / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    if not (Path(folder) / "ready").exists():
        print(f"making an environment of {', '.join(PACKAGES)} in {folder}", file=sys.stderr)
        venv.create(folder, with_pip=True, clear=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *PACKAGES], check=True)
        (Path(folder) / "ready").touch()
    return python
