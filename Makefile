# Everything a developer runs. A fresh clone needs Python 3.11 or newer with its venv module, and make; the targets make
# their environment themselves and bring it up to date when pyproject.toml has changed.

PYTHON ?= python3
DEMO_ARGS ?=
BENCH_ARGS ?=
# A letter for each test, then what failed: a list of 3,000 that passed would hide it.
TRIAL_ARGS ?= --reporter=text

VENV := .venv
BIN := $(VENV)/bin
PEERS_VENV := .venv-peers
# What `make bench` compares with and what is not installed beside this library: one cannot be, by its import name.
PEERS := asynqueue==0.9.9 joblib pebble

PROCESS_TESTS := test.test_process_worker test.test_process_faults test.test_process_surroundings
# The rows of the fault matrix, which run on both reactors in `make test`.
MATRIX_TESTS := test.test_process_faults test.test_process_surroundings

PIP_INSTALL := -m pip install --quiet --disable-pip-version-check

.DEFAULT_GOAL := help
.PHONY: help demo test soak lint docs bench clean
# Two targets at once would install into one environment at once.
.NOTPARALLEL:

help: ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-6s %s\n", $$1, $$2 }' Makefile

demo: $(VENV)/.installed-cli ## run the demonstration, with DEMO_ARGS
	$(BIN)/python -m demo $(DEMO_ARGS)

# `-m` puts this folder first on the path, before the package `test` that CPython has itself.
# The tests of process workers that are about faults run on another reactor, too. So do no others: what those are about
# does not depend on how the reactor waits.
test: $(VENV)/.installed-test ## run all tests: trial's, then pytest's
	$(BIN)/python -m twisted.trial $(TRIAL_ARGS) test
	$(BIN)/python -m twisted.trial $(TRIAL_ARGS) --reactor=asyncio $(MATRIX_TESTS)
	$(BIN)/python -m pytest

soak: $(VENV)/.installed-test ## run the tests of child processes at full length
	ASYNQUEUE_SOAK=1 $(BIN)/python -m twisted.trial $(PROCESS_TESTS)
	ASYNQUEUE_SOAK=1 $(BIN)/python -m twisted.trial --reactor=asyncio $(PROCESS_TESTS)

lint: $(VENV)/.installed-lint ## check style, formatting and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy asynqueue test demo bench

docs: $(VENV)/.installed-docs ## build the documentation into doc/_build/html
	$(BIN)/sphinx-build -W --keep-going -b html doc doc/_build/html

bench: $(VENV)/.installed-cli $(PEERS_VENV)/.installed ## measure, with BENCH_ARGS
	$(BIN)/python -m bench $(BENCH_ARGS)

clean: ## remove everything that the other targets made
	rm -rf $(VENV) $(PEERS_VENV) build dist doc/_build *.egg-info _trial_temp* .hypothesis
	rm -rf .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Stamps: each is touched when what it stands for is complete, so that an interrupted step is done again.

$(VENV)/.created $(PEERS_VENV)/.created:
	$(PYTHON) -m venv $(@D)
	touch $@

# .installed-EXTRA: the library, editable, with one of the extras of pyproject.toml.
$(VENV)/.installed-%: pyproject.toml | $(VENV)/.created
	$(BIN)/python $(PIP_INSTALL) --editable '.[$*]'
	touch $@

$(PEERS_VENV)/.installed: Makefile | $(PEERS_VENV)/.created
	$(PEERS_VENV)/bin/python $(PIP_INSTALL) $(PEERS)
	touch $@
