PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
IMAGE ?=

.PHONY: demo test check docs wheel

demo: $(VENV)/.installed  ## compress and restore a photograph (IMAGE=... for your own), and draw the result
	$(BIN)/ulcompress demo $(if $(IMAGE),"$(IMAGE)") --out demo

test: $(VENV)/.installed  ## what CI runs: lint, types, documentation, tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/mkdocs build --quiet
	$(BIN)/pytest -q

check: $(VENV)/.installed  ## lint and types alone, mended where a tool can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/pyright

docs: $(VENV)/.installed  ## the documentation, as site/index.html; opens without a server
	$(BIN)/mkdocs build --quiet

wheel: $(VENV)/.installed  ## the wheel, in dist/
	$(BIN)/pip wheel --no-deps --wheel-dir dist .

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --editable ".[dev]"
	touch $@
