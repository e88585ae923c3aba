module github.com/certctl/certctl/services/issuer

go 1.26.0

require (
	github.com/certctl/certctl/contracts v0.0.0
	github.com/certctl/certctl/libs v0.0.0
)

require github.com/google/uuid v1.6.0 // indirect

replace (
	github.com/certctl/certctl/contracts => ../../contracts
	github.com/certctl/certctl/libs => ../../libs
	github.com/certctl/certctl/libs/testkit => ../../libs/testkit
	github.com/certctl/certctl/migrations => ../../migrations
)
