# Everything runs in .venv, which `make setup` builds once and again only when its inputs change.
PYTHON ?= python3
BIN    := .venv/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check
STAMP  := .venv/.complete
EXTRAS := .venv/.extras
TORCH  := $(shell sed -n 's/^torch==//p' constraints.txt)
CPU_WHEELS := https://download.pytorch.org/whl/cpu

.DEFAULT_GOAL := help
.PHONY: help setup demo test check format docs figures clean

help:  ## list the targets
	@sed -n 's/^\([a-z]*\):.*## /\1: /p' Makefile | awk -F': ' '{ printf "make %-8s %s\n", $$1, $$2 }'

setup: $(STAMP)  ## build .venv with the package and what the demo and most tests need

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(install_torch)
	$(PIP) install --quiet --constraint constraints.txt --editable ".[dev]"
	@touch $@

# Boards, Ray and the documentation are large, and only their own tests and `make docs` need them.
$(EXTRAS): $(STAMP)
	$(PIP) install --quiet --constraint constraints.txt --editable ".[boards,docs,ray,slurm]"
	@touch $@

# The default Linux build brings gigabytes of CUDA: without an NVIDIA GPU take the CPU build, from a local wheel
# directory (PIP_FIND_LINKS) if it is there, else from PyTorch's own index.
define install_torch
@if [ "$$(uname)" != Linux ] || command -v nvidia-smi > /dev/null; then \
	$(PIP) install --quiet "torch==$(TORCH)"; \
else \
	$(PIP) install --quiet "torch==$(TORCH)+cpu" 2> /dev/null \
	|| $(PIP) install --quiet --index-url $(CPU_WHEELS) "torch==$(TORCH)"; \
fi
endef

demo: setup  ## the whole story on rendered images: a table, report.html, summary.json
	$(BIN)/unplateau demo

# One thread a worker: the tests' tensors are small, and threads that share cores only wait for each other.
test: setup $(EXTRAS)  ## all tests, on two processes
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2

check: setup  ## format, lint, types, import contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup  ## rewrite the code in the house format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: setup $(EXTRAS)  ## the documentation, in docs/_build/html
	$(BIN)/sphinx-build -W --keep-going -q -b html docs docs/_build/html

figures: setup  ## make the documentation's pictures, tables and pages of commands anew
	$(BIN)/python docs/figures.py
	$(BIN)/python docs/commands.py
	$(BIN)/python benchmarks/strategies.py --table
	$(BIN)/python benchmarks/cards.py
	$(BIN)/python benchmarks/speed.py --table
	$(BIN)/python benchmarks/scaling.py --table

clean:  ## remove what was built; runs/ stays
	rm -rf .venv build dist docs/_build .*_cache .hypothesis src/*.egg-info
	find src tests docs examples benchmarks -name __pycache__ -prune -exec rm -rf {} +
