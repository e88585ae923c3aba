module github.com/certctl/certctl/services/revocation

go 1.26.0
