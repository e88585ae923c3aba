module github.com/certctl/certctl/services/cli

go 1.26.0

require (
	github.com/certctl/certctl/contracts v0.0.0
	github.com/google/go-cmp v0.7.0
	golang.org/x/term v0.47.0
)

require (
	github.com/apapsch/go-jsonmerge/v2 v2.0.0 // indirect
	github.com/google/uuid v1.6.0 // indirect
	github.com/oapi-codegen/runtime v1.8.0 // indirect
	go.yaml.in/yaml/v3 v3.0.6 // indirect
	golang.org/x/sys v0.49.0 // indirect
)

replace github.com/certctl/certctl/contracts => ../../contracts
