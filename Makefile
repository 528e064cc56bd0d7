# Two commands do everything: `make demo` and `make test`. Both make the environment first.

PYTHON ?= python3
VENV ?= .venv
RUN := $(VENV)/bin/python

.PHONY: demo test test-newest test-tpu quick lint imports docs wheel env clean

demo: env
	$(VENV)/bin/l2t demo

test: lint
	$(RUN) -m pytest -n auto

# The edit loop: all but the tests that train, start processes or compile much.
quick: lint
	$(RUN) -m pytest -n auto -m "not slow"

# With the newest jax, which needs Python 3.12: how it writes a program down changes with its versions.
test-newest:
	$(MAKE) env VENV=$(VENV)-newest PYTHON=python3.12
	$(VENV)-newest/bin/python -m pytest -n auto tests/library

# For TPUs that need not be there. In an environment of its own: where libtpu is, jax looks for a TPU.
test-tpu:
	$(MAKE) env VENV=$(VENV)-tpu
	$(VENV)-tpu/bin/python -m pip install --quiet --requirement requirements.txt "jax[tpu]"
	$(VENV)-tpu/bin/python -m pytest tests/experiments/timing/test_compile.py

lint: env
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy
	$(VENV)/bin/lint-imports --no-cache

wheel: env
	$(RUN) tests/on_wheel.py

imports: env
	$(RUN) docs/imports.py

docs: env
	$(RUN) -m sphinx -W -n -b html docs build/site

env: $(VENV)/.installed

$(VENV)/.installed: requirements.txt pyproject.toml
	@$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11))" || \
	  { echo "$(PYTHON) is $$($(PYTHON) --version); it must be Python 3.11 or later (make PYTHON=...)"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --requirement requirements.txt
	$(RUN) -m pip install --quiet --no-deps --editable .
	@touch $@

clean:
	rm -rf $(VENV)
