module github.com/certctl/certctl/services/agent

go 1.26.0

require (
	github.com/certctl/certctl/contracts v0.0.0
	github.com/certctl/certctl/libs v0.0.0
	github.com/certctl/certctl/libs/testkit v0.0.0
	github.com/google/go-cmp v0.7.0
	github.com/nats-io/jwt/v2 v2.8.3
	github.com/nats-io/nats-server/v2 v2.15.2
	github.com/nats-io/nats.go v1.55.0
	github.com/nats-io/nkeys v0.4.17
	go.uber.org/goleak v1.3.0
)

replace (
	github.com/certctl/certctl/contracts => ../../contracts
	github.com/certctl/certctl/libs => ../../libs
	github.com/certctl/certctl/libs/testkit => ../../libs/testkit
)
