# certctl: build, try, test. `make` alone lists what there is.
# Tools are pinned in .setup/tools.mk and built to .bin/; what tests and the demo run against (Postgres, NGINX,
# GnuTLS, BIND, SoftHSM) is taken from the machine, or else unpacked into .peers/.

SHELL := /bin/sh
MAKEFLAGS += --no-builtin-rules
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

include .setup/tools.mk

PEERS := $(CURDIR)/.peers
export PATH := $(BIN):$(PATH):$(PEERS)/bin:$(PEERS)/postgres/bin

MODULES  = $(shell go list -m -f '{{.Dir}}')
RELATIVE = $(patsubst $(CURDIR)/%,./%,$(MODULES))
PACKAGES = $(addsuffix /...,$(RELATIVE))
# The signer loads PKCS#11 libraries, so it is the one program that is not static and needs a C compiler.
SIGNER   = ./services/signer/cmd/certctl-signer
COMMANDS = $(filter-out $(SIGNER),$(wildcard ./services/*/cmd/*))
# Where goroutines share something: the mechanisms, and each service that runs them.
CONCURRENT = $(filter-out ./contracts/... ./migrations/... ./e2e/... ./services/cli/...,$(PACKAGES))

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
MODULE  := github.com/certctl/certctl
LDFLAGS  = -s -w $(foreach v,libs/obs.version services/agent/internal/host.version services/cli.Version services/signer.version,-X $(MODULE)/$(v)=$(VERSION))
# go test's own flags for one run, as in: make test T='-run TestRelay -v'
T ?=

.PHONY: help
help: ## Show this list
	@awk 'BEGIN { FS = ":.*## " } /^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

##@ Use

.PHONY: demo
demo: build peers ## Watch one certificate from request to TLS handshake (ONCE=1: then exit)
	dist/certctl demo $(if $(filter 1 true yes,$(ONCE)),--once)

.PHONY: run
run: build peers ## Run certctl here: every service, NATS and Postgres in one command
	dist/certctl up

##@ Change

.PHONY: build
build: ## Build every binary into dist/, static but for the signer, which is left out without a C compiler
	@mkdir -p dist
	CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS)' -o dist/ $(COMMANDS)
	@if command -v "$$(go env CC | cut -d' ' -f1)" >/dev/null; then $(MAKE) --no-print-directory signer; \
		else echo 'no C compiler: dist/certctl-signer, for CA keys in a PKCS#11 token, is not built'; fi

.PHONY: signer
signer: ## Build certctl-signer, for CA keys in a PKCS#11 token, into dist/ (needs a C compiler)
	@mkdir -p dist
	CGO_ENABLED=1 go build -trimpath -ldflags '$(LDFLAGS)' -o dist/ $(SIGNER)

.PHONY: test
test: peers authorities ## Run the tests of every module
	go test -timeout 20m $(T) $(PACKAGES)

.PHONY: race
race: peers authorities ## Run the tests of whatever is concurrent under the race detector
	CGO_ENABLED=1 go test -race -timeout 30m $(T) $(CONCURRENT)

.PHONY: lint
lint: $(call stamp,$(GOLANGCI_LINT)) ## Check formatting and the linters' rules (FIX=1: mend what can be)
	golangci-lint run $(if $(filter 1 true yes,$(FIX)),--fix) $(PACKAGES)

.PHONY: generate
generate: $(call stamp,$(OAPI_CODEGEN)) $(call stamp,$(GOFUMPT)) ## Write generated code, schemas and documents anew
	go generate ./contracts/...
	@cd contracts && for config in httpapi/*/oapi.yaml; do oapi-codegen -config $$config openapi/openapi.gen.yaml || exit 1; done
	go generate $(filter-out ./contracts/...,$(PACKAGES)) # after the contract, which they compile against

.PHONY: verify
verify: $(call stamp,$(OAPI_CODEGEN)) $(call stamp,$(GOFUMPT)) ## Check generated files, go.mod files, module and import boundaries
	@.setup/verify.sh $(RELATIVE)

.PHONY: tidy
tidy: ## Tidy the go.mod of every module
	@for module in $(RELATIVE); do (cd $$module && GOWORK=off go mod tidy) || exit 1; done

# FUZZ_SEED=n makes the choices of an earlier run, which printed it.
FUZZ_TIME ?= 10m
.PHONY: fuzz
fuzz: peers ## Ask a running installation whatever the contract allows and forbids (FUZZ_TIME=10m)
	FUZZ_TIME=$(FUZZ_TIME) go test -count=1 -timeout 0 -v -run TestContract_ ./e2e

.PHONY: bench
bench: build peers authorities ## Measure, with step-ca beside it (no part of the tests)
	go run ./e2e/bench

##@ Set up

.PHONY: tools
tools: $(call stamp,$(GOLANGCI_LINT)) $(call stamp,$(GOFUMPT)) $(call stamp,$(OAPI_CODEGEN)) ## Build the pinned tools (done when needed)

.PHONY: peers
peers: ## Find or fetch Postgres, NGINX, GnuTLS, BIND and SoftHSM (done when needed)
	@.setup/postgres.sh '$(PEERS)'
	@.setup/nginx.sh '$(PEERS)'
	@.setup/gnutls.sh '$(PEERS)'
	@.setup/bind.sh '$(PEERS)'
	@.setup/softhsm.sh '$(PEERS)'

.PHONY: authorities
authorities: $(call stamp,$(STEP_CA)) $(call stamp,$(PEBBLE)) $(call stamp,$(CHALLTESTSRV)) ## Build the CAs that tests and the benchmark run against (done when needed)

.PHONY: clean
clean: ## Remove what was built (tools and peers stay; remove .bin and .peers by hand)
	rm -rf dist .demo
