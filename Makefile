# Needs make, git and Python >= 3.11 with venv; everything else goes into .venv.
#   make demo            the main job on generated studies; ends with the viewer on the results
#   make demo OPEN=0     the same without the viewer
#   make test            linters, types, layer contracts, all tests
#   make env TORCH=cuda  the virtual environment with the CUDA build of torch

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.PHONY: env lint format types imports validators pytest test docs demo frontend bench bench-quick clean

TORCH ?= cpu
OPEN ?= 1
PYTHON ?= $(shell for python in python3.11 python3.12 python3.13 python3 python; do \
  "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
  && echo "$$python" && break; done)
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
TORCH_STAMP := .venv/.torch-$(TORCH)
RUNTIME_STAMP := .venv/.runtime
DEV_STAMP := .venv/.dev

env: $(DEV_STAMP)

# Few retries: where the index of constraints/cpu.txt cannot be reached, the others are asked.
$(TORCH_STAMP): constraints/$(TORCH).txt constraints/torch.txt
	@test -n "$(PYTHON)" || { echo "medmtl needs Python >= 3.11; set PYTHON=/path/to/python" >&2; exit 2; }
	test -x $(BIN)/python || "$(PYTHON)" -m venv .venv
	rm -f .venv/.torch-*
	@echo "installing into .venv: torch first ($(TORCH) build), then the rest; a few minutes"
	$(PIP) install --retries 2 --no-deps --force-reinstall -r constraints/$(TORCH).txt
	touch $@

# -c torch.txt keeps any dependency from bringing another torch.
$(RUNTIME_STAMP): $(TORCH_STAMP) pyproject.toml
	$(PIP) install -c constraints/torch.txt -e .
	touch $@

$(DEV_STAMP): $(RUNTIME_STAMP)
	$(PIP) install -c constraints/torch.txt -e ".[dev]"
	touch $@

lint: $(DEV_STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(DEV_STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: $(DEV_STAMP)
	$(BIN)/mypy

imports: $(DEV_STAMP)
	$(BIN)/lint-imports

# dciodvfy, DCMTK and plastimatch check the DICOM results, Orthanc is the archive of the PACS tests,
# Chromium runs the viewer, PostgreSQL keeps its reviews; where they cannot be installed, their tests skip. Debian also
# starts Orthanc and PostgreSQL as services, on 8042 and 5432; the tests start their own.
VALIDATORS := dicom3tools dcmtk plastimatch orthanc orthanc-dicomweb chromium openssl postgresql
validators:
	@if ! { command -v dciodvfy && command -v dsrdump && command -v plastimatch && command -v openssl && command -v chromium \
	    && test -e /usr/share/orthanc/plugins/libOrthancDicomWeb.so \
	    && { command -v initdb || ls /usr/lib/postgresql/*/bin/initdb; }; } >/dev/null 2>&1 \
	  && command -v apt-get >/dev/null; then \
	  as_root=; test "$$(id -u)" = 0 || as_root="sudo -n"; \
	  if $$as_root true 2>/dev/null; then \
	    $$as_root apt-get install -y --no-install-recommends $(VALIDATORS) >/dev/null 2>&1 \
	    || { $$as_root apt-get update >/dev/null 2>&1 \
	      && $$as_root apt-get install -y --no-install-recommends $(VALIDATORS) \
	        >/dev/null 2>&1; } \
	    || echo "$(VALIDATORS) could not be installed; their tests skip" >&2; \
	  fi; \
	fi

# OpenVINO's tests in a process of their own: after the other tests it once ended with a segmentation fault.
# The others run on two workers, each with one thread, a file's tests in one of them: a server that a
# file starts is started once.
WORKERS ?= 2
BACKEND_TESTS := $(addprefix tests/unit/inference/,test_backend.py test_openvino_sizes.py)
pytest: $(DEV_STAMP)
	@if test -z "$(filter-out --durations=%,$(PYTEST_ARGS))"; then \
	  set -x; $(BIN)/python -m pytest $(BACKEND_TESTS) \
	  && OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile \
	    $(addprefix --ignore=,$(BACKEND_TESTS)) $(PYTEST_ARGS); \
	else set -x; $(BIN)/python -m pytest $(PYTEST_ARGS); fi

test: lint types imports validators pytest

docs: $(DEV_STAMP)
	$(PIP) install -c constraints/torch.txt -e ".[docs]"
	$(BIN)/mkdocs build --strict

demo: $(RUNTIME_STAMP)
	rm -rf demo
	$(BIN)/medmtl phantom --kind torso-ct --studies 1 -o demo/torso-ct
	$(BIN)/medmtl phantom --kind cardiac-mr --studies 1 -o demo/cardiac-mr
	$(BIN)/medmtl predict demo/torso-ct/studies --model torso-ct-phantom -o demo/results/torso-ct
	$(BIN)/medmtl predict demo/cardiac-mr/studies --model cardiac-mr -o demo/results/cardiac-mr
	@$(BIN)/python -m pipelines.summary demo
	@if test "$(OPEN)" != 0; then exec $(BIN)/medmtl view demo; fi

# The viewer's browser code; its result is committed, so no user needs Node.
frontend:
	cd app/frontend && npm ci && npm run types && npm run build && rm -rf node_modules

bench: $(DEV_STAMP)
	$(BIN)/python -m benchmarks

bench-quick: $(DEV_STAMP)
	$(BIN)/python -m benchmarks --quick

clean:
	rm -rf .venv demo dist site .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
