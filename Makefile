# make demo   everything from nothing: set-up, then a video through the real ROS 2 graph into out/
# make test   set-up, then the test suite, but for what takes minutes a test
# make setup  .venv alone; ROS=kilted: on that distribution instead of Jazzy
.PHONY: help setup demo test test-slow gpu-check gpu-pack lint format clean

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

# make gpu-check   what the GPU of this machine does, in ten minutes, into out/gpu-check.json; PYTHON=FILE: one with CUDA torch
gpu-check:
	@mkdir -p out
	$(or $(PYTHON),$(if $(wildcard $(PYTHON_BIN)),$(PYTHON_BIN),python3)) tools/gpu_check.py --json out/gpu-check.json

# make gpu-pack    what gpu-check needs, as out/gpu-check.tar.gz, for a machine that has not this repository
gpu-pack:
	@mkdir -p out
	tar --exclude=__pycache__ -czf out/gpu-check.tar.gz Makefile engines thfm_ros tools/gpu_check.py
	@du -h out/gpu-check.tar.gz

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
