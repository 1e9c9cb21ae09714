# Two commands do everything on a Linux machine with Python 3.11 and pip:
#   make demo     set up .venv, then run the shipped recipe `demo` from base model to report
#   make test     set up .venv, then run all tests
# Options: PYTHON=/path/to/python3.11   SET=gpu (CUDA)   PIP_ARGS='--extra-index-url URL'   PYTEST_ARGS='-k gate'

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= $(shell command -v python3.11 || command -v python3)
SET ?= cpu
PIP_ARGS ?=
PYTEST_ARGS ?=
# Much of the tests' time is waiting, for servers and deadlines: two processes wait at the same time. Tests that share a server
# or an engine stay together (tests/conftest.py). For one process: PYTEST_ARGS='-p no:xdist'.
SHARED_OUT := $(if $(findstring no:xdist,$(PYTEST_ARGS)),,-n 2)
BIN := .venv/bin
# Twice quiet: errors only.
PIP := $(BIN)/python -m pip install -qq --disable-pip-version-check
LOCKS := requirements/$(SET).lock requirements/dev.lock

# The stamp is named after what was installed, not dated: a fresh checkout of the same locks installs nothing again.
STAMP := .venv/.installed-$(SET)-$(shell cat $(LOCKS) pyproject.toml | sha256sum | cut -c1-16)
# Present while pip works; found at the start, it means that an install was interrupted and may have left half a package.
UNFINISHED := .venv/.installing

.PHONY: help demo test lint format install lock clean distclean

help:  ## list the commands
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## */make \1|/' | column -t -s '|'

demo: $(STAMP)  ## run the shipped demo: base model in, better model and report out
	$(BIN)/flywheel run demo

test: $(STAMP)  ## run all tests
	$(BIN)/python -m pytest $(SHARED_OUT) $(PYTEST_ARGS)

lint: $(STAMP)  ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(STAMP)  ## let ruff put style right
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

install: $(STAMP)  ## set up .venv and nothing else

lock: $(STAMP)  ## remake requirements/*.lock (UPGRADE=1: with the newest versions that fit)
	$(BIN)/python requirements/lock.py

clean:  ## remove caches and build leftovers; runs, models and .venv stay
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +

distclean: clean  ## remove .venv as well
	rm -rf .venv

$(STAMP):
	@if [ -z "$(PYTHON)" ] || ! "$(PYTHON)" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))'; then \
	  echo "flywheel needs Python 3.11; found: $$("$(PYTHON)" --version 2>&1 || echo none). Say where it is: make PYTHON=/path/to/python3.11" >&2; exit 2; fi
	@if [ -e $(UNFINISHED) ]; then echo "An earlier install was interrupted; starting .venv afresh."; rm -rf .venv; fi
	@echo "Installing $$(cat $(LOCKS) | grep -c '==') pinned packages into .venv (4 GB on disk; minutes)"
	@"$(PYTHON)" -m venv .venv
	@touch $(UNFINISHED)
	@$(PIP) --no-deps $(PIP_ARGS) $(addprefix -r ,$(LOCKS))
	@$(BIN)/python requirements/check_torch.py $(SET)
	@$(PIP) --no-deps --no-build-isolation -e .
	@rm -f .venv/.installed-* $(UNFINISHED) && touch $@
