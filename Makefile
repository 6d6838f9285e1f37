# make run    replicate a scratch SeaweedFS and look at the result
# make test   all tests, against real servers
# make check  what CI checks beside the tests: lint, format, import direction, types
# make fuzz   decoders of what comes from outside, guided by coverage (needs atheris)
# make chaos  ten minutes of write load and random faults (SECONDS=…, SEED=…), then a comparison
# make bench  filerbackup and weed filer.backup side by side
# make bench-memory     peak memory in hard cases, against the promise
# make bench-deadlines  half-open connections, in real time
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Tests wait for servers more than they compute; each worker starts servers of its own.
JOBS ?= 3
FUZZ_SECONDS ?= 20
# Of load and faults of a chaos run; SEED repeats an earlier one.
SECONDS ?= 600
READY := $(VENV)/.ready
STUBS := filerbackup/filer/stubs
# What the tests need from npm: Azurite.
NODE := .node
NPM_FILES := tests/support/npm/package.json tests/support/npm/package-lock.json

.PHONY: run test check bench bench-memory bench-deadlines chaos fuzz proto lock clean

run: $(READY)
	$(BIN)/python -m tests.demo

test: $(READY) $(NODE)/.ready
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal -m "not alone" $(ARGS)
	$(BIN)/python -m pytest -m alone $(ARGS) || test $$? -eq 5

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy

bench: $(READY)
	$(BIN)/python -m tests.bench $(ARGS)

bench-memory: $(READY)
	$(BIN)/python -m tests.bench.memory $(ARGS)

bench-deadlines: $(READY)
	$(BIN)/python -m tests.bench.deadlines

fuzz: $(READY)
	$(BIN)/python -m tests.fuzz all --seconds $(FUZZ_SECONDS)

chaos: $(READY)
	$(BIN)/python -m tests.chaos --seconds $(SECONDS) $(if $(SEED),--seed $(SEED)) $(ARGS)

# A virtual environment with the versions that were tested.
$(READY): pyproject.toml requirements.lock
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "filerbackup needs Python 3.11 or newer")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@

# Without npm the tests of the Azure sink are skipped; in CI they have to run.
$(NODE)/.ready: $(NPM_FILES)
	@mkdir -p $(NODE)
	@if [ -n "$$AZURITE" ] || command -v azurite-blob >/dev/null; then \
	  touch $@; \
	elif command -v npm >/dev/null; then \
	  cp $(NPM_FILES) $(NODE)/ && \
	  npm ci --prefix $(NODE) --ignore-scripts --no-audit --no-fund --loglevel=error && touch $@; \
	elif [ -n "$$CI" ]; then \
	  echo "npm is missing: the tests of the Azure sink need Azurite" >&2; exit 1; \
	else \
	  echo "npm is missing: the tests of the Azure sink are skipped (they need Azurite)"; \
	fi

proto: $(READY)
	$(BIN)/python -m grpc_tools.protoc -I$(STUBS)=protos --python_out=. --grpc_python_out=. \
	  --mypy_out=. --mypy_grpc_out=. $(STUBS)/filer.proto

# Take today's versions of everything, to be tested and committed.
lock:
	rm -rf $(VENV)-lock
	$(PYTHON) -m venv $(VENV)-lock
	$(VENV)-lock/bin/python -m pip install --quiet --disable-pip-version-check '.[dev]' hatchling editables
	$(VENV)-lock/bin/python -m pip freeze --exclude filerbackup > requirements.lock
	rm -rf $(VENV)-lock

clean:
	rm -rf $(VENV) $(VENV)-lock $(NODE) .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache build dist
