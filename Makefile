# certctl: build, try, test. `make` alone lists what there is.
# Tools are pinned in .setup/tools.mk and built to .bin/; what tests and the demo run against (Postgres, NGINX,
# GnuTLS, BIND, SoftHSM, Chromium) is taken from the machine, or else unpacked into .peers/.

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
# What the dashboard is built from.
WEB_SOURCES = $(shell find web/src web/public web/index.html web/*.json web/*.ts -type f 2>/dev/null)
# Where goroutines share something: the mechanisms, and each service that runs them.
CONCURRENT = $(filter-out ./contracts/... ./migrations/... ./e2e/... ./services/cli/...,$(PACKAGES))

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
MODULE  := github.com/certctl/certctl
LDFLAGS  = -s -w $(foreach v,libs/obs.version services/agent/internal/host.version services/cli.Version services/signer.version,-X $(MODULE)/$(v)=$(VERSION))
# What binaries are built from: tests that run binaries are run again when it changes.
TREE = contracts libs migrations services web
export E2E_SOURCES := $(shell { git ls-files -s $(TREE); git diff $(TREE); } 2>/dev/null | git hash-object --stdin 2>/dev/null)
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
build: web ## Build every binary into dist/, static but for the signer, which is left out without a C compiler
	@mkdir -p dist
	CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS)' -o dist/ $(COMMANDS)
	@if command -v "$$(go env CC | cut -d' ' -f1)" >/dev/null; then $(MAKE) --no-print-directory signer; \
		else echo 'no C compiler: dist/certctl-signer, for CA keys in a PKCS#11 token, is not built'; fi

.PHONY: signer
signer: ## Build certctl-signer, for CA keys in a PKCS#11 token, into dist/ (needs a C compiler)
	@mkdir -p dist
	CGO_ENABLED=1 go build -trimpath -ldflags '$(LDFLAGS)' -o dist/ $(SIGNER)

web/node_modules/.installed: web/package-lock.json
	npm ci --prefix web --ignore-scripts --no-audit --no-fund --loglevel=error
	@touch $@

web/dist/app/index.html: web/node_modules/.installed $(WEB_SOURCES)
	npm run --prefix web --silent build

.PHONY: web
web: web/dist/app/index.html ## Build the dashboard into web/dist, from where it gets into the binaries (done when needed)

.PHONY: test
test: peers authorities browser web ## Run the tests of every module, and those of the dashboard
	npm run --prefix web --silent test
	go test -timeout 20m $(T) $(PACKAGES)

.PHONY: race
race: peers authorities ## Run the tests of whatever is concurrent under the race detector
	CGO_ENABLED=1 go test -race -timeout 30m $(T) $(CONCURRENT)

.PHONY: lint
lint: $(call stamp,$(GOLANGCI_LINT)) web/node_modules/.installed ## Check formatting and the linters' rules (FIX=1: mend what can be)
	golangci-lint run $(if $(filter 1 true yes,$(FIX)),--fix) $(PACKAGES)
	npm run --prefix web --silent lint

.PHONY: generate
generate: $(call stamp,$(OAPI_CODEGEN)) $(call stamp,$(GOFUMPT)) web/node_modules/.installed ## Write generated code, schemas and documents anew
	go generate ./contracts/...
	@cd contracts && for config in httpapi/*/oapi.yaml; do oapi-codegen -config $$config openapi/openapi.gen.yaml || exit 1; done
	go generate $(filter-out ./contracts/...,$(PACKAGES)) # after the contract, which they compile against
	npm run --prefix web --silent types

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

.PHONY: browser
browser: ## Find or fetch Chromium (done when needed)
	@.setup/chromium.sh '$(PEERS)'

.PHONY: authorities
authorities: $(call stamp,$(STEP_CA)) $(call stamp,$(PEBBLE)) $(call stamp,$(CHALLTESTSRV)) ## Build the CAs that tests and the benchmark run against (done when needed)

.PHONY: clean
clean: ## Remove what was built (tools and peers stay; remove .bin and .peers by hand)
	rm -rf dist .demo web/dist/app
