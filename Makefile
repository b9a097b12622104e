# One entry for every chore. Everything is installed into .venv (bench: .venv-bench); nothing outside this directory.
# A stamp file remembers what an environment was made from, so a repeated target starts at once.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory --no-builtin-rules

PYTHON ?= python3
# Tests wait more than they compute: for leases, for processes that start, for databases.
TEST_PROCESSES ?= 3
BIN := .venv/bin
PIP_FLAGS := --quiet --disable-pip-version-check --no-input
# pip warns when root installs, even into an environment of its own.
export PIP_ROOT_USER_ACTION := ignore

.PHONY: help run test check chaos bench docs lock clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-7s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: .venv/.stamp-run ## Start the service on SQLite and drive one run to its validated final frame
	@$(BIN)/python examples/run_main.py

test: check tests/model/node_modules/.stamp ## check, then every test on real SQLite and PostgreSQL, with coverage
	@mkdir -p .reports
	@$(BIN)/python -m pytest -n $(TEST_PROCESSES) --dist worksteal --cov --cov-report=term --cov-report=json:.reports/coverage.json \
		--junit-xml=.reports/junit.xml $(PYTEST_ARGS)
	@$(BIN)/python -m tests.house.rooms .reports/coverage.json

check: .venv/.stamp-test ## Style, types, import layers and house rules (seconds)
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/mypy --no-error-summary
	@$(BIN)/lint-imports --no-logo
	@$(BIN)/python -m pytest -q --no-header tests/house

chaos: .venv/.stamp-test tests/model/node_modules/.stamp ## Break processes, the database, connections and clocks under load, and audit every run
	@$(BIN)/python -m tests.chaos $(CHAOS_ARGS)

bench: .venv-bench/.stamp ## Measure, next to other engines, in an environment of its own
	@.venv-bench/bin/python -m bench $(BENCH_ARGS)

docs: .venv/.stamp-run ## Write the generated pages under docs/
	@$(BIN)/python docs/generate.py

lock: ## Rewrite constraints.txt from a clean environment (after changing a version in pyproject.toml)
	@$(PYTHON) tests/house/lock.py

clean: ## Remove environments, caches and reports
	@rm -rf .venv .venv-bench tests/model/node_modules .reports .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .coverage*

# --- environments ---

.venv/bin/python:
	@echo "making .venv with $$($(PYTHON) --version)"
	@$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else "flex needs Python 3.11 or newer; say PYTHON=...")'
	@$(PYTHON) -m venv .venv

.venv/.stamp-run: pyproject.toml constraints.txt | .venv/bin/python
	@echo "installing flex into .venv"
	@$(BIN)/pip install $(PIP_FLAGS) -e . -c constraints.txt
	@touch $@

.venv/.stamp-test: pyproject.toml constraints.txt | .venv/bin/python
	@echo "installing flex and its test tools into .venv"
	@$(BIN)/pip install $(PIP_FLAGS) -e '.[test]' -c constraints.txt
	@touch .venv/.stamp-run $@

tests/model/node_modules/.stamp: tests/model/package.json tests/model/package-lock.json
	@command -v npm >/dev/null || { echo "the tests need Node.js 20 or newer, with npm"; exit 1; }
	@echo "installing the model server of the tests into tests/model"
	@npm ci --prefix tests/model --no-audit --no-fund --loglevel=error
	@touch $@

.venv-bench/bin/python:
	@echo "making .venv-bench with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv .venv-bench

.venv-bench/.stamp: pyproject.toml constraints.txt bench/requirements.txt | .venv-bench/bin/python
	@echo "installing flex and what it is measured against into .venv-bench"
	@.venv-bench/bin/pip install $(PIP_FLAGS) -e '.[test]' -r bench/requirements.txt -c constraints.txt
	@touch $@
