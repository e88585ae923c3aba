module github.com/certctl/certctl/services/leaf

go 1.26.0
