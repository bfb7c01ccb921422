"""Models by their hub's name: from a prepared cache, and from a hub of this file's own, by huggingface_hub itself."""

import functools
import hashlib
import http.server
import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from gpt2_core import GPT2Config, GPT2Error, GPT2Tokenizer, checkpoint, convert
from gpt2_core.assets import SHAKESPEARE
from gpt2_core.hub import repository
from tests.frameworks import DATA

ROOT = Path(__file__).parent.parent
LM, SHARDED = DATA / "transformers" / "lm_head", DATA / "transformers" / "lm_head" / "sharded_safetensors"
MAIN, OTHER = "a" * 40, "b" * 40


def cached(cache, repo, commit, files, revision="main"):
    """Puts files into a cache as huggingface_hub lays it out: contents by their hash, links to them by commit."""
    folder = cache / ("models--" + repo.replace("/", "--"))
    for part in ("refs", "blobs", f"snapshots/{commit}"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    (folder / "refs" / revision).write_text(commit)
    for file in files:
        blob = folder / "blobs" / hashlib.sha256(file.read_bytes()).hexdigest()
        shutil.copy(file, blob)
        (folder / "snapshots" / commit / file.name).symlink_to(os.path.relpath(blob, folder / "snapshots" / commit))


@pytest.fixture
def cache(tmp_path):
    tokenizer = [SHAKESPEARE / name for name in ("vocab.json", "merges.txt", "tokenizer_config.json")]
    cached(tmp_path, "someone/small", MAIN, [LM / "config.json", LM / "tf_model.h5", *tokenizer])
    cached(tmp_path, "someone/small", OTHER, [SHAKESPEARE / "config.json", SHAKESPEARE / "model.safetensors"], "v2")
    cached(tmp_path, "openai-community/gpt2", MAIN, SHARDED.iterdir())
    cached(tmp_path, "someone/empty", MAIN, [LM / "config.json"])
    lost = [file for file in SHARDED.iterdir() if "00002-of" not in file.name]
    cached(tmp_path, "someone/partial", MAIN, lost)
    return {"cache_dir": tmp_path, "local_files_only": True}


def bits(source):
    return {name: (t.dtype, t.shape, t.bits().tobytes()) for name, t in source.tensors.items()}


@pytest.mark.parametrize("name", ["someone/small", "gpt2", "openai-community/gpt2"])
def test_from_a_prepared_cache(cache, framework, name):
    with checkpoint.open(name, **cache) as source, checkpoint.open(LM) as expected:
        assert bits(source) == bits(expected)
        assert source.format == ("tf-h5" if name == "someone/small" else "safetensors")
    model = framework.model_class("lm_head").from_pretrained(name, **cache)
    ours, theirs = framework.weights(model), framework.weights(framework.load("lm_head", LM))
    assert all((ours[key] == theirs[key]).all() for key in theirs)


def test_a_revision(cache):
    for revision, vocab_size in (("main", 97), ("v2", 2048), (OTHER, 2048)):
        assert GPT2Config.from_pretrained("someone/small", revision=revision, **cache).vocab_size == vocab_size
    with checkpoint.open("someone/small", revision="v2", **cache) as source:
        assert source.format == "safetensors" and source.config.vocab_size == 2048


def test_config_fields_beside_the_options(cache):
    config = GPT2Config.from_pretrained("someone/small", attn_pdrop=0.5, **cache)
    assert config.attn_pdrop == 0.5 and "cache_dir" not in config.extra


def test_tokenizer_and_conversion(cache, tmp_path):
    tokenizer = GPT2Tokenizer.from_pretrained("someone/small", **cache)
    assert len(tokenizer) == 2048 and tokenizer.decode(tokenizer.encode("The dog")) == "The dog"
    convert("someone/small", tmp_path / "new", **cache)
    assert len(GPT2Tokenizer.from_pretrained(tmp_path / "new")) == 2048
    with checkpoint.open(tmp_path / "new") as new, checkpoint.open(LM) as expected:
        assert bits(new) == bits(expected)


@pytest.mark.parametrize(
    "name, words",
    [
        ("someone/unknown", "no file or folder 'someone/unknown', and the cache holds no checkpoint .* Go online once"),
        ("someone/empty", "the cache holds no checkpoint of the hub's model"),
        ("someone/partial", "the cache holds no model-00002-of-00002.safetensors, which model.safetensors.index.json"),
        ("someone/small/deeper", "no file or folder 'someone/small/deeper': give a folder"),
        ("some one/small", "no file or folder 'some one/small': give a folder"),
    ],
)
def test_what_is_not_there(cache, name, words):
    with pytest.raises(GPT2Error, match=words):
        checkpoint.open(name, **cache)
    if "small" not in name:
        with pytest.raises(GPT2Error, match="no tokenizer of the hub's model"):
            GPT2Tokenizer.from_pretrained(name, **cache)


def test_a_folder_of_that_name_comes_first(tmp_path, monkeypatch):
    shutil.copytree(LM, tmp_path / "someone" / "small")
    monkeypatch.chdir(tmp_path)
    assert repository("someone/small", {}) is None and repository("someone/other", {}).name == "someone/other"
    with checkpoint.open("someone/small") as source:
        assert source.path == Path("someone/small/model.safetensors")


def test_without_huggingface_hub(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(GPT2Error, match=r'no file or folder \'someone/small\'.*pip install "gpt2-duo\[hub\]"'):
        checkpoint.open("someone/small")


class Hub(http.server.BaseHTTPRequestHandler):
    """What huggingface_hub asks a hub for a file: its commit, its hash and its bytes, or why there is none."""

    def __init__(self, *args, folder, requests):
        self.folder, self.requests = folder, requests
        super().__init__(*args)

    def log_message(self, *args):
        pass

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        if "/resolve/" not in self.path:  # huggingface_hub asks for more than files
            return self.answer(404, {})
        self.requests.append((self.command, self.path, self.headers.get("Authorization")))
        owner, _, _, revision, *file = self.path.strip("/").split("/")
        path = self.folder.joinpath(*file)
        if owner == "private" and self.headers.get("Authorization") != "Bearer hf_right":
            return self.answer(401, {"X-Error-Code": "RepoNotFound"})
        if revision not in ("main", MAIN):
            return self.answer(404, {"X-Error-Code": "RevisionNotFound"})
        if not path.is_file():
            return self.answer(404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": MAIN})
        data = path.read_bytes()
        found = {"ETag": f'"{hashlib.sha256(data).hexdigest()}"', "X-Repo-Commit": MAIN}
        return self.answer(200, found, data)

    def answer(self, status, headers, data=b""):
        self.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(data))}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data)


@pytest.fixture
def hub(tmp_path):
    """Runs the command `gpt2` with a hub on this machine, and lists what the hub is asked."""
    requests = []
    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Hub, folder=SHARDED, requests=requests)
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_address[1]}"

    def run(*arguments, **environment):
        settings = {**os.environ, "HF_ENDPOINT": address, "HF_HOME": str(tmp_path / "home"), **environment}
        command = [sys.executable, "-m", "gpt2_core", *arguments]
        return subprocess.run(command, cwd=ROOT, env=settings, capture_output=True, text=True, check=False)

    run.requests = requests
    yield run
    server.shutdown()
    server.server_close()


def test_from_a_hub(hub, tmp_path):
    done = hub("convert", "someone/sharded", str(tmp_path / "new"), "--to", "tf-h5", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["checked"] == 28
    fetched = [path.rsplit("/", 1)[1] for command, path, _ in hub.requests if command == "GET"]
    assert sorted(fetched) == sorted(file.name for file in SHARDED.iterdir())
    with checkpoint.open(tmp_path / "new") as new, checkpoint.open(LM) as expected:
        assert bits(new) == bits(expected)
    hub.requests.clear()
    again = hub("info", "someone/sharded", HF_HUB_OFFLINE="1")
    assert again.returncode == 0 and "tensors     28" in again.stdout and not hub.requests


@pytest.mark.parametrize(
    "arguments, environment, words",
    [
        (["someone/sharded", "--revision", "v9"], {}, "RevisionNotFound"),
        (["private/sharded"], {}, "RepositoryNotFound"),
        (["private/sharded"], {"HF_TOKEN": "hf_wrong"}, "RepositoryNotFound"),
    ],
)
def test_what_a_hub_refuses(hub, arguments, environment, words):
    done = hub("info", *arguments, **environment)
    assert done.returncode == 2 and words in done.stderr and done.stderr.count("\n") == 1, done.stderr


def test_a_token(hub):
    done = hub("info", "private/sharded", HF_TOKEN="hf_right")
    assert done.returncode == 0, done.stderr
    assert {token for *_, token in hub.requests} == {"Bearer hf_right"}
