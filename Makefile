# make lab    everything from nothing to a ping through Geneve, as an ordinary user, nothing installed
# make test   the tests of each change: every behaviour of a local lab
# make test-machines    those of virtual machines, of machines by SSH, and of what is compiled
# make test-all    all tests, at their full strength
# make lint   types and style, and shellcheck of the rendered scripts
# make site   the documentation as a site with search, in site/
# make bench  the figures of docs/speed.md

# The first Python 3.11 or newer that can make a virtual environment.
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11 /usr/bin/python3; do \
	$$p -c 'import sys, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
# What fails before a pipe fails.
SHELL := /bin/bash
.SHELLFLAGS := -o pipefail -c
# Workers that share the tests. More than two, and the machines of tests/vm wait for one another.
JOBS ?= 2
PYTEST = $(BIN)/python -m pytest --numprocesses=$(JOBS) --dist=loadfile --no-loadscope-reorder
# pip says which packages it collects: that takes a minute where none is cached.
PIP = $(BIN)/python -m pip install --disable-pip-version-check --progress-bar off
TELL = awk '/^(Collecting|Installing)/ { print "  " $$1, $$2; fflush() }'

.PHONY: lab test test-machines test-all lint site bench clean

lab: .venv/installed
	@set -e; found=$$($(BIN)/ovnlab doctor) || { \
		printf '%s\n\n%s\n' "$$found" 'Mend it as shown, or with: $(BIN)/ovnlab doctor --fix'; exit 3; }; \
	run() { printf '\n$$ %s\n' "$$*"; $(BIN)/"$$@"; }; \
	run ovnlab up topologies/3node.yaml; \
	run ovnlab bind vm1 worker1; \
	run ovnlab bind vm2 worker2; \
	run ovnlab ping vm1 vm2; \
	printf '\nThe lab is up. Go on with .venv/bin/ovnlab status, or end it with .venv/bin/ovnlab down\n'

test: .venv/installed-for-tests
	$(PYTEST) -m 'not thorough and not machines' $(PYTEST_ARGS)

test-machines: .venv/installed-for-tests
	$(PYTEST) -m 'machines and not thorough' $(PYTEST_ARGS)

# Each command line gets an interpreter of its own there, and Hypothesis tries ten times as many examples.
test-all: .venv/installed-for-tests
	OVNLAB_TESTS_FRESH=1 HYPOTHESIS_PROFILE=thorough $(PYTEST) -m 'thorough or not thorough' $(PYTEST_ARGS)

lint: .venv/installed-for-tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m tests.shellcheck

site: .venv/installed
	@$(BIN)/python -c 'import mkdocs' 2>/dev/null || $(PIP) --editable '.[docs]' | $(TELL)
	$(BIN)/python -m mkdocs build --quiet

bench: .venv/installed-for-tests
	$(BIN)/python -m benchmarks

.venv/bin/python:
	@test -n '$(PYTHON)' || { echo 'Python 3.11 or newer with venv is needed: sudo apt-get install python3-venv' >&2; exit 3; }
	@echo 'setting up a virtual environment with $(PYTHON)'
	@$(PYTHON) -m venv .venv

.venv/installed: pyproject.toml | .venv/bin/python
	@echo 'installing what ovnlab needs into .venv'
	@$(PIP) --editable . | $(TELL)
	@touch $@

.venv/installed-for-tests: pyproject.toml | .venv/bin/python
	@echo 'installing what ovnlab and its tests need into .venv'
	@$(PIP) --editable '.[dev]' | $(TELL)
	@if pkg-config --exists libvirt 2>/dev/null; then $(PIP) --editable '.[libvirt]' | $(TELL); fi
	@touch .venv/installed $@

clean:
	rm -rf site .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis
