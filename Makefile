# What people and .ci/run call. Every target sets itself up; nothing but Python 3.11 or later and make is needed.
.PHONY: demo test four-processes check format bench bench-full clean help

help:  ## this list
	@grep -E '^[a-z-]+:.*##' Makefile | sed 's/:.*##/\t/'

demo: .setup  ## run the whole story on the local sandbox, with both generations of Langfuse
	.venv/bin/tallymark demo
	.venv/bin/tallymark demo --generation observations --traces 10000

test: .setup .sdks  ## run all tests, on all cores
	.venv/bin/python -m pytest -n auto --dist loadfile

four-processes: .setup  ## four processes on one PostgreSQL ledger, one killed every second, for a minute
	FOUR_PROCESSES_SECONDS=60 .venv/bin/python -m pytest tests/crash/test_four_processes.py

check: .setup  ## format, lint, types
	.venv/bin/ruff format --check src tests bench examples scripts
	.venv/bin/ruff check src tests bench examples scripts
	.venv/bin/mypy

format: .setup  ## put the code in order
	.venv/bin/ruff format src tests bench examples scripts
	.venv/bin/ruff check --fix src tests bench examples scripts

bench: .setup  ## measure, as ratios in one run
	.venv/bin/python -m bench

bench-full: .setup  ## measure at 400,000 traces too
	.venv/bin/python -m bench --full

clean:  ## remove what setup and tools made
	rm -rf .venv .venvs .mypy_cache .ruff_cache .pytest_cache .hypothesis dist build

.PHONY: .setup .sdks
.setup:
	@scripts/setup

.sdks:
	@scripts/setup-sdks
