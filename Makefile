# The first on the path that is of a known version and can make an environment.
VERSIONS := 11 12 13 14
FITS := import ensurepip, sys, venv; sys.exit(sys.version_info[0] != 3 or str(sys.version_info[1]) not in "$(VERSIONS)".split())
PYTHON ?= $(shell for python in python3 $(VERSIONS:%=python3.%); do \
	$$python -c '$(FITS)' 2> /dev/null && echo $$python && break; done)
VENV := .venv
BIN := $(VENV)/bin
IMAGE ?=

.PHONY: demo test check

demo: $(VENV)/.installed  ## compress and restore a photograph (IMAGE=... for your own), and draw the result
	$(BIN)/ulcompress demo $(if $(IMAGE),"$(IMAGE)") --out demo

test: $(VENV)/.installed  ## what CI runs: lint, types, tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/pytest -q

check: $(VENV)/.installed  ## lint and types alone, mended where a tool can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/pyright

$(VENV)/.installed: pyproject.toml
	@$(or $(PYTHON),false) -c '$(FITS)' 2> /dev/null || { \
		echo "ulcompress needs Python 3.11, 3.12, 3.13 or 3.14 with its module venv; give one: make PYTHON=/usr/bin/python3.12" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --editable ".[dev]"
	touch $@
