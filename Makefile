# make lab    everything from nothing to a ping through Geneve, as an ordinary user, nothing installed
# make test   the tests of each change
# make test-all    all tests
# make lint   types and style
# make bench  the figures of the README

# The first Python 3.11 or newer that can make a virtual environment.
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11 /usr/bin/python3; do \
	$$p -c 'import sys, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
# Workers that share the tests. More than two, and the machines of tests/vm wait for one another.
JOBS ?= 2
PYTEST = $(BIN)/python -m pytest --numprocesses=$(JOBS) --dist=loadfile --no-loadscope-reorder

.PHONY: lab test test-all lint bench clean

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
	$(PYTEST) $(PYTEST_ARGS)

test-all: .venv/installed-for-tests
	OVNLAB_TESTS_FRESH=1 $(PYTEST) -m 'thorough or not thorough' $(PYTEST_ARGS)

lint: .venv/installed-for-tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: .venv/installed-for-tests
	$(BIN)/python -m benchmarks

.venv/bin/python:
	@test -n '$(PYTHON)' || { echo 'Python 3.11 or newer with venv is needed: sudo apt-get install python3-venv' >&2; exit 3; }
	@echo 'setting up a virtual environment with $(PYTHON)'
	@$(PYTHON) -m venv .venv

.venv/installed: pyproject.toml | .venv/bin/python
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

.venv/installed-for-tests: pyproject.toml | .venv/bin/python
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@if pkg-config --exists libvirt 2>/dev/null; then \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[libvirt]'; fi
	@touch .venv/installed $@

clean:
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis
