# Needs make and Python 3.11 or newer. Everything else is installed into a virtual environment here, the first time.
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

help: ## List the targets
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' Makefile | expand -t 18

serve: $(VENV)/.installed-serve ## Serve the example tasks on HOST:PORT
	@echo 'Serving the example tasks on http://$(HOST):$(PORT). When the log says "serving", type in another terminal:'
	@echo
	@echo "  curl -d '{\"limit\": 30}' http://$(HOST):$(PORT)/jobs/primes"
	@echo "  curl -d '{\"width\": 320, \"height\": 240}' -o mandelbrot.png http://$(HOST):$(PORT)/jobs/mandelbrot"
	@echo "  curl http://$(HOST):$(PORT)/stats"
	@echo
	@echo "To serve your own: $(BIN)/offload serve tasks.py. To stop: Ctrl-C."
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

# "make bench overload" is "make bench SCENARIOS=overload": the words after bench are not targets of their own.
ifeq (bench,$(firstword $(MAKECMDGOALS)))
SCENARIOS ?= $(wordlist 2,$(words $(MAKECMDGOALS)),$(MAKECMDGOALS))
$(eval $(SCENARIOS):;@:)
endif

bench: $(VENV)/.installed-serve ## Run the benchmark; OPTIONS=--help lists its options
	$(BIN)/python -m tests.benchmark $(SCENARIOS) $(OPTIONS)

clean: ## Remove generated files, virtual environments included
	rm -rf .venv* .bench build dist service/*.egg-info .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find service tests -name __pycache__ -type d -prune -exec rm -rf {} +

# One stamp for each set of packages. While it is up to date, no network is needed.
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
	  echo "offload needs Python 3.11 or newer; $(PYTHON) is older. Name another one: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
	  echo "$(PYTHON) cannot create virtual environments. On Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
	@touch $@
