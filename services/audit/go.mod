module github.com/certctl/certctl/services/audit

go 1.26.0
