# The whole developer interface. Every target does the set-up it needs; CI calls the same targets.
PYTHON := .venv/bin/python

.PHONY: help setup build test demo bench bench-compare docs docs-test lint asan tsan fuzz clean

help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' Makefile | expand -t 16

setup:  ## packages (when root), the virtual environment, the build, the Python package
	@tools/setup

build: setup  ## the same; what is already there is kept

test: setup  ## all tests but the site's; the last line is "N passed, N failed"
	@$(PYTHON) tools/run_tests.py

demo:  ## train, kill in the middle of a save, resume to the last bit
	@tools/setup --demo
	@$(PYTHON) examples/demo.py

bench: setup  ## stage, save and restore beside peers and the machine's roofs [NAMES=stage.steady]
	@$(PYTHON) bench/run.py $(NAMES)

bench-compare: setup  ## the same for another revision, in turns: REV=main [NAMES=stage.steady]
	@$(PYTHON) tools/bench_compare.py $(REV) $(NAMES)

docs:  ## the site, in build/site/index.html
	@tools/docs

docs-test:  ## the site, read by its tests in a headless browser
	@tools/docs chromium:chromium chromedriver:chromium-driver
	@$(PYTHON) tools/run_tests.py site

lint:  ## formatting, types, the rooms, the documents, and a build with clang
	@tools/lint

asan: setup  ## the C++ tests with the address and undefined-behaviour sanitizers
	@tools/sanitize asan

tsan: setup  ## the C++ tests with the thread sanitizer
	@tools/sanitize tsan

fuzz:  ## every fuzz target for a minute
	@tools/fuzz

clean:  ## remove what was built; the virtual environment stays
	@rm -rf build dist demo-out .pytest_cache .mypy_cache .ruff_cache .hypothesis
