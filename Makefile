# Every recipe is what CI runs. `make` alone prints the targets; `make ci` is the whole of CI.
PYTHON ?= python3
PYTEST := .venv/bin/python -m pytest
SPEEDUPS := $(filter-out %.c,$(wildcard _speedups/*)) $(shell find aibridge -name '*.py')
COMPILE := .venv/bin/python setup.py --quiet build_ext --build-lib .
COMPILED := AIBRIDGE_SPEEDUPS=1 .venv/bin/python -c 'import aibridge.wire' 2>/dev/null
# Whether the compiler that setuptools would take is here, and Python's headers.
CAN_COMPILE := echo '\#include <Python.h>' | $$(.venv/bin/python -c 'import os, sysconfig as s; print(os.environ.get("CC") or s.get_config_var("CC"), "-I" + s.get_path("include"))') -fsyntax-only -x c - 2>/dev/null

# $(call BESIDE,one,two,…) runs up to six commands at once. What the others say comes behind the first's words, whole.
define BESIDE
said=$$(mktemp -d); trap 'kill $$others 2>/dev/null; rm -rf $$said' EXIT; trap 'exit 130' INT TERM; \
$(foreach n,2 3 4 5 6,$(if $($(n)),$($(n)) >$$said/$(n) 2>&1 & pid$(n)=$$!; others="$$others $$!";)) \
$(1); status=$$?; \
$(foreach n,2 3 4 5 6,$(if $($(n)),wait $$pid$(n) || status=1; cat $$said/$(n);)) \
exit $$status
endef

TEST_COMPILED := AIBRIDGE_SPEEDUPS=1 $(PYTEST)
TEST_PURE := AIBRIDGE_SPEEDUPS=0 $(PYTEST) -m "not compiled"
# Tests of whole gateways wait for much, and a wait keeps no core busy: so they run in two parts, beside all the others. Of
# deploy/ and the dashboard the pure run would tell nothing new.
WHOLE_1 := $(wildcard tests/e2e/test_[a-l]*.py)
WHOLE_2 := $(filter-out $(WHOLE_1),$(wildcard tests/e2e/test_*.py))
OTHERS := $(foreach folder,e2e browser deploy,--ignore=tests/$(folder))
TEST_BOTH = $(call BESIDE,$(TEST_COMPILED) $(WHOLE_1),$(TEST_COMPILED) $(WHOLE_2) tests/browser tests/deploy,$(TEST_COMPILED) $(OTHERS),$(TEST_PURE) $(WHOLE_1),$(TEST_PURE) $(WHOLE_2),$(TEST_PURE) $(OTHERS))

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help dev run test test-pure lint types bench bench-full bench-peers bench-count bench-smoke fuzz dist dist-pure check-dist clients browser deploy-tools docs site ci ci-beside clean

help:  ## print the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

dev: .venv/dev  ## set up .venv: aibridge, editable and compiled where possible, and the tools

run: dev  ## start the gateway; without credentials on the simulator, with one stream and its record to see
	@exec .venv/bin/aibridge serve --demo

test: dev  ## test twice, side by side: compiled, where that could be built, and pure
	@$(COMPILED) || ! $(CAN_COMPILE) || AIBRIDGE_SPEEDUPS=1 $(COMPILE)
	@if $(COMPILED); then $(TEST_BOTH); else echo "aibridge: nothing compiled here: only pure Python is tested"; $(TEST_PURE); fi

test-pure: .venv/tools  ## test pure Python alone: wire and modules
	$(TEST_PURE)

lint: dev  ## check the style
	.venv/bin/ruff check
	.venv/bin/ruff format --check

types: dev  ## check the types
	.venv/bin/mypy

bench: dev  ## measure: the wire, then the gateway beside nginx in the main scenarios; under five minutes
	.venv/bin/python bench/kernel.py --rounds 3
	.venv/bin/python bench/gateway.py --set core --seconds 1

bench-full: dev  ## measure everything of ours beside nginx, haproxy and plain aiohttp; three quarters of an hour
	.venv/bin/python bench/kernel.py
	.venv/bin/python bench/gateway.py --set full

bench-peers: dev  ## install other gateways apart, and measure them beside ours; about forty minutes
	.venv/bin/python bench/peers.py
	.venv/bin/python bench/gateway.py --set peers

bench-count: dev  ## count the compiled wire's instructions, and compare with the committed figures
	.venv/bin/python bench/instructions.py

bench-smoke: dev  ## see that the benches run; their figures say nothing
	.venv/bin/python bench/kernel.py --quick
	@if command -v $(CC) >/dev/null; then .venv/bin/python bench/gateway.py --set core --quick --subjects direct,aibridge; else echo "no C compiler: no gateway bench"; fi

fuzz: dev  ## throw broken bytes at both wires for 30 seconds, and compare
	@if $(COMPILED); then .venv/bin/python tests/fuzz/fuzz_wire.py --seconds 30; else echo "aibridge: no compiled wire here: nothing to compare"; fi

dist: .venv/venv  ## build sdist and wheel into dist/
	rm -rf dist
	.venv/bin/pip install --quiet build
	.venv/bin/python -m build

dist-pure: .venv/venv  ## build sdist and the wheel of no platform, which needs no compiler anywhere, into dist/pure/
	rm -rf dist/pure
	.venv/bin/pip install --quiet build
	AIBRIDGE_SPEEDUPS=0 .venv/bin/python -m build --outdir dist/pure

check-dist: dist dist-pure  ## install each wheel into an empty venv, start it, and ask for its health
	$(PYTHON) -m venv --clear .venv/empty
	.venv/empty/bin/pip install --quiet dist/*.whl
	.venv/empty/bin/python scripts/check_installed.py .venv/empty/bin/aibridge
	$(PYTHON) -m venv --clear .venv/empty
	.venv/empty/bin/pip install --quiet --only-binary :all: dist/pure/*-py3-none-any.whl
	.venv/empty/bin/aibridge version | grep 'pure wire, pure modules'
	.venv/empty/bin/python scripts/check_installed.py .venv/empty/bin/aibridge

clients:  ## install the npm clients that some tests try: OpenAI's SDK and Codex; without them those tests are skipped
	npm install --prefix tests/e2e/node --no-package-lock --no-audit --no-fund

browser: .venv/tools  ## install what looks at the dashboard: Playwright, and Chromium from Debian; without it those tests are skipped
	AIBRIDGE_SPEEDUPS=0 .venv/bin/pip install --quiet --editable '.[browser]'
	@if command -v chromium >/dev/null; then :; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core; \
	else echo "aibridge: no chromium here, so that the dashboard's tests are skipped; apt-get install chromium brings it"; fi

deploy-tools: .venv/venv  ## fetch what the tests of deploy/ need: promtool, Prometheus, helm, hadolint, actionlint and others
	.venv/bin/python scripts/deploy_tools.py .venv/deploy

docs: dev  ## write what the pages have from the code: the lifecycle, the commands, the metrics, the list of decisions
	.venv/bin/python docs/lifecycle.py --write
	.venv/bin/python docs/commandline.py --write
	.venv/bin/python docs/metrics.py --write
	.venv/bin/python docs/decisions.py --write

site: dev  ## build the documentation as a site, with every warning and every broken link an error
	NO_MKDOCS_2_WARNING=1 .venv/bin/mkdocs build --quiet --strict

ci: lint ci-beside browser deploy-tools test  ## all of CI; the tests come last

ci-beside: dev
	@$(call BESIDE,$(MAKE) --no-print-directory types site fuzz bench-smoke bench-count,$(MAKE) --no-print-directory check-dist)

clean:  ## remove what the targets above made
	rm -rf .venv build dist bench/.peers *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .benchmarks
	rm -rf aibridge/_speedups*.so aibridge/_compiled _speedups/speedups.c
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/venv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { echo "aibridge needs Python 3.11 or newer, and $(PYTHON) is not; name one: make PYTHON=python3.12" >&2; exit 1; }
	$(PYTHON) -m venv .venv
	@touch $@

.venv/tools: .venv/venv pyproject.toml
	AIBRIDGE_SPEEDUPS=0 .venv/bin/pip install --quiet --editable '.[dev]'
	@touch $@

# Compiled apart from the installation: its one line, where there is no compiler, is seen, and pip need not run again.
.venv/dev: .venv/tools setup.py $(SPEEDUPS)
	$(COMPILE)
	@touch $@
