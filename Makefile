# What can be done here: `make help`.
#
# Everything lives in .venv. It is made once, and brought up to date only when the files that decide its content change
# (the stamp files in .venv/.stamps remember). PYTHON=/path/to/python chooses another interpreter.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules

VENV   := .venv
BIN    := $(VENV)/bin
STAMPS := $(VENV)/.stamps
ENGINE := $(wildcard src/headgate/engine/*.pyx src/headgate/engine/*.pxd src/headgate/engine/*.pxi)
# Strategies that are compiled as they stand: those with a .pxd beside them.
TYPED  := $(wildcard src/headgate/balancing/*.pxd)
# Arguments for pytest and for the benchmark: make test ARGS='-k sticky', make bench ARGS='--quick --case small'.
ARGS   ?=

.PHONY: help venv run test lint types docs build bench bench-profile bench-memory bench-check bench-order bench-scale bench-scrape transcripts-tls simulate fuzz faults-long soak soak-ops tls-audit screenshots sanitize clean

help: ## Show this list
	@echo 'make <target>, where <target> is one of:'
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-11s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

venv: $(STAMPS)/ready ## Make .venv with Headgate and its development tools in it

run: venv ## Build, start three example backends, and balance over them
	@$(BIN)/headgate demo $(ARGS)

# Most tests wait most of their time, so four share two cores well. Those in ALONE load the machine themselves, run their
# own parts side by side, and compare latencies.
JOBS  ?= 4
ALONE := $(wildcard tests/faults tests/ops)

test: lint types ## Build, check style and types, run every test
ifeq ($(strip $(ARGS)),)
	@$(BIN)/python -m pytest -n $(JOBS) --dist loadfile $(ALONE:%=--ignore=%)
	@$(if $(ALONE),$(BIN)/python -m pytest $(ALONE))
else
	@$(BIN)/python -m pytest $(ARGS)
endif

lint: venv ## Check style and formatting (ruff)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: venv ## Check types (mypy, strict)
	@$(BIN)/mypy

docs: venv ## The documentation as a site, in build/docs
	@$(BIN)/python -m sphinx --quiet --fail-on-warning --builder html docs build/docs
	@echo 'Open build/docs/index.html'

build: venv ## Make dist/*.tar.gz and dist/*.whl, and try that the one builds the other
	@rm -rf dist
	@$(BIN)/python -m build --sdist --outdir dist .
	@# The wheel is built from the sdist, not from this tree: a file missing from the sdist fails here.
	@$(BIN)/python -m pip wheel --no-deps --wheel-dir dist dist/*.tar.gz
	@$(BIN)/python tools/check_dist.py dist

bench: venv ## Compare CPU per request with nginx, HAProxy and Caddy: most of an hour; ARGS='--quick --case small'
	@$(BIN)/python -m bench.run $(ARGS)

bench-profile: venv ## Where each microsecond of a request goes: system calls, parts of the engine, strategy (needs perf)
	@$(BIN)/python -m bench.profile $(ARGS)

bench-memory: venv ## Memory at start, per idle client, and under slow readers, beside nginx and HAProxy
	@$(BIN)/python -m bench.memory $(ARGS)

bench-check: venv ## Count instructions per request: not 5 % more than before this change (needs valgrind)
	@$(BIN)/python -m bench.check $(ARGS)

simulate: venv ## Compare all strategies in the simulated scenario: 50 minutes of processor time, on all cores
	@$(BIN)/headgate simulate --out bench/results/simulation $(ARGS)

bench-order: venv ## Does the simulated order of the strategies hold for real processes, nginx and HAProxy? 10 minutes
	@$(BIN)/python -m bench.order $(ARGS)

bench-scale: venv ## 4,000 routes and 5,000 backends: load, check, reload, and what a request costs
	@$(BIN)/python -m bench.scale $(ARGS)

bench-scrape: venv ## What a scrape of /metrics costs with 1,000 backends, and whether traffic notices
	@$(BIN)/python -m bench.scrape $(ARGS)

transcripts-tls: venv ## All transcripts with TLS on both sides
	@HEADGATE_TRANSCRIPTS_TLS=both $(BIN)/python -m pytest -q tests/transcripts $(ARGS)

sanitize: venv ## Build the engine with AddressSanitizer and UBSan; codec, unit, transcripts, fuzz, some e2e, in 15 minutes
	@tools/sanitize.sh $(BIN)/python $(ARGS)

# How many times as long as in `make test`; some minutes.
FUZZ ?= 50

fuzz: venv ## Fuzz the codec and the running engine, FUZZ=50 times as long as `make test` does
	@HEADGATE_FUZZ=$(FUZZ) $(BIN)/python -m pytest tests/protocol/test_differential.py tests/fuzz $(ARGS)

faults-long: venv ## The fault matrix with faults as long as they are in practice
	@HEADGATE_FAULTS=long $(BIN)/python -m pytest tests/faults/test_matrix.py $(ARGS)

# Seconds; ten minutes.
SOAK ?= 600

tls-audit: venv ## testssl.sh against Headgate and nginx side by side: nothing worse than nginx; ten minutes
	@$(BIN)/python -m tests.tls_audit

soak: venv ## Mixed load with random faults for SOAK=600 seconds: no wrong byte, no growth, counters that add up
	@$(BIN)/python -m tests.faults.soak --seconds $(SOAK) $(ARGS)

soak-ops: venv ## Full load for a minute while workers die, configurations change and versions too
	@$(BIN)/python -m tests.ops.soak 60

screenshots: venv ## Make the pictures of the dashboard in docs/images (needs chromium)
	@$(BIN)/python tools/screenshots.py

clean: ## Remove everything that was built, .venv too
	@rm -rf $(VENV) build dist bench/results .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage src/*.egg-info
	@rm -f $(foreach kind,so c html,src/headgate/engine/*.$(kind) src/headgate/balancing/*.$(kind))
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# --- how .venv comes to be ---------------------------------------------------------------------------------------

$(BIN)/python:
	@tools/make_venv.sh $(VENV) $(PYTHON)

# The package (which compiles the engine) and its tools; afterwards a change of the engine needs the compiler only.
$(STAMPS)/ready: pyproject.toml setup.py $(ENGINE) $(TYPED) $(TYPED:.pxd=.py) | $(BIN)/python
	@mkdir -p $(STAMPS)
	@if [ -n '$(filter pyproject.toml setup.py,$?)' ]; then \
	    echo 'Installing Headgate and its development tools into $(VENV) …'; \
	    $(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'; \
	else \
	    echo 'Compiling the engine …'; \
	    $(BIN)/python setup.py --quiet build_ext --inplace; \
	fi
	@touch $@
