# make demo   trains a two-tower model to find code by its docstring
# make test   lint, type checks and the whole test suite except its nightly part
# make docs   the site of the documents, build/site/index.html
#
# They set up what they need, the first two in .venv: nothing but Python 3.10+ and a C++
# compiler is assumed. See CONTRIBUTING.md for the rest.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export TF_CPP_MIN_LOG_LEVEL ?= 2
# A home for matplotlib's and others' caches that is there on any machine.
export MPLCONFIGDIR ?= $(CURDIR)/build/matplotlib

# For this machine's GPUs; where there is none for one kind alone, which is quick to build. A
# wheel of your own gets all that the toolkit knows, see CONTRIBUTING.md.
export NEGATIVE_COSINE_CUDA_ARCHITECTURES ?= $(if $(shell command -v nvidia-smi),,90-real)
export NEGATIVE_COSINE_WARNINGS_AS_ERRORS ?= 1

NATIVE_SOURCES := setup.py CMakeLists.txt $(wildcard cmake/*) $(wildcard csrc/*/*.* csrc/*/*/*.*)
FORMATTED := $(filter csrc/%,$(NATIVE_SOURCES)) \
  $(shell find tests tools -name '*.cc' -o -name '*.h' -o -name '*.cu' -o -name '*.cuh')

# What takes one processor, or waits for a download, runs beside what compiles.
MAKEFLAGS += --jobs=2

.PHONY: demo test nightly versions lint format install emulation instructions \
  instruction-counts sanitizers asan asan-package bare bare-test bench docs results clean \
  wheel try-wheel wheel-report release-files aarch64

# What a driver for GPUs puts there, on a machine of its own and under Windows.
GPUS := $(wildcard /dev/nvidia[0-9]* /dev/dxg)

demo: install
	$(BIN)/python -m examples.code_search

test: lint emulation instructions sanitizers bare-test docs
	$(if $(GPUS),$(BIN)/python -m pytest -q -m gpu tests)
	CUDA_VISIBLE_DEVICES= $(BIN)/python -m pytest -n 2 --dist loadgroup -m "not gpu"

# What takes too long for every change.
nightly: install asan-package
	CUDA_VISIBLE_DEVICES= $(BIN)/python -m pytest -n 2 -m "nightly and not gpu"

# A build and a part of the tests for each Python on PATH and each supported TensorFlow.
# An hour or so; each pair downloads TensorFlow.
versions: install
	$(PYTHON) -m tools.version_matrix
	$(BIN)/python -m benchmarks.update_documents

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/clang-format --dry-run --Werror $(FORMATTED)

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(FORMATTED)

# Five minutes or so. PyTorch and JAX run too where .venv has them.
bench: install
	$(BIN)/python -m benchmarks.bench --case 1024 4096 --repeat 9 --time-limit 5

RESULTS := benchmarks/results
BENCH := $(BIN)/python -m benchmarks.bench
# The pictures show one way of each kind, to stay legible.
SWEEP := $(BENCH) --repeat 5 --time-limit 2 --impl fused fused-ring fused-all article \
  vectorised-xla in-batch-xla torch-compile jax gather

DEMO := $(BIN)/python -m examples.code_search --cache demo/pairs.json

HELD_TO_AVX2 := NEGATIVE_COSINE_MAX_ISA=avx2 ONEDNN_MAX_CPU_ISA=AVX2 \
  XLA_FLAGS=--xla_cpu_max_isa=AVX2

# The files that the documents take their figures from, their tables and pictures. What
# examples/movielens.py shows is of ml-100k, which is not ours to ship: MOVIELENS=u.data.
results: install
	@grep -q '"80-real", "90"' python/negative_cosine/_build_info.json || \
	  { echo "make results also describes the CUDA kernels: install nvcc, run make clean, and"; \
	    echo "set NEGATIVE_COSINE_CUDA_ARCHITECTURES='80-real;90'"; exit 1; }
	@$(BIN)/python -c "import jax, torch" 2>/dev/null || \
	  { echo "make results also times the peers: $(BIN)/pip install jax torch"; exit 1; }
	$(BENCH) --case small 1024 4096 8192 --repeat 9 --time-limit 4 --output $(RESULTS)/cpu.csv
	$(BENCH) --case bfloat16 --impl fused fused-ring gather --output $(RESULTS)/bfloat16.csv
	$(SWEEP) --case batch --output $(RESULTS)/batch.csv
	$(SWEEP) --case negatives --mode train --without-memory --output $(RESULTS)/negatives.csv
	$(SWEEP) --case dim --mode train --without-memory --output $(RESULTS)/dim.csv
	$(BIN)/python -m benchmarks.plot $(RESULTS)/batch.csv $(RESULTS)/negatives.csv \
	  $(RESULTS)/dim.csv --output docs/pictures
	$(BENCH) --case more-docs --mode train --repeat 7 --time-limit 3 \
	  --output $(RESULTS)/more_docs.csv
	$(BIN)/python -m benchmarks.step_cost --rounds 15 --output $(RESULTS)/step_cost.csv
	$(HELD_TO_AVX2) $(BIN)/python -m benchmarks.step_cost --rounds 15 --output $(RESULTS)/step_cost_avx2.csv
	$(BIN)/python -m benchmarks.end_to_end --rounds 11 --output $(RESULTS)/end_to_end.csv
	$(BIN)/python -m benchmarks.catalogue --rounds 5 --output $(RESULTS)/catalogue.csv
	$(BIN)/python -m examples.vector_index --results examples/results/vector_index.csv
	$(BIN)/python -m benchmarks.errors --output $(RESULTS)/errors.csv
	$(BIN)/python -m benchmarks.replica_bytes --output $(RESULTS)/replica_bytes.csv
	$(BIN)/python -m benchmarks.replica_cost --rounds 15 --output $(RESULTS)/replica_cost.csv
	$(BIN)/python -m benchmarks.gpu.machine_code --output $(RESULTS)/machine_code.csv
	$(BIN)/python -m benchmarks.gpu.tile_code --output $(RESULTS)/tile_code.csv
	$(BIN)/python -m benchmarks.gpu.row_code --output $(RESULTS)/row_code.csv
	$(BIN)/python -m benchmarks.gpu.gpu_predictions --output $(RESULTS)/gpu_predictions.csv
	$(BIN)/python -m benchmarks.gpu.gpu_samplers --output $(RESULTS)/gpu_samplers.csv \
	  --wins $(RESULTS)/gpu_wins.csv
	$(DEMO) --seeds 0 1 2 --output examples/results
	$(DEMO) --batch-size 8192 --epochs 60 --memory-limit 500 --output examples/results/large_batch \
	  --losses "this loss, shuffle, weight auto" "this loss, ring, margin 0.4" \
	  "this loss, all, margin 0.3" "in-batch softmax, margin 0.3"
	$(if $(MOVIELENS),$(BIN)/python -m examples.movielens $(MOVIELENS) --seeds 0 1 2 \
	  --output examples/results/movielens)
	$(BIN)/python -m benchmarks.update_documents

# The CUDA sources as host code, see tools/cuda_emulator.
emulation: $(VENV)/requirements
	PATH="$(CURDIR)/$(BIN):$$PATH" cmake -S tests/cuda/emulation -B build/emulation-cmake -G Ninja \
	  -DPython_EXECUTABLE="$(CURDIR)/$(BIN)/python" \
	  -Dpybind11_DIR="$$($(BIN)/python -m pybind11 --cmakedir)" --log-level=WARNING
	PATH="$(CURDIR)/$(BIN):$$PATH" cmake --build build/emulation-cmake --parallel 2

# The core alone, and a driver that counts the instructions of its training step.
instructions: $(VENV)/requirements
	PATH="$(CURDIR)/$(BIN):$$PATH" cmake -S tests/cpu/instructions -B build/instructions -G Ninja \
	  --log-level=WARNING
	PATH="$(CURDIR)/$(BIN):$$PATH" cmake --build build/instructions --parallel 2

# What tests/cpu/test_instructions.py compares with: after a change that is worth its price.
instruction-counts: instructions
	$(BIN)/python -m tools.instruction_counts

# The core alone once for each sanitizer, and a driver that runs it in many ways.
SANITIZERS := sanitizers/address sanitizers/thread
sanitizers: $(SANITIZERS)
.PHONY: $(SANITIZERS)
$(SANITIZERS): sanitizers/%: $(VENV)/requirements
	PATH="$(CURDIR)/$(BIN):$$PATH" cmake -S tests/cpu/sanitizers -B build/$@ -G Ninja \
	  -DNEGATIVE_COSINE_SANITIZE=$* --log-level=WARNING
	PATH="$(CURDIR)/$(BIN):$$PATH" cmake --build build/$@ --parallel 2

# The same driver without a sanitizer for another processor, where this machine has
# Debian's g++-aarch64-linux-gnu; qemu-user-static runs it (tests/cpu/test_aarch64.py).
AARCH64_CXX ?= aarch64-linux-gnu-g++
aarch64: $(VENV)/requirements
	PATH="$(CURDIR)/$(BIN):$$PATH" cmake -S tests/cpu/sanitizers -B build/aarch64 -G Ninja \
	  -DCMAKE_SYSTEM_NAME=Linux -DCMAKE_SYSTEM_PROCESSOR=aarch64 \
	  -DCMAKE_CXX_COMPILER=$(AARCH64_CXX) -DCMAKE_EXE_LINKER_FLAGS=-static --log-level=WARNING
	PATH="$(CURDIR)/$(BIN):$$PATH" cmake --build build/aarch64 --parallel 2

# The Python tests with a package whose core is under AddressSanitizer and
# UndefinedBehaviorSanitizer, in a folder of its own.
asan: asan-package
	CUDA_VISIBLE_DEVICES= $(BIN)/python -m pytest -m nightly tests/cpu/test_asan_package.py

asan-package: $(VENV)/requirements
	NEGATIVE_COSINE_SANITIZE=address NEGATIVE_COSINE_CUDA=0 $(BIN)/python setup.py --quiet \
	  build --build-temp build/asan/cmake --build-lib build/asan/package

# For a machine without TensorFlow, in one folder that can be copied: the NumPy modules for
# BARE_PYTHON, what tests and times them, the tests and the benchmarks.
#
#   make bare BARE_PYTHON=python3.12 NEGATIVE_COSINE_CUDA_ARCHITECTURES=90
BARE ?= build/bare
BARE_PYTHON ?= $(PYTHON)
# An environment for each Python.
bare-venv-of = build/bare-venv$(subst /,-,/$(1))
BARE_VENV = $(call bare-venv-of,$(BARE_PYTHON))
BARE_BIN = $(BARE_VENV)/bin

bare: $(BARE_VENV)/requirements
	rm -rf $(BARE)
	PATH="$(CURDIR)/$(BARE_BIN):$$PATH" NEGATIVE_COSINE_TENSORFLOW=0 NEGATIVE_COSINE_TEST_DIR=$(BARE) \
	  $(BARE_BIN)/python setup.py --quiet build --build-temp $(BARE_VENV)/cmake --build-lib $(BARE)
	cp -r benchmarks examples tests pyproject.toml $(BARE)
	git describe --always --dirty >$(BARE)/commit.txt || echo unknown >$(BARE)/commit.txt
	@sed -n 's/.*"devices": "\(.*\)",/$(subst /,\/,$(BARE)) was built for \1/p' \
	  $(BARE)/negative_cosine/_build_info.json

# The same for this machine's CPU, tested there, with the emulator in a GPU's place.
bare-test: emulation
	$(MAKE) bare BARE=build/bare-test BARE_PYTHON=$(PYTHON) NEGATIVE_COSINE_CUDA=0
	mkdir -p build/bare-test/build && cp -r build/emulation build/bare-test/build
	cd build/bare-test && CUDA_VISIBLE_DEVICES= \
	  "$(CURDIR)/$(call bare-venv-of,$(PYTHON))/bin/python" -m pytest -q -n 2 --core cpu tests

$(BARE_VENV)/requirements: pyproject.toml
	$(BARE_PYTHON) -m venv $(BARE_VENV)
	$(BARE_BIN)/pip install --quiet --upgrade "pip>=25.1"
	$(BARE_BIN)/pip install --quiet --group bare
	touch $@

# The site, in build/site: see mkdocs.yml. A broken link, a reference to nothing or a public
# docstring without its sections ends the build. It reads the sources, and needs no TensorFlow.
DOCS_VENV := build/docs-venv
docs: $(DOCS_VENV)/requirements
	NO_MKDOCS_2_WARNING=1 $(DOCS_VENV)/bin/python -m mkdocs build --strict --quiet

$(DOCS_VENV)/requirements: pyproject.toml
	$(PYTHON) -m venv $(DOCS_VENV)
	$(DOCS_VENV)/bin/pip install --quiet --upgrade "pip>=25.1"
	$(DOCS_VENV)/bin/pip install --quiet --group docs
	touch $@

# To give away: for PYTHON, every supported TensorFlow, and with nvcc on PATH every GPU from
# Turing on. It needs nothing of .venv. .github/workflows/release.yml runs these four.
#
#   make wheel PYTHON=python3.12
WHEEL_CUDA_ARCHITECTURES ?= 75-real;80-real;86-real;89-real;90-real;100-real;120
DIST := dist

wheel:
	NEGATIVE_COSINE_CUDA_ARCHITECTURES="$(WHEEL_CUDA_ARCHITECTURES)" $(PYTHON) -m tools.wheel \
	  --output $(DIST)

# In empty environments: README's code, and a part of the tests.
try-wheel:
	$(PYTHON) -m tools.try_wheel $(DIST)/*.whl

wheel-report: wheel
	$(PYTHON) -m tools.wheel_report $(DIST)/*.whl
	$(BIN)/python -m benchmarks.update_documents

# The checksums of all that is in dist, and what the changelog says of this release.
release-files:
	$(PYTHON) -m tools.release_files $(DIST)

install: $(VENV)/installed

$(VENV)/installed: $(VENV)/requirements $(NATIVE_SOURCES)
	$(BIN)/pip install --quiet --no-build-isolation --no-deps --editable .
	@sed -n 's/.*"devices": "\(.*\)",/negative_cosine was built for \1/p' \
	  python/negative_cosine/_build_info.json
	@touch $@

$(VENV)/requirements: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/pip install --quiet --group build --group requirements --group examples --group test
	touch $@

clean:
	rm -rf $(VENV) build demo dist *.egg-info python/*.egg-info
	rm -f python/negative_cosine/*.so python/negative_cosine/_build_info.json
