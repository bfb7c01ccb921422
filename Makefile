# Each target does all of its own set-up: a virtual environment in .venv with the versions of constraints.txt.
PYTHON ?= python3
BIN = .venv/bin
READY = .venv/ready

.PHONY: demo test lint train bench bench-gpu clean

demo: $(READY)
	$(BIN)/gpt2 demo

test: $(READY) lint
	$(BIN)/python -m pytest -n auto

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy

train: $(READY)
	$(BIN)/python recipes/shakespeare/train.py

bench: $(READY)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[torch,tf,fast,bench]"
	$(BIN)/python tests/bench/speed.py --write

bench-gpu: $(READY)
	$(BIN)/python tests/bench/gpu.py

$(READY): setup.cfg setup.py pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --constraint constraints.txt --editable ".[torch,tf,fast,train,test,elsewhere]"
	touch $@

clean:
	rm -rf .venv build *.egg-info
