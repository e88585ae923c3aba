module github.com/certctl/certctl/services/gateway

go 1.26.0
