PYTHON ?= python3
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
	OMP_NUM_THREADS=1 $(BIN)/pytest -q --numprocesses auto --dist loadfile

check: $(VENV)/.installed  ## lint and types alone, mended where a tool can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/pyright

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --editable ".[dev]"
	touch $@
