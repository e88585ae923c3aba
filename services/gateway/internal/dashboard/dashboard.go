// Package dashboard serves the web application.
//
// Its files are the same for everybody and hold no secret: a browser gets them without a key, and what the pages show it
// asks the API for, with the key of whoever signs in.
package dashboard

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"path"
	"strings"
	"time"
)

const (
	index = "index.html"
	// assets is the folder of the files whose names change with what is in them.
	assets = "assets/"
	// policy lets the pages have what they were built with and speak to the API they came from. Styles are also set by
	// scripts that lay out menus.
	policy = "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self'; connect-src 'self'; " +
		"object-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
)

// Dashboard is the application, held in memory. It is safe for concurrent use.
type Dashboard struct {
	files map[string]file
}

type file struct {
	content []byte
	etag    string
}

// Read returns the application that is made of files, nil if they hold none.
func Read(files fs.FS) (*Dashboard, error) {
	d := &Dashboard{files: map[string]file{}}
	err := fs.WalkDir(files, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := fs.ReadFile(files, name)
		if err != nil {
			return err
		}
		sum := sha256.Sum256(content)
		d.files[name] = file{content, `"` + hex.EncodeToString(sum[:16]) + `"`}
		return nil
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read the dashboard: %w", err)
	}
	if _, built := d.files[index]; !built {
		return nil, nil //nolint:nilnil // a gateway without a dashboard is one all the same
	}
	return d, nil
}

// Or answers with the application, and leaves what is not part of it to another handler. A nil Dashboard leaves everything.
func (d *Dashboard) Or(next http.Handler) http.Handler {
	if d == nil {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name, f, found := d.find(r)
		if !found {
			next.ServeHTTP(w, r)
			return
		}
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("ETag", f.etag)
		h.Set("Cache-Control", "no-cache")
		if strings.HasPrefix(name, assets) {
			h.Set("Cache-Control", "public, max-age=31536000, immutable")
		}
		http.ServeContent(w, r, name, time.Time{}, bytes.NewReader(f.content))
	})
}

// find is the file that a request is for. Which page an address is of only the application knows, so whoever wants a page gets
// the application.
func (d *Dashboard) find(r *http.Request) (string, file, bool) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		return "", file{}, false
	}
	name := strings.TrimPrefix(path.Clean(r.URL.Path), "/")
	if f, found := d.files[name]; found {
		return name, f, true
	}
	if strings.HasPrefix(name, "api/") || path.Ext(name) != "" || !strings.Contains(r.Header.Get("Accept"), "text/html") {
		return "", file{}, false
	}
	return index, d.files[index], true
}
