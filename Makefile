# make demo   install what liquidlm needs, write with the bundled model, then train one on text that every Python has
# make test   install the tools of developers too, then run every test
# make check  ruff, ruff format, pyright, the order of imports, and the kernels under the sanitizers
# make docs   build the documentation site into site/ (open site/index.html)
# make conformance  transformers' own tests of models, downloaded and run on ours
VENV   := .venv
BIN    := $(VENV)/bin
PYTHON ?= python3
UV     := $(shell command -v uv)

# uv is fast; pip is everywhere. Neither compiles what may never be imported.
ifdef UV
CREATE  := uv venv --quiet --allow-existing --python $(PYTHON)
INSTALL := uv pip install --quiet --python $(BIN)/python -c constraints.txt
else
CREATE  := $(PYTHON) -m venv
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile -c constraints.txt
endif

.PHONY: setup demo test docs conformance check format clean
setup: $(VENV)/.developer

$(VENV)/.user: pyproject.toml constraints.txt $(wildcard $(addprefix liquidlm/ops/native/,*.cpp *.h build.py))
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "liquidlm needs Python 3.11 or newer; try: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	$(CREATE) $(VENV)
	$(INSTALL) -e .
	@touch $@

$(VENV)/.developer: $(VENV)/.user
	$(INSTALL) -e '.[dev]'
	@touch $@

demo: $(VENV)/.user
	$(BIN)/liquidlm generate "Once upon a time" --seed 1
	rm -rf runs/demo
	$(BIN)/liquidlm train --out runs/demo --minutes 3.5 --tokenizer bpe:2000 --hidden-size 192 --layers 4
	$(BIN)/liquidlm generate runs/demo "The " --samples 3 --max-new-tokens 120 --seed 1 --verbose
	@echo "The curve is in runs/demo/curve.png. Write more with: $(BIN)/liquidlm generate runs/demo \"Return\""

# Compiled modules are kept, whatever the environment says: the tests start many Pythons.
test: setup
	OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n auto --dist worksteal

docs: setup
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

conformance: setup
	$(INSTALL) -e '.[dev,conformance]'
	OMP_NUM_THREADS=1 $(BIN)/python -m conformance -n auto --dist worksteal

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports
	OMP_NUM_THREADS=1 $(BIN)/python tests/sanitized.py

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) runs build dist site .pytest_cache .ruff_cache .hypothesis
