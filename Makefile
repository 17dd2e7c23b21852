# make setup   virtual environment in .venv with everything needed (about 3 GB the first time)
# make demo    data, training, evaluation and pictures on the synthetic benchmark
# make test    the tests, without the slow ones; make test-slow runs those
# make fuzz    100,000 damaged files and random values; a minute of it is part of make test
# make trials  break trainings on purpose (kills, dead workers, broken images, full disks), count the outcomes
# make lint    ruff and mypy; make format repairs what ruff can
# make pin     resolve requirements/pinned.txt anew (needs uv)
#
# PYTHON=python3.12 chooses the interpreter, JOBS=4 the number of test processes, ARGS="-k ranks" goes to pytest
# (or to the demo).

SHELL := /bin/sh
PYTHON ?= python3
JOBS ?= 2
ARGS ?=
VENV := .venv/bin/python
PIP := $(VENV) -m pip --disable-pip-version-check install --root-user-action=ignore
LINTED := train_net.py sor_ppa_cli.py sor_ppa tools demo tests benchmarks
# the editable install holds the path of the checkout, so a moved checkout installs it again
PACKAGE := .venv/.package-$(firstword $(shell pwd | cksum))

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-slow fuzz trials lint format pin clean clean-venv
.DELETE_ON_ERROR:

help:
	@sed -n 's/^# \{0,1\}//p;/^$$/q' Makefile

# A .venv that is a link is somebody's own environment and is used as it is.
setup: $(if $(shell test -L .venv && echo link),,$(PACKAGE))

.venv/.created:
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
		echo "setup: expected Python 3.10 or later, found none at '$(PYTHON)'; name one: make setup PYTHON=..."; exit 1; }
	@echo "[1/4] virtual environment"
	@"$(PYTHON)" -m venv --clear .venv || { \
		echo "setup: $(PYTHON) has no venv module (Debian, Ubuntu: sudo apt-get install python3-venv)"; exit 1; }
	@touch $@

.venv/.pinned: requirements/pinned.txt | .venv/.created
	@free=$$(df -Pk . | awk 'NR == 2 { print int($$4 / 1000000) }'); test -e $@ || test "$$free" -ge 8 || { \
		echo "setup: expected 8 GB of free disk space in $$(pwd), found $$free GB"; exit 1; }
	@echo "[2/4] torch and the other libraries (the first time: 2.9 GB to download, some minutes)"
	@$(PIP) --no-deps --require-hashes -r requirements/pinned.txt
	@touch $@

.venv/.detectron2: tools/install_detectron2.py tools/detectron2_edits.py .venv/.pinned
	@echo "[3/4] detectron2"
	@PIP_NO_DEPS=1 $(VENV) tools/install_detectron2.py
	@touch $@

$(PACKAGE): pyproject.toml .venv/.detectron2
	@echo "[4/4] sor_ppa itself (editable)"
	@$(PIP) -q --no-deps --no-build-isolation -e .
	@$(VENV) -c "import sor_ppa"
	@touch $@

demo: setup
	@$(VENV) tools/run_demo.py $(ARGS)

test: setup
	@OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} $(VENV) -m pytest -n $(JOBS) -m "not slow" $(ARGS)

test-slow: setup
	@OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} $(VENV) -m pytest -n $(JOBS) -m slow $(ARGS)

fuzz: setup
	@OMP_NUM_THREADS=1 $(VENV) -m tests.fuzz $(ARGS)

trials: setup
	@OMP_NUM_THREADS=1 $(VENV) tools/trials.py $(ARGS)

lint: setup
	@$(VENV) -m ruff check $(LINTED)
	@$(VENV) -m ruff format --check $(LINTED)
	@$(VENV) -m mypy

format: setup
	@$(VENV) -m ruff check --fix $(LINTED)
	@$(VENV) -m ruff format $(LINTED)

pin:
	uv pip compile requirements/pinned.in pyproject.toml --all-extras --override requirements/overrides.txt \
		--universal --python-version 3.10 --generate-hashes --no-annotate --no-header -o requirements/pinned.txt

clean:
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis

clean-venv:
	rm -rf .venv
