# Two commands do everything on a fresh Debian or Ubuntu machine with Python 3.11+ and a C compiler:
#   make serve   environment, packages, model, and a server with a real model behind it
#   make test    environment, packages, model, and every check and test
# make compile takes a third off what a request costs the gateway; make pure goes back to plain Python.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
MODEL  := smollm2-135m-instruct

# The packages of the hot path: setup.py says which of their modules can be compiled.
HOT    := src/headrace/policy src/headrace/wire src/headrace/gateway src/headrace/journal

.PHONY: serve test check format clients fuzz-api compile pure fresh clean
.DEFAULT_GOAL := serve

serve: $(VENV)/.headrace-serve fresh
	@$(BIN)/headrace serve --check $(ARGS) >/dev/null
	@$(BIN)/headrace models pull $(MODEL)
	@exec $(BIN)/headrace serve --first-endpoint smollm2=$(MODEL) $(ARGS)

# Everything as plain Python; then what is compiled, compiled.
test: check pure clients
	@$(BIN)/headrace models pull $(MODEL)
	$(BIN)/pytest $(ARGS)
	@$(MAKE) --no-print-directory compile
	$(BIN)/pytest $(HOT:src/headrace/%=tests/%) $(ARGS)

# Style, types and the directions of imports.
check: $(VENV)/.headrace-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.headrace-test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Client libraries and Schemathesis, in environments of their own: they agree neither with ours nor with each other.
clients: $(VENV)/.headrace-test
	@$(BIN)/python benchmarks/environments.py $(VENV)/clients tests/clients/pins/*.txt

# The REST API against its own document with many more examples than a test takes, for about half an hour.
fuzz-api: clients fresh
	HEADRACE_FUZZ_S=$(or $(HEADRACE_FUZZ_S),60) $(BIN)/pytest tests/clients/test_clients_schemathesis.py $(ARGS)

# The hot path as machine code, in place: a request costs less than half. About a minute.
compile: $(VENV)/.headrace-compiled

$(VENV)/.headrace-compiled: $(VENV)/.headrace-test setup.py $(wildcard $(HOT:=/*.py))
	HEADRACE_COMPILE=1 $(BIN)/python setup.py --quiet build_ext --inplace
	@touch $@

pure:
	@find src -name '*.so' -delete
	@rm -f $(VENV)/.headrace-compiled

# Compiled modules that are older than their sources must not run.
fresh:
	@if [ -e $(VENV)/.headrace-compiled ] && \
	  [ -n "$$(find $(HOT) setup.py -name '*.py' -newer $(VENV)/.headrace-compiled)" ]; then \
	  echo "compiled modules are older than their sources and were removed; make compile builds them anew" >&2; \
	  $(MAKE) --no-print-directory pure; fi

bench-gateway: compile

# Load clients beside each other; it takes no model. QUICK=1 leaves out those that have to be installed.
bench-load: $(VENV)/.headrace-test fresh
	$(BIN)/python benchmarks/load/run.py

# Scaling laws in simulated hours; it takes no model.
bench-scaling: $(VENV)/.headrace-test fresh
	$(BIN)/python benchmarks/scaling/run.py

# make bench-NAME runs benchmarks/NAME; QUICK=1 keeps it under a minute.
bench-%: $(VENV)/.headrace-test fresh
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

clean: pure
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
