// Package migrations holds the SQL of every schema, one folder per service: <service>/0001_<what it makes>.sql and so
// on, in goose's format. There is no other code here; package pg runs the files as the schema's owner, with a
// search_path of that schema, so they name no schema.
//
// Files go forward only: no "goose Down". A file that has been released is never edited. A change that the running
// release cannot live with is made in two: add in one release, take away in the one after.
//
// The service that owns a schema owns its folder. The tables outbox and inbox are the same everywhere; they are copied
// from outbox_inbox/.
package migrations

import (
	"embed"
	"fmt"
	"io/fs"
)

//go:embed */*.sql
var files embed.FS

// FS returns the migrations of one service. It panics if the service has none.
func FS(service string) fs.FS {
	if _, err := fs.Stat(files, service); err != nil {
		panic(fmt.Sprintf("no migrations for %q: %v", service, err))
	}
	sub, err := fs.Sub(files, service)
	if err != nil {
		panic(fmt.Sprintf("migrations of %q: %v", service, err))
	}
	return sub
}
