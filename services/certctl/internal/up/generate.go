package up

//go:generate go run -C ../.. ./internal/configdoc
