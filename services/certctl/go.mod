module github.com/certctl/certctl/services/certctl

go 1.26.0

require (
	github.com/certctl/certctl/contracts v0.0.0
	github.com/certctl/certctl/libs v0.0.0
	github.com/certctl/certctl/libs/testkit v0.0.0
	github.com/certctl/certctl/migrations v0.0.0
	github.com/certctl/certctl/services/audit v0.0.0
	github.com/certctl/certctl/services/deployment v0.0.0
	github.com/certctl/certctl/services/gateway v0.0.0
	github.com/certctl/certctl/services/issuer v0.0.0
	github.com/certctl/certctl/services/leaf v0.0.0
	github.com/certctl/certctl/services/revocation v0.0.0
	github.com/jackc/pgx/v5 v5.12.0
	github.com/nats-io/jwt/v2 v2.8.3
	github.com/nats-io/nats-server/v2 v2.15.2
	github.com/nats-io/nats.go v1.55.0
	github.com/nats-io/nkeys v0.4.17
	github.com/prometheus/client_golang v1.25.0
	golang.org/x/crypto v0.58.0
	golang.org/x/sync v0.24.0
)

replace (
	github.com/certctl/certctl/contracts => ../../contracts
	github.com/certctl/certctl/libs => ../../libs
	github.com/certctl/certctl/libs/testkit => ../../libs/testkit
	github.com/certctl/certctl/migrations => ../../migrations
	github.com/certctl/certctl/services/audit => ../audit
	github.com/certctl/certctl/services/deployment => ../deployment
	github.com/certctl/certctl/services/gateway => ../gateway
	github.com/certctl/certctl/services/issuer => ../issuer
	github.com/certctl/certctl/services/leaf => ../leaf
	github.com/certctl/certctl/services/revocation => ../revocation
)
