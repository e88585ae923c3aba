module github.com/certctl/certctl/services/deployment

go 1.26.0
