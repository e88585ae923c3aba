module github.com/certctl/certctl/services/issuer

go 1.26.0
