# The Python that constraints.txt was made with comes first.
PYTHON ?= $(firstword $(foreach python,python3.11 python3.12 python3.13 python3,$(shell command -v $(python))))
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/installed

# The tensors of the tests are too small to be shared among threads, which wait for each other:
# processes, each with one thread, go through the files of tests.
WORKERS ?= 2
test: export OMP_NUM_THREADS ?= 1

.PHONY: demo test lint types check docs browser install clean

## demo: install, adapt a model in about three minutes and write runs/demo/report.html
demo: install
	$(BIN)/bruno demo --overwrite

## test: install and run every test, in two processes or WORKERS=n
test: install
	$(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: install
	$(BIN)/mypy

## check: lint, format, types and tests
check: lint types test

## docs: install and build the documentation site, docs/_build/html/index.html; notebooks are run,
## for less time with FAST=1, and every warning is an error
docs: install
	OMP_NUM_THREADS=1 BRUNO_FAST_NOTEBOOKS=$(FAST) \
	  $(BIN)/python -m sphinx --fail-on-warning --keep-going --quiet docs docs/_build/html
	@echo docs/_build/html/index.html

## browser: what tests of the page need besides Chromium, which is Debian's (apt-get install chromium)
browser: install
	npm install --no-save --no-package-lock --silent axe-core@4.14.1

install: $(INSTALLED)

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(INSTALLED): pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) build dist docs/_build docs/api runs .pytest_cache .mypy_cache .ruff_cache
