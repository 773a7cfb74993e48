# Needs make and Python 3.11 or newer; everything else goes into a virtual environment here, the first time.
#   make serve HOST=0.0.0.0 PORT=9000
#   make test PYTHON=python3.13 VENV=.venv-3.13 TESTS=tests/unit/core
#   make test TIERS=unit
#   make test TESTS=tests/faults OPTIONS='-x --numprocesses=0'

PYTHON ?= python3
VENV   ?= .venv
HOST   ?= 127.0.0.1
PORT   ?= 8080
TESTS  ?= tests
TIERS  ?= (unit or service) and not long
# Many tests wait rather than compute.
TEST_WORKERS ?= 4
OPTIONS ?=

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.DEFAULT_GOAL := help
.PHONY: help serve test test-all check bench clean

help: ## Say what there is
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' Makefile | expand -t 16

serve: $(VENV)/.installed-serve ## Serve the example tasks on HOST:PORT
	@echo 'The example tasks will be at http://$(HOST):$(PORT).  When it says "serving", type in another terminal:'
	@echo
	@echo "  curl -d '{\"limit\": 30}' http://$(HOST):$(PORT)/jobs/primes"
	@echo "  curl -d '{\"width\": 640, \"height\": 480}' -o mandelbrot.png http://$(HOST):$(PORT)/jobs/mandelbrot"
	@echo "  curl http://$(HOST):$(PORT)/stats"
	@echo
	@echo "To serve your own: $(BIN)/offload serve tasks.py.  To stop: Ctrl-C."
	@exec $(BIN)/offload serve --host '$(HOST)' --port '$(PORT)' offload.examples.tasks

test: $(VENV)/.installed-dev ## Run the unit and service tests: all, or those in TESTS
	$(BIN)/python -m pytest -m '$(TIERS)' --numprocesses=$(TEST_WORKERS) --dist=loadscope $(TESTS) $(OPTIONS)

test-all: test ## Run all tests: also clusters, long simulations and other interpreters
	.ci/more-tests

check: $(VENV)/.installed-dev ## Lint, check formatting, types and layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# "make bench overload" is "make bench SCENARIOS=overload": what stands behind bench is no goal of its own.
ifeq (bench,$(firstword $(MAKECMDGOALS)))
SCENARIOS ?= $(wordlist 2,$(words $(MAKECMDGOALS)),$(MAKECMDGOALS))
$(eval $(SCENARIOS):;@:)
endif

bench: $(VENV)/.installed-serve ## Measure, and print tables; OPTIONS=--help says what else it can
	$(BIN)/python -m tests.benchmark $(SCENARIOS) $(OPTIONS)

clean: ## Remove what was made here, the virtual environments included
	rm -rf .venv* .bench build dist service/*.egg-info .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find service tests -name __pycache__ -type d -prune -exec rm -rf {} +

# One stamp for each set of packages: with it in place, nothing is downloaded and no network is needed.
$(VENV)/.installed-serve: $(VENV)/.created pyproject.toml
	@echo "Installing offload into $(VENV) …"
	@$(PIP) --editable .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.created pyproject.toml
	@echo "Installing offload and its development tools into $(VENV) …"
	@$(PIP) --editable '.[dev]'
	@touch $@ $(VENV)/.installed-serve

$(VENV)/.created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "offload needs Python 3.11 or newer, and $(PYTHON) is not. Name one: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
	  echo "$(PYTHON) cannot make virtual environments. On Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
	@touch $@
