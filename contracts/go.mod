module github.com/certctl/certctl/contracts

go 1.26.0
