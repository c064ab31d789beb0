# Each target works from a bare clone: it makes .venv and installs what it needs, once, and again
# only after pyproject.toml or constraints.txt changed. Another interpreter: make PYTHON=python3.12

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# `compat` puts the clone on sys.path: a finder would lose to a folder named warpkit, such as the
# clone itself, wherever python is started beside it.
INSTALL := $(BIN)/python -m pip install --quiet -c constraints.txt --config-settings editable_mode=compat
# One stamp per set of extras.
RUN_STAMP := $(VENV)/.installed-run
DEV_STAMP := $(VENV)/.installed-dev

.PHONY: demo test lint format docs gallery clean

demo: $(RUN_STAMP)
	$(BIN)/warpkit demo -o warpkit-demo --overwrite

test: $(DEV_STAMP)
	$(BIN)/python -m pytest -n auto --dist loadfile

lint: $(DEV_STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m mypy

format: $(DEV_STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The documentation as pages, in site/; a broken link or docstring fails.
docs: $(DEV_STAMP)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

# Pictures of README and docs, and docs/gallery.md: those whose inputs changed.
gallery: $(DEV_STAMP)
	$(BIN)/python examples/make_pictures.py

# Leaves .venv: remove it by hand to install from nothing.
clean:
	rm -rf site build dist *.egg-info warpkit-demo warpkit-bench .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find warpkit tests examples -name __pycache__ -type d -prune -exec rm -rf {} +

# pyvenv.cfg stands for the environment; a failed creation must not leave it behind.
$(VENV)/pyvenv.cfg:
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(None if v >= (3, 11) else "warpkit needs Python 3.11 or newer, got %d.%d: run make PYTHON=python3.12" % v[:2])'
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

$(RUN_STAMP): $(VENV)/pyvenv.cfg pyproject.toml constraints.txt
	$(INSTALL) -e '.[cpu]'
	@touch $@

$(DEV_STAMP): $(VENV)/pyvenv.cfg pyproject.toml constraints.txt
	$(INSTALL) -e '.[app,cpu,dev,docs,train]'
	@touch $@
