# Every target sets itself up: .venv, this package (editable) and its tools at the versions of constraints.txt; a second call reinstalls nothing.
# TORCH_INDEX=URL adds a package index for torch, such as the one with PyTorch's CPU builds.
PYTHON ?= python3
TORCH_INDEX ?=
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --constraint constraints.txt $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX))
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -rs

.PHONY: demo studio test test-all lint

demo: .venv/installed
	$(BIN)/tutelage demo

studio: .venv/installed
	$(BIN)/tutelage studio --demo

test: .venv/installed-dev lint
	$(PYTEST) -n 2 -m "not slow"

test-all: .venv/installed-dev lint
	$(PYTEST) -n 2 --hypothesis-profile=new

lint: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/mypy

.venv/installed: pyproject.toml constraints.txt
	@echo "Will download PyTorch and this package's requirements into .venv: 1.2 GB on disk with a CPU build of PyTorch," \
	      "several GB more with its CUDA build (TORCH_INDEX=URL chooses)."
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "error: Python 3.11 or newer is needed, this is " + sys.version.split()[0] + "; set PYTHON=")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet "pip>=25.1"
	$(PIP) --editable .
	@touch $@

.venv/installed-dev: .venv/installed
	@echo "Will download the test tools of pyproject.toml's dev group into .venv: 0.7 GB on disk."
	$(PIP) --editable . --group dev
	@touch $@
