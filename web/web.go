// Package web is the dashboard as it was built: `make web` writes it into dist/app.
package web

import (
	"embed"
	"io/fs"
)

// dist holds a file of its own, so that everything compiles before the dashboard is built.
//
//go:embed all:dist
var dist embed.FS

// Files are those of the dashboard: index.html, and what it refers to. There are none unless it was built.
func Files() fs.FS {
	files, err := fs.Sub(dist, "dist/app")
	if err != nil {
		panic(err) // the path is a valid one
	}
	return files
}
