"""The documentation says what is so: its code runs, its table is the code's, its links lead somewhere."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from gpt2_core.cli import main

ROOT = Path(__file__).parent.parent
PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
    ROOT / "gpt2_core" / "assets" / "shakespeare" / "README.md",
]


def blocks(page, language):
    """Returns the code blocks of one language, in order, with their line numbers."""
    text = page.read_text(encoding="utf-8")
    return [
        (text.count("\n", 0, match.start()) + 2, match[1])
        for match in re.finditer(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    ]


def test_the_quickstart_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    page = ROOT / "docs" / "quickstart.md"
    found = blocks(page, "python")
    assert len(found) >= 8
    names = {}
    for line, code in found:
        exec(compile("\n" * (line - 1) + code, str(page), "exec"), names)
    printed = capsys.readouterr().out
    assert "ROMEO" in printed and "('loss', 'logits', 'past_key_values', 'attentions')" in printed
    assert "(4, 10, 300)" in printed
    for _, script in blocks(page, "sh"):
        for command in script.splitlines():
            program, *arguments = shlex.split(command)
            assert program == "gpt2" and main(arguments) == 0, command


def test_the_page_of_checkpoints_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    page = ROOT / "docs" / "checkpoints.md"
    for line, code in blocks(page, "python"):
        exec(compile("\n" * (line - 1) + code, str(page), "exec"), {})
    assert capsys.readouterr().out.splitlines() == [
        "safetensors __metadata__ says format 'pt' 100 8",
        "(188, 564) float16",
        "100 [] 100",
    ]
    for command in "".join(script for _, script in blocks(page, "sh")).splitlines():
        program, *arguments = shlex.split(command, comments=True)
        assert program == "gpt2" and main(arguments) == 0, command


def test_the_page_of_tokenizers_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    page, names = ROOT / "docs" / "tokenizers.md", {}
    for line, code in blocks(page, "python"):
        exec(compile("\n" * (line - 1) + code, str(page), "exec"), names)
    printed = capsys.readouterr().out
    for expected in ("(2, 6) [[1, 1, 0, 0, 0, 0], [1, 1, 1, 1, 1, 1]]", "'<sep>'] 50261", "(2, 8)", "[0, 0]"):
        assert expected in printed
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text("To be, or not to be: that is the question.\n" * 50, encoding="utf-8")
    for command in "".join(script for _, script in blocks(page, "sh")).splitlines():
        subprocess.run(["sh", "-c", command], check=True, capture_output=True)
    assert (tmp_path / "ids.npy").exists() and (tmp_path / "my_vocabulary" / "vocab.json").exists()


def test_the_page_of_generation_runs(capsys):
    page, names = ROOT / "docs" / "generation.md", {}
    for line, code in blocks(page, "python"):
        exec(compile("\n" * (line - 1) + code, str(page), "exec"), names)
        wanted = re.findall(r"^print.*  # (.*)$", code, re.MULTILINE)
        printed = capsys.readouterr().out.splitlines()
        assert [line for line in printed if line in wanted] == wanted


def test_the_commands_of_the_page_of_generation_run(monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # other tests run beside it
    commands = "".join(script for _, script in blocks(ROOT / "docs" / "generation.md", "sh")).splitlines()
    assert len(commands) >= 5
    for command in commands:
        assert subprocess.run(["sh", "-c", command], check=True, capture_output=True).stdout.strip()


def test_the_table_of_weights_is_the_code_s():
    done = subprocess.run([sys.executable, "docs/make_weights.py"], capture_output=True, cwd=ROOT, check=True)
    assert done.stdout.decode() == (ROOT / "docs" / "weights.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        assert target.startswith("https://") or (page.parent / target).exists(), target


def test_every_design_difference_has_a_test():
    """The rows of parity.md name a test each, and it exists."""
    text = (ROOT / "docs" / "parity.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(test_\w+)`", text))
    defined = set(
        re.findall(r"def (test_\w+)", "".join(p.read_text(encoding="utf-8") for p in (ROOT / "tests").glob("*.py")))
    )
    assert len(named) > 10 and named <= defined, named - defined
