module github.com/certctl/certctl/services/certctl

go 1.26.0
