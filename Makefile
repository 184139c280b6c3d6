# make demo   everything from nothing: set-up, then a video through the real ROS 2 graph into out/
# make test   set-up, then the test suite, but for what takes minutes a test
# make setup  .venv alone; ROS=kilted: on that distribution instead of Jazzy
.PHONY: help setup demo test test-slow lint format clean

PYTHON_BIN := .venv/bin/python

help:
	@grep -E '^# make' Makefile | cut -c3-

setup:
	@tools/setup.sh

demo: setup
	@.venv/bin/thfm demo

test: setup
	@tools/test.sh

# make test-slow   the long checks
test-slow: setup
	$(PYTHON_BIN) -m pytest -m slow

# make lint   what CI checks besides the tests
lint: setup
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .

# make format   rewrite the sources to the house style
format: setup
	.venv/bin/ruff check --fix .
	.venv/bin/ruff format .

clean:
	rm -rf build out bundles
