# The first Python on the path that can make the environment.
MINORS := 11 12 13 14
FITS := import ensurepip, sys, venv; sys.exit(sys.version_info[0] != 3 or str(sys.version_info[1]) not in "$(MINORS)".split())
PYTHON ?= $(shell for python in python3 $(MINORS:%=python3.%); do \
	if $$python -c '$(FITS)' 2> /dev/null; then echo $$python; break; fi; done)
VENV := .venv
BIN := $(VENV)/bin
IMAGE ?=

# 2026-11: the theme advertises another program in every build.
export NO_MKDOCS_2_WARNING := 1

.PHONY: demo test check docs wheel

demo: $(VENV)/.installed  ## compress and restore a photograph (IMAGE=... for your own), and draw the result
	$(BIN)/ulcompress demo $(if $(IMAGE),"$(IMAGE)") --out demo

test: $(VENV)/.installed  ## what CI runs: lint, types, documentation, tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/mkdocs build
	OMP_NUM_THREADS=1 $(BIN)/pytest -q --numprocesses auto --dist loadfile

check: $(VENV)/.installed  ## lint and types alone, mended where a tool can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/pyright

# With --quiet warnings would not count as errors.
docs: $(VENV)/.installed  ## the documentation, as site/index.html; opens without a server
	$(BIN)/mkdocs build

wheel: $(VENV)/.installed  ## the wheel, in dist/
	$(BIN)/pip wheel --no-deps --wheel-dir dist .

$(VENV)/.installed: pyproject.toml
	@$(or $(PYTHON),false) -c '$(FITS)' 2> /dev/null || \
		{ echo "needs Python 3.11, 3.12, 3.13 or 3.14 with its module venv; say where: make PYTHON=/path/to/python3" >&2; false; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --editable ".[dev]"
	touch $@
