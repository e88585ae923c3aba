module github.com/certctl/certctl/services/gateway

go 1.26.0

require (
	github.com/certctl/certctl/contracts v0.0.0
	github.com/certctl/certctl/libs v0.0.0
	github.com/certctl/certctl/libs/testkit v0.0.0
	github.com/certctl/certctl/migrations v0.0.0
	github.com/go-chi/chi/v5 v5.5.0
	github.com/jackc/pgx/v5 v5.12.0
	github.com/nats-io/nats.go v1.55.0
	golang.org/x/sync v0.24.0
)

replace (
	github.com/certctl/certctl/contracts => ../../contracts
	github.com/certctl/certctl/libs => ../../libs
	github.com/certctl/certctl/libs/testkit => ../../libs/testkit
	github.com/certctl/certctl/migrations => ../../migrations
)
