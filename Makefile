# `make help` lists what there is. Everything runs inside .venv/, which is made on first use.
PROFILE ?= quick
PYTHON ?= python3
CORES ?= $(shell nproc)
BIN := .venv/bin
UV_VERSION := 0.13.9
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
export PYTHONUNBUFFERED := 1

SNAKEMAKE = $(BIN)/snakemake -s workflow/Snakefile --config profile=$(PROFILE) --cores $(CORES) \
	--rerun-incomplete --keep-incomplete --nolock --retries 1 --quiet host

.DEFAULT_GOAL := help
.PHONY: help setup study test lint test-weights test-browser test-slurm test-faults test-fuzz test-mutants audit licences bench lab graph tables report reproduced scale docs lock clean

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 14

setup: .venv/.ready ## make .venv/ with the locked dependencies

# .ready is written last, so that an interrupted set-up is done again; the lock is for two that start at once. Compiled
# now, not at the first import: every notebook starts a process of its own.
.venv/.ready: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Python 3.11 or later is needed, this is $$($(PYTHON) --version); set PYTHON=..."; exit 1; }
	@exec 9>.setup.lock; flock 9; \
	if [ $@ -nt requirements.lock ] && [ $@ -nt pyproject.toml ]; then exit 0; fi; \
	echo "setting up .venv (torch and its libraries are a large download)"; \
	$(PYTHON) -m venv .venv \
		|| { echo "python3 cannot make a virtual environment; on Debian: apt install python3-venv"; exit 1; }; \
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION); \
	$(BIN)/uv pip sync --python $(BIN)/python --require-hashes --compile-bytecode requirements.lock; \
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .; \
	touch $@

study: setup ## fetch data and weights, run a profile, print its main table (PROFILE=quick; workflow/profiles has more)
	@flock --nonblock --conflict-exit-code 75 -o .venv/.study-$(PROFILE).lock $(SNAKEMAKE) \
		|| { code=$$?; [ $$code -ne 75 ] || echo "another 'make study PROFILE=$(PROFILE)' is running in this folder"; exit $$code; }
	@$(BIN)/python -m brcd_core.study.summary $(PROFILE)

test: lint ## ruff, mypy, imports, unit tests, the smoke study, every notebook
	@rm -rf build/test
	$(TEST) $(BIN)/pytest -n $(CORES) --dist loadfile --nbval-lax --nbval-current-env tests notebooks

# Tests fetch nothing and leave results/ and cache/ alone. One thread a worker: two on a busy core crawl.
TEST = BRCD_OUTPUT=build/test BRCD_CACHE=build/test/cache OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE

lint: setup
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

test-weights: setup ## the tests that need real weights, fetched first
	$(BIN)/python -m brcd_core.backbones.known_answers fetch dinov2_vits14 mobilenet_v2 resnet18 efficientnet_lite0 \
		efficientnet_b3 clip_vit_b16_dequantised
	$(BIN)/pytest -m weights

test-browser: setup ## every notebook in JupyterLab, seen through Chromium (installed first, on Debian as root)
	tests/browser/setup.sh
	$(BIN)/pytest tests/browser/notebooks_in_lab.py

test-slurm: setup ## the smoke study as jobs of a Slurm cluster of one node, which it starts (root, Debian)
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --require-hashes -r workflow/slurm/requirements.txt
	CORES=$(CORES) $(BIN)/pytest -s tests/slurm/study_on_slurm.py

test-faults: setup ## kills in every stage, full disks, flipped bytes, two at once (20 minutes; the full disk needs root)
	OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE $(BIN)/pytest -s tests/faults

test-fuzz: setup ## a thousand damaged and hostile files, given to all that reads files (minutes, 4 GB of memory)
	$(TEST) $(BIN)/pytest -s tests/fuzz/files.py tests/fuzz/images.py

test-mutants: setup ## do the tests notice changed code? retrieval, codes, bits, losses (17 minutes; SAMPLE=990 for fewer)
	@VIRTUAL_ENV=$(CURDIR)/.venv $(BIN)/uv run --active --no-project --with mutmut==3.8.1 \
		python tests/mutants/run.py $(if $(SAMPLE),--sample $(SAMPLE))

audit: setup ## the known vulnerabilities of the locked packages, by pip-audit (needs the package index's list of them)
	@mkdir -p build
	@$(BIN)/uv tool run --from pip-audit==2.10.1 pip-audit --strict --disable-pip --require-hashes --progress-spinner off \
		-r requirements.lock 2>&1 | tee build/audit.txt || { grep -q '^Found' build/audit.txt \
		|| echo "Nothing was audited: the list of known vulnerabilities cannot be reached from here."; exit 1; }

licences: setup ## the licences of the installed packages, to compare with LICENCES.md
	@$(BIN)/uv tool run --from pip-licenses==5.5.5 pip-licenses --python $(BIN)/python --from mixed --with-system --format markdown

bench: setup ## the speed of every part against the usual way, into results/benchmarks (8 minutes, on a quiet machine)
	@for topic in $(BENCHMARKS); do $(BIN)/python -m benchmarks.$$topic || exit 1; done

BENCHMARKS = retrieval student_run losses extraction latency folder_search

lab: setup ## open JupyterLab on the notebooks
	$(BIN)/jupyter lab --notebook-dir notebooks $(if $(filter 0,$(shell id -u)),--allow-root)

tables: setup ## build the tables and figures of PROFILE again from its collected records
	$(BIN)/python -m brcd_core.study.summary $(PROFILE) --rebuild

report: setup ## PROFILE as one page to send: tables, figures, runs and records (results/PROFILE/report.html)
	@$(BIN)/python -m brcd_core.study.report $(PROFILE)

reproduced: setup ## compare a finished PROFILE with its committed records: equal, within the spread over seeds, or not
	@$(BIN)/python -m brcd_core.study.reproduced $(PROFILE)

scale: setup ## what a million and a hundred million images cost, by what was measured (results/scale)
	@$(BIN)/python -m brcd_core.study.scale

docs: setup ## the documentation of every module, from its docstrings (build/docs/index.html)
	$(BIN)/pdoc brcd_core --output-directory build/docs

graph: setup ## draw the runs of PROFILE and what depends on what (needs graphviz)
	@mkdir -p figures/$(PROFILE)
	$(SNAKEMAKE) --rulegraph | dot -Tsvg > figures/$(PROFILE)/graph.svg

lock: setup ## compile requirements.lock again from pyproject.toml
	$(BIN)/uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 --generate-hashes \
		--no-emit-index-url --no-header --quiet --upgrade --output-file requirements.lock

clean: ## remove the results of PROFILE that can be made again (not cache/)
	rm -rf "$${BRCD_OUTPUT:-.}/results/$(PROFILE)/runs"
