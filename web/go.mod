module github.com/certctl/certctl/web

go 1.26.0

ignore ./node_modules
