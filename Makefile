# `make` alone lists the targets. Everything is installed into .venv; a stamp file in it, newer than
# pyproject.toml, says that an install was done and makes the second run quick.

PYTHON ?= python3
# Options for the one `pip install` of torch: on Linux its default wheel brings CUDA by the gigabyte, and PyTorch
# publishes an index of wheels without it.  make test TORCH_OPTIONS="--index-url ADDRESS"
TORCH_OPTIONS ?=
BIN := .venv/bin
BUNDLES := $(wildcard models/*.rack)

.DEFAULT_GOAL := help
.PHONY: help demo bench arm64 peers scaling kernels check test hardware schematic budget kicad ngspice system clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9]+:.*## / { printf "make %-10s%s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: .venv/base.stamp  ## hear it: set up .venv without torch, write out/demo.wav and out/demo.png
	$(BIN)/darkrack demo

# make bench BENCH="--quick --json out/bench.json --png out/bench.png"
BENCH ?= --json out/bench.json --png out/bench.png
bench: .venv/base.stamp  ## measure this machine with the bundles in models/: half an hour; BENCH=--quick two minutes
	$(BIN)/darkrack bench $(BUNDLES) $(BENCH)

# fluidsynth takes part with a SoundFont:  make peers SOUNDFONT=FILE.sf2
peers: .venv/dev.stamp  ## measure the bundles in models/ beside RAVE, DDSP, GANSynth, DarkGAN (ten minutes each)
	for bundle in $(BUNDLES); do \
		OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.peers $$bundle $(if $(SOUNDFONT),--soundfont $(SOUNDFONT)) \
			|| exit 1; \
	done

scaling: .venv/dev.stamp  ## measure what voices, partials, blocks and networks cost; writes out/scaling.md and .png
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.scaling $(BUNDLES) --out out/scaling.md --json out/scaling.json

# The plugin that the tests leave out (pyproject.toml) would stop the second line as well.
kernels: .venv/dev.stamp  ## time each kernel alone, keep it in out/kernels, and compare with the last time
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest benchmarks/kernels.py --benchmark-timer time.process_time \
		--benchmark-storage out/kernels --benchmark-autosave --benchmark-quiet
	PYTEST_DISABLE_PLUGIN_AUTOLOAD=1 $(BIN)/pytest-benchmark --storage out/kernels compare --group-by name --columns median,iqr,rounds

# RECORD=1 keeps the counts as the bound from now on, and writes the tables of docs/arm64.md.
arm64: .venv/base.stamp system-arm64  ## the bundles in models/ on emulated Raspberry Pis: the same sound, and what it takes
	$(BIN)/python -m benchmarks.arm64 run $(BUNDLES) $(if $(RECORD),--record)

check: .venv/dev.stamp  ## formatting, lint and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy --strict

# Two processes with one thread each: more threads than cores make torch, BLAS and numba slower, not faster.
test: system system-arm64 .venv/dev.stamp  ## set up everything, torch included, and run all tests
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2

# The same tests are part of `make test`, which leaves them out where KiCad is not.
hardware: kicad ngspice  ## install KiCad 9 and ngspice where they are not; check and simulate the module's schematic
	DARKRACK_REQUIRE_ALL=1 OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 tests/test_hw_*.py

schematic: kicad  ## write what is made for the module: KiCad's files, pictures, lists of parts, panel, wiring drawing
	$(BIN)/python -m hw_schematics write

budget: kicad ngspice  ## simulate the module, and write hw_schematics/docs/error_budget.md (ten minutes)
	OMP_NUM_THREADS=1 $(BIN)/python -m hw_schematics budget

kicad: .venv/dev.stamp
	$(BIN)/python -m hw_schematics install

ngspice:
	@if command -v ngspice >/dev/null; then exit 0; fi; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends ngspice; \
	else \
		echo "error: the module is simulated by the program ngspice"; echo "hint: sudo apt-get install ngspice"; exit 1; \
	fi

# What the tests run that pip does not bring: fluidsynth renders (they make their own small SoundFont), chromium looks at
# a page, JACK's dummy driver is a sound card and carries MIDI, valgrind counts the instructions of the callback, linked
# alone by gcc, strace cuts the power, the service is installed into a Debian that debootstrap makes, and ngspice
# simulates the module.
system:
	@missing=$$(for program in fluidsynth chromium jackd valgrind gcc objcopy strace debootstrap shellcheck \
		systemd-analyze unshare ngspice; do \
		command -v $$program >/dev/null || echo $$program; done; \
		/sbin/ldconfig -p | grep -q libportaudio || echo libportaudio); \
	if [ -z "$$missing" ]; then exit 0; fi; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		apt-get update -q && \
		DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends \
			fluidsynth chromium jackd2 libportaudio2 valgrind gcc libc6-dev binutils strace debootstrap \
			shellcheck systemd util-linux ngspice; \
	elif ! command -v fluidsynth >/dev/null; then \
		echo "error: the tests need the program fluidsynth"; echo "hint: sudo apt-get install fluidsynth"; exit 1; \
	fi

# An arm64 Debian is made by debootstrap, run by qemu's user emulation, and watched by a plugin that gcc compiles.
.PHONY: system-arm64
system-arm64:
	@missing=$$(for program in debootstrap dpkg-deb qemu-aarch64 gcc setarch; do \
		command -v $$program >/dev/null || echo $$program; done); \
	if [ -n "$$missing" ] && [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends \
			debootstrap dpkg qemu-user gcc libc6-dev util-linux; \
	fi

clean:  ## remove .venv, caches and what was built; leaves out/ and runs/
	rm -rf .venv build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +

$(BIN)/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
		{ echo "error: $(PYTHON): expected Python 3.10 or later"; echo "hint: make PYTHON=python3.11"; exit 1; }
	$(PYTHON) -m venv .venv

.venv/base.stamp: pyproject.toml | $(BIN)/pip
	$(BIN)/pip install -e .
	touch $@

# torch on its own and first: resolved together with what depends on it, pip may take another build of it.
.venv/dev.stamp: pyproject.toml | $(BIN)/pip
	$(BIN)/pip install $(TORCH_OPTIONS) torch==2.13.0
	$(BIN)/pip install -e '.[dev]'
	touch $@ .venv/base.stamp
