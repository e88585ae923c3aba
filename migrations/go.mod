module github.com/certctl/certctl/migrations

go 1.26.0
