module github.com/certctl/certctl/e2e

go 1.26.0
