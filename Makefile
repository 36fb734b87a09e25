# make demo   trains a two-tower model to find code by its docstring
# make test   lint, type checks and the whole test suite
#
# Both set up what they need in .venv: nothing but Python 3.10+ and a C++ compiler is
# assumed. See CONTRIBUTING.md for the rest.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export TF_CPP_MIN_LOG_LEVEL ?= 2
# A home for matplotlib's and others' caches that is there on any machine.
export MPLCONFIGDIR ?= $(CURDIR)/build/matplotlib

NATIVE_SOURCES := setup.py CMakeLists.txt $(wildcard csrc/*/*)

.PHONY: demo test lint format install benchmark results clean

demo: install
	$(BIN)/python -m examples.code_search

test: lint
	$(BIN)/python -m pytest -n 2

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/clang-format --dry-run --Werror $(filter csrc/%,$(NATIVE_SOURCES))

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(filter csrc/%,$(NATIVE_SOURCES))

benchmark: install
	$(BIN)/python -m benchmarks.training_step

# The files that README.md takes its figures from.
results: install
	$(BIN)/python -m benchmarks.training_step --output benchmarks/results/training_step.csv
	$(BIN)/python -m examples.code_search --cache demo/pairs.json --output examples/results
	$(BIN)/python -m benchmarks.update_readme

install: $(VENV)/installed

$(VENV)/installed: $(VENV)/requirements $(NATIVE_SOURCES)
	$(BIN)/pip install --quiet --no-build-isolation --no-deps --editable .
	touch $@

$(VENV)/requirements: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/pip install --quiet --group build --group requirements --group examples --group test
	touch $@

clean:
	rm -rf $(VENV) build demo *.egg-info python/*.egg-info
	rm -f python/negative_cosine/*.so python/negative_cosine/_build_info.json
