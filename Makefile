# Everything a fresh machine needs: `make demo` and `make test` set up by themselves.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUN ?= runs/demo
EXTRAS := cpu,serve,explain,map,plots,dev

.PHONY: check setup demo test test-fast check-slow fmt lint types plan clean

check: lint types plan test

setup: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml constraints.txt tools/setup.sh
	@PYTHON=$(PYTHON) EXTRAS=$(EXTRAS) bash tools/setup.sh $(VENV)
	@touch $@

demo: setup
	$(BIN)/monoscope demo --out $(RUN)

test: setup lint
	@bash tools/browser.sh
	$(BIN)/python -m pytest -m "not slow"

test-fast: setup
	$(BIN)/python -m pytest -m "not slow and not browser" --ignore tests/crash

check-slow: setup
	$(BIN)/python -m pytest -m slow -s

fmt: setup
	$(BIN)/ruff format src tests benchmarks examples
	$(BIN)/ruff check --fix src tests benchmarks examples

lint: setup
	$(BIN)/ruff format --check src tests benchmarks examples
	$(BIN)/ruff check src tests benchmarks examples

types: setup
	$(BIN)/pyright

plan: setup
	$(BIN)/python -m pytest tests/test_floor_plan.py

bench-saelens-load: bench-saelens_load

bench-%: setup
	$(BIN)/python benchmarks/$*.py --run $(RUN)

clean:
	rm -rf $(VENV) build dist
