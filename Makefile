# What people and .ci/run call. Every target sets itself up; nothing but Python 3.11 or later and make is needed.
.PHONY: demo stories test four-processes crash check format sim bench bench-full bench-publish bench-postgres bench-workers fuzz audit clean help

# Hundreds of tests start Python again: without compiled modules each would compile all that it imports.
unexport PYTHONDONTWRITEBYTECODE

# Tests wait for children and disks about a third of their time.
WORKERS ?= $(shell python3 -c 'import os; print(2 * os.cpu_count())' 2>/dev/null || echo auto)

help:  ## this list
	@grep -E '^[a-z-]+:.*##' Makefile | sed 's/:.*##/\t/'

demo: .setup  ## run the whole story on the local sandbox, with both generations of Langfuse
	.venv/bin/tallymark demo
	.venv/bin/tallymark demo --generation observations --traces 10000

stories: .setup  ## two more stories: answers that never come; corrections, rejections and a closed period
	.venv/bin/tallymark demo --story doubt
	.venv/bin/tallymark demo --story corrections

test: .setup .sdks  ## run all tests, on all cores
	TMPDIR=$$(scripts/scratch) .venv/bin/python -m pytest -n $(WORKERS) --dist worksteal

four-processes: .setup  ## four processes on one PostgreSQL ledger, one killed every second, for a minute
	FOUR_PROCESSES_SECONDS=60 .venv/bin/python -m pytest tests/crash/test_four_processes.py

crash: .setup  ## kill at each side of each step in three scenarios, and not in one as make test does
	TMPDIR=$$(scripts/scratch) CRASH_SCENARIOS=3 .venv/bin/python -m pytest -n $(WORKERS) --dist worksteal tests/crash

sim: .setup  ## simulate crashes, faults and months by seed: SEEDS=10000, START=, JOBS=, MUTANT=, or one again: SEED=123
	@PYTHONPATH=tests .venv/bin/python -m sim.run $(if $(SEED),--seed $(SEED)) $(if $(SEEDS),--seeds $(SEEDS)) \
	  $(if $(START),--start $(START)) $(if $(JOBS),--jobs $(JOBS)) $(if $(MUTANT),--mutant $(MUTANT))

check: .setup  ## format, lint, types
	.venv/bin/ruff format --check src tests bench examples scripts
	.venv/bin/ruff check src tests bench examples scripts
	.venv/bin/mypy

format: .setup  ## put the code in order
	.venv/bin/ruff format src tests bench examples scripts
	.venv/bin/ruff check --fix src tests bench examples scripts

bench: .bench  ## measure, as ratios in one run: a table, a file and a plot in bench/results
	.venv/bin/python -m bench

bench-full: .bench  ## also the memory at 400,000 and 4,000,000 traces: an hour
	.venv/bin/python -m bench --full

bench-publish: .bench  ## put the last figures into docs/benchmarks.json, its plot, and the pages that quote them
	.venv/bin/python -m bench.publish

fuzz: .setup  ## try many more odd answers, files, settings and command lines: make fuzz FACTOR=100
	FUZZ_FACTOR=$(or $(FACTOR),20) .venv/bin/python -m pytest -n auto tests/property -k fuzz

audit:  ## look up all pinned packages among the known vulnerabilities; needs a network
	scripts/audit

bench-postgres: .setup  ## measure a ledger in PostgreSQL against one in SQLite
	.venv/bin/python -m bench.postgres

bench-workers: .setup  ## measure 1, 2 and 4 workers; TRACES=400000: four of them, two killed on the way, tally exact
	.venv/bin/python -m bench.workers $(if $(TRACES),--accept $(TRACES))

clean:  ## remove what setup and tools made
	rm -rf .venv .venvs .mypy_cache .ruff_cache .pytest_cache .hypothesis dist build

.PHONY: .setup .sdks .bench
.setup:
	@scripts/setup

.sdks:
	@scripts/setup-sdks

.bench: .setup
	@.venv/bin/python -c 'import matplotlib' 2>/dev/null || .venv/bin/python -m pip install --quiet \
	  --disable-pip-version-check --constraint constraints/dev.txt --editable '.[bench]'
