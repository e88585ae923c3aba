module github.com/certctl/certctl/services/agent

go 1.26.0
