# `make demo` and `make test` set themselves up; nothing needs to be installed first but Python 3.11.
PYTHON ?= python3
GPU_PYTHON ?= 3.12
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test soak bench gpu gpu-libraries lint audit clean
.DELETE_ON_ERROR:

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[textattack,demo,ray,test,mutation,lint]'
	touch $@

demo: $(VENV)/.installed
	$(BIN)/robustness demo --out demo-run

# Two processes of one thread each: half the time, and no more memory than a laptop has.
test: $(VENV)/.installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

soak: $(VENV)/.installed
	$(BIN)/python -m pytest -m soak tests

bench: $(VENV)/.installed
	$(BIN)/python -m pytest -m benchmark -s $(if $(ONLY),-k $(ONLY)) tests/benchmarks

# Outside the environment, with what the machine has: CUDA's torch is rarely the one that is pinned here.
gpu:
	PYTHONPATH=.:.gpu-libraries $(PYTHON) tests/gpu

# For a machine without network, where these are missing: made elsewhere, for that machine's Python, and copied along.
gpu-libraries:
	rm -rf .gpu-libraries
	$(PYTHON) -m pip install --quiet --disable-pip-version-check -c constraints.txt --target .gpu-libraries \
	  --python-version $(GPU_PYTHON) --only-binary=:all: pydantic rapidfuzz
	$(PYTHON) -m pip install --quiet --disable-pip-version-check -c constraints.txt --target .gpu-libraries \
	  --python-version $(GPU_PYTHON) --only-binary=:all: --no-deps torchmetrics lightning-utilities

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

audit: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check 'pip-audit>=2.7'
	$(BIN)/pip-audit --strict --no-deps --disable-pip -r constraints.txt

clean:
	rm -rf $(VENV) demo-run build dist .gpu-libraries gpu.json
