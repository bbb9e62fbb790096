# Two commands do everything on a fresh Debian or Ubuntu machine with Python 3.11+ and a C compiler:
#   make serve   environment, packages, model, and a server with a real model behind it
#   make test    environment, packages, model, and every check and test
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
MODEL  := smollm2-135m-instruct

.PHONY: serve test check format clean
.DEFAULT_GOAL := serve

serve: $(VENV)/.headrace-serve
	@$(BIN)/headrace models pull $(MODEL)
	@exec $(BIN)/headrace serve --first-endpoint smollm2=$(MODEL) $(ARGS)

test: check
	@$(BIN)/headrace models pull $(MODEL)
	$(BIN)/pytest $(ARGS)

# Style, types and the directions of imports.
check: $(VENV)/.headrace-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.headrace-test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# make bench-NAME runs benchmarks/NAME; QUICK=1 keeps it under a minute.
bench-%: $(VENV)/.headrace-test
	@$(BIN)/headrace models pull $(MODEL)
	$(BIN)/python benchmarks/$*/run.py

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Headrace needs Python 3.11 or newer; set PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || \
	  { rm -rf $(VENV); echo "No virtual environment: install python3-venv (apt-get install python3-venv)" >&2; exit 1; }

$(VENV)/.headrace-serve: $(BIN)/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[embedded]'
	@touch $@

$(VENV)/.headrace-test: $(BIN)/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[embedded,dev]'
	@touch $@ $(VENV)/.headrace-serve

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
