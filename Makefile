# Everything that a person or a machine does with this tree, a target each; `make help` lists them.
#
# Nothing here names a package index or a mirror: pip, uv, apt and the container engine use what the machine is
# configured to use.

.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

VENV ?= .venv
BIN := $(VENV)/bin
# The first of these that runs and is new enough; `make PYTHON=/path/to/python3.13 test` chooses another.
PYTHON ?= $(shell for candidate in python3 python3.14 python3.13 python3.12 python3.11; do \
	if $$candidate -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then \
	echo $$candidate; break; fi; done)
# docker or podman with a running engine, else buildah; `make ENGINE=podman image` chooses another.
ENGINE ?= $(shell for candidate in docker podman; do \
	if $$candidate info >/dev/null 2>&1; then echo $$candidate; exit; fi; done; command -v buildah || true)
IMAGE ?= sidecar
# The image's base, if not the Dockerfile's own.
BASE ?=
PYTEST_ARGS ?=
DEMO_ARGS ?=

CHECKED := sidecar tests benchmarks
# Content, not time, decides whether the environment is up to date: a checkout of the same lock file costs nothing.
LOCK_SUM := $(shell cat requirements-dev.lock pyproject.toml | cksum | tr -d ' ')
READY := $(VENV)/.ready-$(LOCK_SUM)

.PHONY: help
help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: setup
setup: $(READY)  ## make the virtual environment with the pinned dependencies

$(READY):
	@if [ -z "$(PYTHON)" ]; then echo "no Python 3.11 or later found; install one or give PYTHON=/path/to/python3" >&2; exit 1; fi
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "$(PYTHON) does not run or is older than Python 3.11; give PYTHON=/path/to/python3" >&2; exit 1; }
	@if [ ! -x $(BIN)/python ] && ! $(PYTHON) -c 'import ensurepip, venv' 2>/dev/null; then \
		echo "$(PYTHON) cannot make virtual environments; on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; fi
	@[ -x $(BIN)/python ] || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "$(VENV) was made with a Python older than 3.11; remove it and try again" >&2; exit 1; }
	@echo "installing the pinned dependencies into $(VENV)"
	@$(BIN)/python -m pip install --quiet --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@$(BIN)/python -m pip install --quiet --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@rm -f $(VENV)/.ready-*
	@touch $@

.PHONY: demo
demo: $(READY)  ## run a mesh: a control plane, six services with traffic, a page to look at; Ctrl-C ends it
	@$(BIN)/sidecar demo $(DEMO_ARGS)

.PHONY: demo-capture
demo-capture: $(READY)  ## the same with apps that know of no sidecar, each on a host of its own (as root, Linux)
	@$(BIN)/sidecar demo --captured $(DEMO_ARGS)

# Four at a time, also on two cores: most of the time is waited for processes that tests start, and for what is a matter of
# seconds by its nature. What may run beside what: tests/conftest.py.
# `make TEST_JOBS=0 test` runs all in one process, one after the other.
TEST_JOBS ?= 4

.PHONY: test
test: $(READY)  ## run the tests, four at a time
	@$(BIN)/python -m pytest -n $(TEST_JOBS) -m "not long" $(PYTEST_ARGS)

.PHONY: test-long
test-long: $(READY)  ## run the tests that take long: whole meshes through failures, rotations and upgrades
	@$(BIN)/python -m pytest -n $(TEST_JOBS) -m long $(PYTEST_ARGS)

# Another seed is another storm; the figures say which it was.
SOAK_SECONDS ?= 600
SOAK_RATE ?= 300
SOAK_SEED ?= $(shell date +%s)

.PHONY: soak
soak: $(READY)  ## storm a sidecar for SOAK_SECONDS (600) and say what came of it: docs/soak.md
	@SOAK_SECONDS=$(SOAK_SECONDS) SOAK_RATE=$(SOAK_RATE) SOAK_SEED=$(SOAK_SEED) $(BIN)/python -m pytest tests/soak -s $(PYTEST_ARGS)

# Four parts: kills and the loss of the engine take SOAK_MESH_SECONDS each, replacements half of that, the cut its own time.
SOAK_MESH_SECONDS ?= 300
SOAK_MESH_CUT_SECONDS ?= 300
SOAK_MESH_RATE ?= 1000

.PHONY: soak-mesh
soak-mesh: $(READY)  ## kill, cut and replace all parts of a mesh under load for some 20 minutes: docs/soak.md
	@SOAK_MESH_SECONDS=$(SOAK_MESH_SECONDS) SOAK_MESH_CUT_SECONDS=$(SOAK_MESH_CUT_SECONDS) \
		SOAK_MESH_RATE=$(SOAK_MESH_RATE) SOAK_SEED=$(SOAK_SEED) \
		$(BIN)/python -m pytest tests/soak/test_mesh_storm.py -s $(PYTEST_ARGS)

# What of it is to be looked at again: `make testssl TESTSSL_ONLY=outside` takes those that have it in their name.
TESTSSL_ONLY ?=

.PHONY: testssl
testssl: $(READY)  ## have testssl.sh look at all that speaks TLS, a quarter of an hour: docs/tls-peers.md
	@$(BIN)/python -m pytest tests/testssl/scan.py -s $(if $(TESTSSL_ONLY),-k "$(TESTSSL_ONLY)") $(PYTEST_ARGS)

# atheris has wheels for some Pythons only; where there is none, this says so. What was found to be new is kept in build/fuzz.
FUZZ_SECONDS ?= 60
FUZZ_READY := build/fuzz/.ready-$(shell cat tests/fuzz/requirements.txt | cksum | tr -d ' ')

$(FUZZ_READY): | $(READY)
	@mkdir -p build/fuzz
	@$(BIN)/python -m pip install --quiet --quiet --disable-pip-version-check --require-hashes --only-binary :all: \
		--upgrade --target build/fuzz/lib -r tests/fuzz/requirements.txt || \
		{ echo "atheris cannot be had for this Python; make PYTHON=/path/to/python3.12 fuzz takes another" >&2; exit 1; }
	@touch $@

.PHONY: fuzz
fuzz: $(READY) $(FUZZ_READY)  ## search by coverage for octets that break HTTP/2, FUZZ_SECONDS (60) for each target
	@for target in frames hpack; do \
		PYTHONPATH=build/fuzz/lib $(BIN)/python -m tests.fuzz.search $$target $(FUZZ_SECONDS) build/fuzz || exit 1; done

.PHONY: check lint types locks
check: lint types locks  ## lint, format, types, and lock files in step with pyproject.toml (with -k: all that is wrong)

lint: $(READY)
	@$(BIN)/ruff check $(CHECKED)
	@$(BIN)/ruff format --check $(CHECKED)

types: $(READY)
	@$(BIN)/mypy

locks: $(READY)
	@$(BIN)/python -m pytest tests/unit/test_lock_files.py

.PHONY: format
format: $(READY)  ## rewrite the source in the house's format
	@$(BIN)/ruff check --fix $(CHECKED)
	@$(BIN)/ruff format $(CHECKED)

# Works out the lock files anew. Versions that still satisfy pyproject.toml stay; `make lock LOCK_ARGS=--upgrade` moves them.
UV := build/uv/bin/uv
LOCK_ARGS ?=
RESOLVE = $(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-header $(LOCK_ARGS)

$(UV):
	@$(PYTHON) -m venv build/uv
	@build/uv/bin/python -m pip install --quiet --quiet --disable-pip-version-check uv

.PHONY: lock
lock: $(UV)  ## bring the lock files in step with pyproject.toml
	$(RESOLVE) pyproject.toml --extra control --extra jwt --output-file requirements.lock
	$(RESOLVE) pyproject.toml --extra control --extra jwt --group dev --constraint requirements.lock --output-file requirements-dev.lock
	$(RESOLVE) --group build --constraint requirements-dev.lock --output-file requirements-build.lock

.PHONY: schema
schema: $(READY)  ## write the JSON Schemas of config/ from the models
	@mkdir -p build && $(BIN)/sidecar schema > build/schema.json && mv build/schema.json config/sidecar.schema.json
	@$(BIN)/sidecar mesh schema > build/schema.json && mv build/schema.json config/mesh.schema.json

.PHONY: docs
docs: $(READY)  ## write the pages that are made from tables of the source
	@mkdir -p build
	@$(BIN)/python -c 'from sidecar.cli.reasons import errors_page; print(errors_page(), end="")' > build/errors.md
	@mv build/errors.md docs/errors.md
	@$(BIN)/python -m sidecar.telemetry.metrics.reference > build/metrics.md
	@mv build/metrics.md docs/metrics.md

.PHONY: screenshots
screenshots: $(READY)  ## take the pictures of the page in docs/images anew (needs chromium)
	@$(BIN)/python -m tests.browser.screenshots

.PHONY: image
image:  ## build the container image with docker, podman or buildah
	@if [ -z "$(ENGINE)" ]; then echo "no container engine found: install docker, podman or buildah" >&2; exit 1; fi
	$(ENGINE) build $(if $(findstring docker,$(ENGINE)),,--format docker) \
		$(if $(BASE),--build-arg BASE=$(BASE)) --tag $(IMAGE) .

.PHONY: image-test
image-test:  ## build the image on a fresh Debian base and try it for real (as root: buildah, debootstrap)
	@tests/image/run.sh

# The same source, its data path compiled: half the CPU for a request (docs/compiled.md).
.PHONY: compile
compile: build/bin/sidecar  ## compile the data path with mypyc; build/bin/sidecar runs it (needs a C compiler, Python's headers)

build/bin/sidecar: $(READY) $(wildcard sidecar/*.py sidecar/*/*.py sidecar/*/*/*.py) setup.py pyproject.toml
	@echo "compiling the data path: a minute or two"
	@rm -rf build/compiled build/temp build/c && mkdir -p build/bin
	@SIDECAR_COMPILE=1 $(BIN)/python setup.py --quiet build --build-lib build/compiled --build-temp build/temp
	@printf '#!/bin/sh\nPYTHONPATH=%s/build/compiled exec %s/sidecar "$$@"\n' "$(CURDIR)" "$(abspath $(BIN))" > $@
	@chmod +x $@

.PHONY: test-compiled
test-compiled: build/bin/sidecar  ## run the tests on what `make compile` makes
	@SIDECAR_TEST_BUILD=build/compiled $(BIN)/python -m pytest -n $(TEST_JOBS) $(PYTEST_ARGS)

# What the comparison needs beside the development environment: Envoy as a binary, aiohttp, matplotlib. Where Envoy cannot be
# had as a binary, the comparison says so and goes on without.
BENCH_VENV := benchmarks/.venv
BENCH_READY := $(BENCH_VENV)/.ready-$(shell cat benchmarks/requirements.txt | cksum | tr -d ' ')
BENCH_ARGS ?= --quick

$(BENCH_READY): | $(READY)
	@[ -x $(BENCH_VENV)/bin/python ] || $(BIN)/python -m venv $(BENCH_VENV)
	@echo "installing what is compared into $(BENCH_VENV)"
	@$(BENCH_VENV)/bin/python -m pip install --quiet --quiet --disable-pip-version-check --require-hashes \
		-r benchmarks/requirements.txt && rm -f $(BENCH_VENV)/.ready-* && touch $@ || \
		echo "some of benchmarks/requirements.txt cannot be installed here; what is missing is left out" >&2

.PHONY: bench
bench: $(READY) $(BENCH_READY)  ## compare with other proxies, briefly; BENCH_ARGS= for all of it: docs/performance.md
	@$(BIN)/python benchmarks/compare.py $(BENCH_ARGS)

# Each interpreter counts for its own version; the others' ceilings stay. Give those that have the dependencies too:
# `make ceilings CEILINGS_WITH=".venv/bin/python /path/to/python3.13"`.
CEILINGS_WITH ?= $(BIN)/python

.PHONY: ceilings
ceilings: $(READY)  ## commit to what a request costs now, in counts: benchmarks/micro/ceilings.json
	@for python in $(CEILINGS_WITH); do PYTHONHASHSEED=0 $$python -m benchmarks.micro.counts --write || exit 1; done

.PHONY: clean
clean:  ## remove what these targets made, the virtual environment included
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
