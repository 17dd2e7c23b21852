# make setup   virtual environment in .venv with everything needed (about 3 GB the first time)
# make demo    data, training, evaluation and pictures on the synthetic benchmark
# make test    the tests, without the slow ones; make test-slow runs those
# make lint    ruff and mypy; make format repairs what ruff can
#
# PYTHON=python3.12 chooses the interpreter, JOBS=4 the number of test processes, ARGS="-k ranks" goes to pytest
# (or to the demo).

SHELL := /bin/sh
PYTHON_GIVEN := $(if $(filter command environment override,$(firstword $(origin PYTHON))),--explicit)
PYTHON ?= python3
JOBS ?= 2
ARGS ?=
VENV := .venv/bin/python
LINTED := setup.py train_net.py sor_ppa tools demo tests benchmarks

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-slow lint format clean clean-venv

help:
	@sed -n 's/^# \{0,1\}//p;/^$$/q' Makefile

setup:
	@command -v "$(PYTHON)" >/dev/null || { echo "setup: $(PYTHON) not found; install Python 3.10 or later" \
		"(Debian and Ubuntu: sudo apt-get install python3 python3-venv) or name one: make setup PYTHON=..."; exit 1; }
	@"$(PYTHON)" -c 'import sys; v = sys.version_info; v >= (3, 10) or sys.exit("setup: $(PYTHON) is Python %d.%d, " \
		"sor_ppa needs 3.10 or later; name one: make setup PYTHON=python3.11" % v[:2])'
	@"$(PYTHON)" tools/setup_env.py $(PYTHON_GIVEN)

demo: setup
	@$(VENV) tools/run_demo.py $(ARGS)

test: setup
	@OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} $(VENV) -m pytest -n $(JOBS) -m "not slow" $(ARGS)

test-slow: setup
	@OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} $(VENV) -m pytest -n $(JOBS) -m slow $(ARGS)

lint: setup
	@$(VENV) -m ruff check $(wildcard $(LINTED))
	@$(VENV) -m ruff format --check $(wildcard $(LINTED))
	@$(VENV) -m mypy

format: setup
	@$(VENV) -m ruff check --fix $(wildcard $(LINTED))
	@$(VENV) -m ruff format $(wildcard $(LINTED))

clean:
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis

clean-venv:
	rm -rf .venv
