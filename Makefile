# Every target sets up first; `make setup` does nothing when .venv is complete.
# Another Python than python3:  make PYTHON=python3.12 book

PYTHON ?= python3
RUN := .venv/bin/python -m
SHELL := /bin/bash
START := $(shell date +%s)
# The tests run side by side, so each keeps to one core; the tests of a file share what they make.
# One more than there are cores, since tests of pages and clusters wait for others half of the time.
TEST_WORKERS ?= $(shell $(PYTHON) -c 'import os; print(min(8, (os.cpu_count() or 1) + 1))')

# One sentence instead of make's own where there is no Python.
HAVE_PYTHON = command -v $(PYTHON) >/dev/null || { echo 'mflib needs Python 3.11 or newer, and there is no $(PYTHON) here: install one, or name it, as in "make PYTHON=python3.12".' >&2; exit 1; }
# Where the course is made, and the file with the students' ids.
COURSE ?= course
# Where the jobs of make results go: local, slurm, kubernetes.
EXECUTOR ?= local
STUDENTS ?= students.csv

.PHONY: help setup classroom cluster book test lint bench results faults assignments tokens clean

help:
	@echo 'make book         execute every notebook and build the book (what is up to date is kept)'
	@echo 'make test         run the tests'
	@echo 'make lint         check style and types'
	@echo 'make bench        run the benchmarks; one JSON line per measurement'
	@echo 'make results      compute what is missing of the full-scale tables in results/ (hours on a GPU; EXECUTOR=slurm on a cluster)'
	@echo 'make faults       break everything on purpose, count what comes of it, and write the tables in results/ (half an hour)'
	@echo 'make assignments  make the course folder (COURSE=course): every assignment checked, its release without solutions'
	@echo 'make tokens       give every id in STUDENTS=students.csv a token, in COURSE/tokens.csv'
	@echo 'make setup        make the environment, .venv, that all of these use'
	@echo 'make classroom    add nbgrader and JupyterLab to it'
	@echo 'make cluster      add what sends sweeps to Slurm and Kubernetes'
	@echo 'make clean        remove what was made, but not .venv, results, courses, runs/ and notebooks kept with -o'
	@echo 'Another Python than python3:  make PYTHON=python3.12 book'

setup:
	@$(HAVE_PYTHON)
	@$(PYTHON) tools/environment.py

classroom:
	@$(HAVE_PYTHON)
	@$(PYTHON) tools/environment.py classroom

cluster:
	@$(HAVE_PYTHON)
	@$(PYTHON) tools/environment.py cluster

book: setup
	@MFLIB_FOLLOW_PARENT=1 $(RUN) mflib.build book $(START)

test:
	@$(HAVE_PYTHON)
	@$(PYTHON) tools/environment.py classroom cluster
	@OMP_NUM_THREADS=1 $(RUN) pytest -n $(TEST_WORKERS) --dist loadfile --no-loadscope-reorder

lint: setup
	@$(RUN) ruff check .
	@$(RUN) ruff format --check .
	@$(RUN) mypy

bench: setup
	@for file in benchmarks/*.py; do .venv/bin/python $$file || exit 1; done

results: setup
	@$(RUN) mflib.cli results run --executor $(EXECUTOR)

faults:
	@$(HAVE_PYTHON)
	@$(PYTHON) tools/environment.py classroom cluster
	@OMP_NUM_THREADS=1 $(RUN) pytest -n $(TEST_WORKERS) tests/faults --record results/faults.csv
	@.venv/bin/python tools/record_overhead.py

assignments: classroom
	@$(RUN) mflib.classroom make --course "$(COURSE)"

tokens: classroom
	@$(RUN) mflib.classroom tokens --course "$(COURSE)" "$(STUDENTS)"

clean:
	rm -rf _build .snakemake .pytest_cache .mypy_cache .ruff_cache .hypothesis
	rm -f $(patsubst %.py,%.ipynb,$(wildcard notebooks/*.py)) notebooks/*.failed.ipynb
