# modelrights: model rights management for Kubernetes. `make help` explains every target.

SHELL := /usr/bin/env bash -o pipefail
.SHELLFLAGS := -ec
.DEFAULT_GOAL := help

OUTPUT   := $(CURDIR)/_output
BIN      := $(OUTPUT)/bin
IMAGEBIN := $(OUTPUT)/image
CLUSTER  ?= own
VERSION  ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS  := -s -w -X modelrights.dev/modelrights/internal/version.Version=$(VERSION)
export PATH := $(BIN):$(PATH)
export GOFLAGS := -buildvcs=false
export CGO_ENABLED := 0

# The cluster tool builds and runs a real Kubernetes; it writes what others need to know into this file.
CLUSTERTOOL := $(BIN)/cluster
CLUSTERENV  := $(OUTPUT)/cluster/env

##@ General

.PHONY: help
help: ## Explain every target.
	@awk 'BEGIN {FS = ":.*##"} /^##@/ {printf "\n%s\n", substr($$0, 5)} /^[a-zA-Z0-9_-]+:.*##/ {printf "  %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

##@ Development

.PHONY: generate
generate: ## Write the Go code that is derived from the API types.
	go tool controller-gen object:headerFile=hack/boilerplate.go.txt paths=./api/...

.PHONY: manifests
manifests: $(BIN)/helm ## Write the CRDs from the API types, and config/ from the chart.
	go tool controller-gen crd:crdVersions=v1 paths=./api/... output:crd:artifacts:config=config/crd/bases
	hack/render-config.sh

.PHONY: build
build: ## Build the binaries of this machine's platform into _output/bin.
	go build -trimpath -ldflags '$(LDFLAGS)' -o $(BIN)/ ./cmd/...

.PHONY: lint
lint: $(BIN)/golangci-lint ## Run the linters.
	$(BIN)/golangci-lint run ./...

.PHONY: verify
verify: generate manifests lint ## Regenerate everything, lint, and fail if the tree is dirty.
	go mod tidy
	go mod verify
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { echo "not gofmt-ed:"; gofmt -l $$(git ls-files '*.go'); exit 1; }
	@if [ -n "$$(git status --porcelain)" ]; then \
	  echo "verify: the tree is dirty; generated files are out of date, or work is not committed:"; git status --short; git --no-pager diff --stat; exit 1; fi

##@ Tests

.PHONY: test
test: test-unit test-integration test-e2e ## Run every test: unit, against real API servers, and on a real cluster.

.PHONY: test-unit
test-unit: ## Run the tests that need nothing but Go.
	go test -timeout 30m $$(go list ./... | grep -v -e /test/integration -e /test/e2e$$ -e /test/chart)
	cd hack/cluster && go test ./...
	cd test/alerts && go test ./...

# Specs wait more than they compute: with one process, two cores are idle for most of the time. The timeout ends what hangs.
PROCS  ?= 3
GINKGO := go tool ginkgo run --procs=$(PROCS) --no-color --timeout=40m ./test/integration

.PHONY: test-integration
test-integration: $(CLUSTERTOOL) $(BIN)/helm ## Run the tests of the chart, and those against the API servers of the newest and the oldest supported Kubernetes (PROCS).
	$(CLUSTERTOOL) build --only control-plane,oldest
	go test ./test/chart/...
	KUBEBUILDER_ASSETS=$(BIN) $(GINKGO)
	KUBEBUILDER_ASSETS=$(BIN)/oldest $(GINKGO)

.PHONY: test-e2e
test-e2e: cluster-up images ## Run the tests that need a kubelet, on a real cluster of their own.
	@status=0; $(MAKE) --no-print-directory e2e-suite || status=$$?; \
	  if [ -z "$(filter-out 0,$(KEEP))" ]; then $(MAKE) --no-print-directory cluster-down; fi; exit $$status

.PHONY: e2e-suite
e2e-suite:
	source $(CLUSTERENV) && go test -tags e2e ./test/e2e/... -v -timeout 60m

.PHONY: mutants
mutants: ## Take each guard of docs/coverage.md out of the code, one at a time, and see that its tests go red (MUTANTFLAGS="-shard 1/8").
	KUBEBUILDER_ASSETS=$(BIN) go run ./hack/mutants $(MUTANTFLAGS)

.PHONY: bench
bench: $(CLUSTERTOOL) ## Measure, and write the results into _output/bench: docs/benchmarks.md says how to read them (BENCHFLAGS=-short).
	$(CLUSTERTOOL) build --only control-plane
	go run ./test/bench/report -out $(OUTPUT)/bench
	go build -trimpath -o $(OUTPUT)/bench/ ./test/bench/admission ./test/bench/seats
	$(OUTPUT)/bench/admission -assets $(BIN) -out $(OUTPUT)/bench $(BENCHFLAGS)
	exec $(OUTPUT)/bench/seats -assets $(BIN) -out $(OUTPUT)/bench $(BENCHFLAGS)

.PHONY: bench-node
bench-node: cluster-up images $(BIN)/helm ## Measure on a real node: how fast keys are mounted, and wiped when a grant is deleted.
	@status=0; (source $(CLUSTERENV); go run ./test/bench/node -out $(OUTPUT)/bench) || status=$$?; \
	  if [ -z "$(filter-out 0,$(KEEP))" ]; then $(MAKE) --no-print-directory cluster-down >/dev/null; fi; exit $$status

##@ Images, installation and the demo

# Where images are pushed to and pulled from: the cluster's own registry, or yours (REGISTRY=host/prefix).
TAG ?= dev

# On a cluster of our own, images go to its own registry and nowhere else.
ifneq ($(CLUSTER),existing)
demo test-e2e: override REGISTRY :=
endif

.PHONY: images
images: ## Build the images and push them to REGISTRY (default: the registry of the cluster of cluster-up).
	CGO_ENABLED=0 GOOS=linux go build -trimpath -ldflags '$(LDFLAGS)' -o $(IMAGEBIN)/ ./cmd/... ./hack/demo/inference ./test/e2e/probe
	go build -trimpath -o $(BIN)/images ./hack/images
	@registry="$(REGISTRY)"; \
	  if [ -z "$$registry" ]; then \
	    if [ ! -f $(CLUSTERENV) ]; then echo "REGISTRY is not set, and no cluster of ours runs: set REGISTRY=host/prefix, or run make cluster-up" >&2; exit 1; fi; \
	    source $(CLUSTERENV); registry=$$REGISTRY; fi; \
	  push() { $(BIN)/images --image $$registry/$$1:$(TAG) --file $(IMAGEBIN)/$$2:/$$2 --entrypoint /$$2 --user $$3 --push; }; \
	  push modelrights-operator modelrights-operator 65532; \
	  push modelrights-node modelrights-node 0; \
	  push demo-inference inference 65532

.PHONY: install
install: $(BIN)/helm ## Install the chart into the cluster of KUBECONFIG, with images from REGISTRY (KUBELET_DIR, HELMFLAGS).
	@if [ -z "$(REGISTRY)" ]; then echo "REGISTRY is not set: REGISTRY=host/prefix says where make images pushed to" >&2; exit 1; fi
	$(BIN)/helm upgrade --install modelrights charts/modelrights --namespace modelrights-system --create-namespace \
	  --set image.registry=$(REGISTRY) --set image.tag=$(TAG) $(if $(KUBELET_DIR),--set node.kubeletDir=$(KUBELET_DIR)) \
	  --reset-then-reuse-values --wait --timeout 5m $(HELMFLAGS)

.PHONY: demo
demo: cluster-up images $(BIN)/helm ## Show on a real cluster what modelrights does (KEEP=1: leave it up; CLUSTER=existing: use KUBECONFIG and REGISTRY).
	@go build -trimpath -o $(BIN)/ ./hack/demo ./cmd/kubectl-modelrights
	@status=0; \
	  if [ "$(CLUSTER)" = existing ]; then CLUSTER=existing TAG=$(TAG) $(BIN)/demo || status=$$?; \
	  else (source $(CLUSTERENV); TAG=$(TAG) $(BIN)/demo) || status=$$?; fi; \
	  if [ -z "$(filter-out 0,$(KEEP))" ]; then $(MAKE) --no-print-directory cluster-down >/dev/null; fi; exit $$status

##@ A real Kubernetes

$(BIN)/helm: hack/tools/helm/go.mod hack/tools/helm/go.sum
	@echo "building helm"
	cd hack/tools/helm && go build -trimpath -ldflags '-s -w' -o $@ helm.sh/helm/v4/cmd/helm

$(BIN)/golangci-lint: hack/tools/golangci-lint/go.mod hack/tools/golangci-lint/go.sum
	@echo "building golangci-lint"
	cd hack/tools/golangci-lint && go build -trimpath -ldflags '-s -w' -o $@ github.com/golangci/golangci-lint/v2/cmd/golangci-lint

$(CLUSTERTOOL): $(wildcard hack/cluster/*.go hack/cluster/go.mod hack/cluster/go.sum)
	cd hack/cluster && go build -trimpath -o $@ .

# Nothing is removed for it, and PACKAGES=no leaves the machine alone; what is missing is named then.
.PHONY: packages
packages: $(CLUSTERTOOL) ## Install, as root on Debian and its like, what a node needs and this machine lacks.
	@missing="$$($(CLUSTERTOOL) packages)"; \
	  if [ "$(CLUSTER)" != existing ] && [ "$(PACKAGES)" != no ] && [ -n "$$missing" ] && [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    echo "installing $$missing (PACKAGES=no leaves that to you)"; apt-get update -qq; \
	    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends --no-remove $$missing; fi

.PHONY: cluster-up
cluster-up: $(CLUSTERTOOL) packages ## Start a real Kubernetes; its kubeconfig is _output/cluster/kubeconfig.
	@if [ "$(CLUSTER)" != existing ]; then $(CLUSTERTOOL) up; fi

.PHONY: cluster-down
cluster-down: $(CLUSTERTOOL) ## Stop it and leave nothing behind.
	@if [ "$(CLUSTER)" != existing ]; then $(CLUSTERTOOL) down; fi
