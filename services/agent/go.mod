module github.com/certctl/certctl/services/agent

go 1.26.0

require (
	github.com/certctl/certctl/contracts v0.0.0
	github.com/certctl/certctl/libs v0.0.0
	github.com/nats-io/jwt/v2 v2.8.3
	github.com/nats-io/nkeys v0.4.17
)

require (
	github.com/klauspost/compress v1.20.3 // indirect
	github.com/nats-io/nats.go v1.55.0 // indirect
	github.com/nats-io/nuid v1.0.1 // indirect
	golang.org/x/crypto v0.58.0 // indirect
	golang.org/x/sys v0.49.0 // indirect
)

replace (
	github.com/certctl/certctl/contracts => ../../contracts
	github.com/certctl/certctl/libs => ../../libs
	github.com/certctl/certctl/libs/testkit => ../../libs/testkit
)
