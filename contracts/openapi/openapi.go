// Package openapi holds the HTTP contract: written by hand, one file a resource,
// and bundled into openapi.yaml, which the gateway serves and from which servers,
// clients and the table of operations are generated.
//
// An operation's tag is the service that answers it. x-permission is what the caller
// must be allowed to: "<resource>:<action>", "authenticated", or "open".
package openapi

import _ "embed"

// Document is the bundled OpenAPI 3.1 document in YAML.
//
//go:embed openapi.gen.yaml
var Document []byte
