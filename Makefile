# One plain command per target; `make help` lists them. Nothing needs to be installed before:
# every target makes .venv when it is missing and installs again when a list of packages changed.

PYTHON ?= python3
VENV ?= .venv
# Where pip may find torch besides its usual index, for example
# https://download.pytorch.org/whl/cpu for the small build without CUDA.
TORCH_INDEX ?=
EXTRAS ?= cpu,fast,demo,dev

comma := ,
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed-$(subst $(comma),-,$(EXTRAS))
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt

.DEFAULT_GOAL := help
.PHONY: demo test check lint audit bench proto golden docs torture-quick torture clean help

demo: $(STAMP)  ## index the bundled sample, search it, show what was lost
	$(BIN)/colreduce demo

test: $(STAMP)  ## run the tests, in two processes side by side
	$(BIN)/python -m tests.side_by_side

check: lint test  ## linters, types, import rules, tests

lint: $(STAMP)  ## linters, types and import rules only
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

audit: $(VENV)/audit/bin/pip-audit  ## look for known weaknesses of what is pinned; needs the network
	$< --requirement constraints.txt --no-deps --disable-pip --strict --progress-spinner off

bench: $(STAMP)  ## run the benchmarks; writes benchmarks/results
	$(BIN)/python -m benchmarks

proto: $(STAMP)  ## make the gRPC code from proto/ again
	PYTHON=$(PYTHON) sh proto/generate.sh

golden: $(STAMP)  ## make the golden files again and print what moved
	$(BIN)/python -m tests.golden.rewrite

docs: $(STAMP)  ## write the generated pages of docs/ again
	$(BIN)/python docs/write_methods.py
	$(BIN)/python docs/write_commands.py

torture-quick: $(STAMP)  ## the short crash campaign, a few minutes; the tests run it, too
	$(BIN)/python -m tests.reliability.campaign --tier quick --jobs 2

torture: $(STAMP)  ## the whole crash campaign, an hour or two
	$(BIN)/python -m tests.reliability.campaign --tier nightly --jobs 2

clean:  ## remove .venv and every cache
	rm -rf $(VENV) dist .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache

help:  ## print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# It stands apart, so that what it needs is no part of what it looks at.
$(VENV)/audit/bin/pip-audit:
	$(PYTHON) -m venv $(VENV)/audit
	$(VENV)/audit/bin/python -m pip --disable-pip-version-check install --quiet "pip-audit>=2.9"

# torch comes first and alone, so that TORCH_INDEX is asked for torch and for nothing else.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo "colreduce needs Python 3.11 or newer; name one: make PYTHON=python3.12"; exit 1; }
	test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV)
	$(PIP) $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) torch
	$(PIP) --editable ".[$(EXTRAS)]"
	@touch $@
