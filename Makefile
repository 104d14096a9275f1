# `make demo` sets up and runs the main job to a finished report; `make test` runs all tests. Both may be run again.
PYTHON ?= python3
unexport PYTHONDONTWRITEBYTECODE  # what one process of the tests has compiled, the others read
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

.PHONY: demo test test-device check bench docs setup clean help

help:  ## what there is to make
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | sort

setup: $(STAMP)  ## create .venv and install everything that the lock names

# A file whose hash is not in the lock is refused.
FROM_LOCK := -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps
LOCKED := $(BIN)/python $(FROM_LOCK)
# Whether the build of PyTorch that was installed asks for libraries of NVIDIA GPUs (on Linux that of the index does).
ASKS_FOR_GPU_LIBRARIES := import importlib.metadata as m, sys; \
  sys.exit(not any(need.startswith(("nvidia-", "cuda-", "triton")) for need in m.requires("torch")))

$(STAMP): requirements.lock requirements-cpu.lock requirements-cuda.lock tests/oracle.lock tests/frameworks.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "edgescope needs Python 3.11 or newer; '$(PYTHON)' is $$($(PYTHON) -V 2>&1). Try: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || \
	  { echo "'$(PYTHON)' has no venv module; on Debian or Ubuntu: apt-get install python3-venv"; exit 1; }
	@echo "[1/3] creating $(VENV)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "[2/3] installing the locked packages (some 250 MB; a few minutes the first time)"
	@$(LOCKED) --no-index -r requirements-cpu.lock 2>/dev/null || true
	@$(LOCKED) -r requirements.lock
	@if $(BIN)/python -c '$(ASKS_FOR_GPU_LIBRARIES)'; then $(LOCKED) -r requirements-cuda.lock; fi
	@$(LOCKED) -r tests/oracle.lock
	@$(LOCKED) -r tests/frameworks.lock
	@echo "[3/3] installing edgescope itself"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $(STAMP)

demo: $(STAMP)  ## the main job: networks on real images at the edge of stability, to a finished report
	$(BIN)/edgescope demo

test: $(STAMP)  ## all tests: the quick ones, then those marked slow
	$(BIN)/python -m pytest -n 2 --dist worksteal
	$(BIN)/python -m pytest -n 2 --dist worksteal -m slow

test-device: $(STAMP)  ## tests of this machine's GPU, and a table of times; says so if there is none
	@$(BIN)/python benchmarks/gpu_check.py --present
	$(BIN)/python -m pytest tests/device
	$(BIN)/python benchmarks/gpu_check.py --only times

check: $(STAMP)  ## lint and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(STAMP)  ## benchmarks, as ratios against peers; installs the peers
	$(LOCKED) -r benchmarks/requirements.lock
	$(BIN)/python benchmarks/curvature.py
	$(BIN)/python benchmarks/first_figure.py
	$(BIN)/python benchmarks/monitoring.py
	$(BIN)/python benchmarks/headroom.py
	$(BIN)/python benchmarks/large_models.py
	$(BIN)/python benchmarks/scaling.py
	$(BIN)/python benchmarks/stacked_training.py
	$(BIN)/python benchmarks/generalized_sharpness.py
	$(BIN)/python benchmarks/tradeoff.py
	$(BIN)/python benchmarks/error_coverage.py
	$(BIN)/python benchmarks/batch_one_sam.py
	$(BIN)/python benchmarks/chains.py
	$(BIN)/python benchmarks/store.py
	$(BIN)/python benchmarks/spikes.py
	$(BIN)/python benchmarks/learning_rate.py
	$(BIN)/python benchmarks/central_flow.py
	$(BIN)/python benchmarks/conic_solver.py

DOCS := .venv-docs

$(DOCS)/.installed: docs/requirements.lock
	@test -x $(DOCS)/bin/python || $(PYTHON) -m venv $(DOCS)
	@$(DOCS)/bin/python $(FROM_LOCK) -r docs/requirements.lock
	@touch $@

docs: $(DOCS)/.installed  ## the documentation site, in site/; its tools are installed in an environment of their own
	NO_MKDOCS_2_WARNING=1 PYTHONPATH=tools $(DOCS)/bin/mkdocs build --quiet
	@$(DOCS)/bin/python tools/check_site.py site
	@echo "site/index.html"

clean:  ## remove the environment and all runs
	rm -rf $(VENV) $(DOCS) runs build dist site
	find src tests -name __pycache__ -prune -exec rm -rf {} +
