# make run    the service with the demo product, on http://127.0.0.1:8090
# make test   the whole test suite
# Needs Python 3.11 or newer and make, nothing else; everything goes into .venv.

PYTHON ?= $(shell command -v python3.11 python3.12 python3.13 python3 2>/dev/null | head -n 1)
BIN := .venv/bin
CLIENTS := tests/wire/clients
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
PORT ?= 8090
DATABASE_URL ?= sqlite:///nudgeledger-demo.db

.PHONY: run test clients check bench lock clean python

run: .venv/installed
	@$(BIN)/nudgeledger demo --port $(PORT) --database-url $(DATABASE_URL)

# A file's tests stay together and in order, so those that drive a browser come last in each process.
test: .venv/installed-dev clients
	@$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder $(ARGS)

# Published clients that the tests point at the service, where npm is there to install them. Not `npm ci`: it
# refuses a lock without the optional packages of other platforms.
clients:
	@if command -v npm >/dev/null; then $(MAKE) --no-print-directory $(CLIENTS)/node_modules/.installed; fi

$(CLIENTS)/node_modules/.installed: $(CLIENTS)/package-lock.json
	@echo "nudgeledger: installing locked clients into $(CLIENTS)/node_modules (once)"
	@npm install --prefix $(CLIENTS) --ignore-scripts --no-audit --no-fund --loglevel=error >/dev/null
	@touch $@

# What CI asks besides the tests: format, lint, types, import contract.
check: .venv/installed-dev
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

bench: .venv/installed-dev
	@$(BIN)/python -m tests.benchmarks $(ARGS)

# Renew both locks; needs uv.
lock:
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --no-emit-index-url --group build pyproject.toml -o requirements.lock
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --no-emit-index-url --group dev pyproject.toml -o requirements-dev.lock

clean:
	rm -rf .venv $(CLIENTS)/node_modules build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache

python:
	@test -n "$(PYTHON)" || { echo "nudgeledger needs Python 3.11 or newer; none was found. Set PYTHON=/path/to/python3.11"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "nudgeledger needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version 2>&1). Set PYTHON=/path/to/python3.11"; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { echo "$(PYTHON) lacks its venv module (on Debian and Ubuntu: apt install python3-venv)"; exit 1; }

.venv/installed: requirements.lock pyproject.toml | python
	@echo "nudgeledger: installing locked dependencies into .venv (once)"
	@$(PYTHON) -m venv .venv
	@$(PIP) install --require-hashes --requirement requirements.lock
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

.venv/installed-dev: requirements-dev.lock .venv/installed
	@echo "nudgeledger: installing locked development dependencies into .venv (once)"
	@$(PIP) install --require-hashes --requirement requirements-dev.lock
	@touch $@
