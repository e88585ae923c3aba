module github.com/certctl/certctl/e2e

go 1.26.0

require (
	golang.org/x/crypto v0.58.0
	github.com/certctl/certctl/contracts v0.0.0
	github.com/certctl/certctl/libs v0.0.0
	github.com/jackc/pgx/v5 v5.12.0
	github.com/nats-io/nats.go v1.55.0
	golang.org/x/sync v0.24.0
)

replace (
	github.com/certctl/certctl/contracts => ../contracts
	github.com/certctl/certctl/libs => ../libs
)
