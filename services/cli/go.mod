module github.com/certctl/certctl/services/cli

go 1.26.0
