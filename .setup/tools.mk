# Every tool the build uses, pinned here and nowhere else, built once into .bin/.
# A stamp carries the version in its name: a changed pin has no stamp, so make builds that tool again.

BIN := $(CURDIR)/.bin

# name = module path of the command @ version
GOLANGCI_LINT := github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
GOFUMPT       := mvdan.cc/gofumpt@v0.12.0
OAPI_CODEGEN  := github.com/oapi-codegen/oapi-codegen/v2/cmd/oapi-codegen@v2.8.2
# The certificate authority that tests run against and that certctl is measured beside.
STEP_CA       := github.com/smallstep/certificates/cmd/step-ca@v0.30.2
# An ACME server for tests, and the DNS that it asks.
PEBBLE        := github.com/letsencrypt/pebble/v2/cmd/pebble@v2.10.1
CHALLTESTSRV  := github.com/letsencrypt/pebble/v2/cmd/pebble-challtestsrv@v2.10.1

stamp = $(BIN)/.$(notdir $(1))

$(BIN)/.%:
	@.setup/gotool.sh '$(BIN)' '$(filter %/$*,$(GOLANGCI_LINT) $(GOFUMPT) $(OAPI_CODEGEN) $(STEP_CA) $(PEBBLE) $(CHALLTESTSRV))'
	@rm -f '$(BIN)'/.$(firstword $(subst @, ,$*))@*
	@touch '$@'
