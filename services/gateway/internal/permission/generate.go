package permission

//go:generate go run -C ../.. ./internal/permissiondoc
