# Everything a person or CI does here, one line each: `make help`.
SHELL := /bin/bash
.DEFAULT_GOAL := help
CLANG ?= $(firstword $(shell command -v clang clang-19 clang-18 clang-17 clang-16 clang-15 clang-14 2>/dev/null) clang)
BPF_CFLAGS := -O2 -g -Wall -Werror -Wno-unused-function -target bpf -mcpu=v2 -I/usr/include/$(shell uname -m)-linux-gnu
VENV := .venv/bin
ARGS ?=

help: ## This list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

run: setup ## Install what is missing, build, start the agent on 127.0.0.1:2112 (ARGS='--config FILE')
	@exec $(VENV)/flowlens agent $(ARGS)

test: setup-test ## Set up what the tests need and pass every test
	@scripts/test.sh

setup: build/.system build/.venv flowlens/flowlens.bpf.o

build: setup ## Only build: gives .venv/bin/flowlens

setup-test: setup build/.system-test build/.venv-test build/.testbed

build/.system: scripts/system-packages.sh
	@mkdir -p build && scripts/system-packages.sh run && touch $@

build/.system-test: scripts/system-packages.sh
	@mkdir -p build && scripts/system-packages.sh test && touch $@

build/.testbed: tests/testbed/requirements.py build/.venv-test
	@$(VENV)/python -m tests.testbed requirements && touch $@

build/.venv: requirements.txt pyproject.toml scripts/venv.sh
	@mkdir -p build && scripts/venv.sh run && touch $@

build/.venv-test: requirements-dev.txt pyproject.toml scripts/venv.sh build/.venv
	@scripts/venv.sh test && touch $@

bpf: flowlens/flowlens.bpf.o ## Compile the BPF object

flowlens/flowlens.bpf.o: $(wildcard bpf/*.c bpf/*.h)
	@mkdir -p build && $(CLANG) $(BPF_CFLAGS) -c bpf/flowlens.c -o build/flowlens.bpf.o
	@cp build/flowlens.bpf.o $@

check: setup-test ## Linters, types, import order: what CI runs besides the tests
	@scripts/check.sh

bench: setup-test ## Measure cost; prints ratios from one interleaved run
	@$(VENV)/python -m benchmarks

generate: build/.venv ## Write the files that have a source elsewhere (CRD, references)
	@scripts/generate.sh

image: setup ## Build the container image: build/flow-lens.oci.tar
	@scripts/image.sh

cluster-up: setup-test ## Start a real Kubernetes with two nodes here (NODES=3 for three)
	@$(VENV)/python -m tests.testbed up --nodes $(or $(NODES),2)

cluster-shell: ## A shell on node 1, or CMD='kubectl get pods -A'
	@$(VENV)/python -m tests.testbed shell $(if $(CMD),-- sh -c '$(CMD)')

cluster-deploy: ## Build the image, load it on every node, install the chart
	@$(VENV)/python -m tests.testbed deploy

cluster-down: ## Stop the cluster and leave nothing behind
	@$(VENV)/python -m tests.testbed down

clean: ## Remove everything that was built here
	@rm -rf build .venv flowlens/flowlens.bpf.o

.PHONY: help run test setup build setup-test bpf check bench generate image cluster-up cluster-shell cluster-deploy cluster-down clean
