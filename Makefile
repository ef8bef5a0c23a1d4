# The two commands: `make conformance` and `make test`. Both do all the set-up first.
# Tests wait as much as they compute, so more of them than processors run at a time.
PARALLEL = -n 3 --dist loadgroup

.PHONY: help setup servers servers-more v86 conformance test test-long coverage check docs lines lock

help:
	@echo "make conformance  set everything up, then test QEMU's virtio-9p (all layers)"
	@echo "make test         set everything up, then the project's own tests, one guest booted"
	@echo "make test-long    set everything up, then the long proofs that make test leaves out (marker: long)"
	@echo "make coverage     the coverage of protocol, reference_server and conformance, with a floor for each; in test-long"
	@echo "make check        lint, words, types, import contracts, self-tests without a guest (seconds)"
	@echo "make setup        only the set-up"
	@echo "make servers      setup, and diod and nfs-ganesha for the wire layer's targets of these names"
	@echo "make servers-more  setup, and p9ufs and crosvm's server in the cache, for targets p9ufs and crosvm-p9"
	@echo "make v86          setup, and the emulator v86 with its guest, for targets v86 and reference-v86"
	@echo "make docs         the documentation as a site, in build/site"
	@echo "make lines        the lines of code by package, and how many came with which part of the product"
	@echo "make lock         write requirements.lock again"

setup:
	@./setup.sh

servers:
	@./setup.sh --servers

servers-more: setup
	@.venv/bin/python -m conformance.sut.servers.fetched

docs:
	@NO_MKDOCS_2_WARNING=1 .venv/bin/mkdocs build -q
	@echo "docs: build/site/index.html"

lines:
	@.venv/bin/python -m tests.lines_of_code

v86: setup
	@./setup.sh --v86
	@.venv/bin/assay9 guest build v86

conformance: setup
	@.venv/bin/assay9 run qemu $(ARGS)

test: setup
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check -q .
	@.venv/bin/codespell
	@.venv/bin/mypy
	@.venv/bin/lint-imports
	@.venv/bin/pytest tests -q $(PARALLEL) -m "not long" $(ARGS)

IN_PROCESS = protocol reference_server virtio links evidence conformance wire

coverage: setup
	@.venv/bin/coverage run -m pytest $(IN_PROCESS:%=tests/%) -q -m "not guest and not long"
	@.venv/bin/coverage report --skip-covered --include='protocol/*' --fail-under=97
	@.venv/bin/coverage report --skip-covered --include='reference_server/*' --fail-under=87
	@.venv/bin/coverage report --skip-covered --include='conformance/*' --fail-under=72

test-long: setup coverage
	@./setup.sh --tests
	@.venv/bin/pytest tests -q -m long $(ARGS)
	@.venv/bin/assay9 selftest

check:
	@./setup.sh --no-image
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check -q .
	@.venv/bin/codespell
	@.venv/bin/mypy
	@.venv/bin/lint-imports
	@.venv/bin/pytest tests -q $(PARALLEL) -m "not guest and not long" $(ARGS)

lock:
	@rm -rf build/lock && python3 -m venv build/lock
	@build/lock/bin/pip install -q --disable-pip-version-check '.[dev]'
	@build/lock/bin/pip freeze --exclude assay9 > requirements.lock
	@rm -rf build/lock build/lib build/bdist.*
