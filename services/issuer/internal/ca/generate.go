package ca

//go:generate go run -C ../.. ./internal/conformancedoc
