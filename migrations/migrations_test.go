package migrations_test

import (
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/certctl/certctl/migrations"
)

// original is the folder whose tables the services copy.
const original = "outbox_inbox"

func TestMigrations_GoForwardOnlyAndAreNumberedWithoutGaps(t *testing.T) {
	for _, service := range services(t) {
		entries, err := fs.ReadDir(migrations.FS(service), ".")
		if err != nil {
			t.Fatal(err)
		}
		for i, entry := range entries {
			if !strings.HasPrefix(entry.Name(), fmt.Sprintf("%04d_", i+1)) {
				t.Errorf("%s/%s is not number %d", service, entry.Name(), i+1)
			}
			sql := read(t, service, entry.Name())
			if !strings.Contains(sql, "-- +goose Up") || strings.Contains(sql, "+goose Down") {
				t.Errorf("%s/%s has to go up and nowhere else", service, entry.Name())
			}
		}
	}
}

func TestMigrations_OutboxAndInboxAreTheSameEverywhere(t *testing.T) {
	var want []string
	for _, name := range []string{"0001_outbox_and_inbox.sql", "0002_outbox_queue.sql", "0003_outbox_settling.sql"} {
		want = append(want, statements(read(t, original, name))...)
	}
	for _, service := range services(t) {
		entries, err := fs.ReadDir(migrations.FS(service), ".")
		if err != nil {
			t.Fatal(err)
		}
		var all []string
		for _, entry := range entries {
			all = append(all, statements(read(t, service, entry.Name()))...)
		}
		for _, table := range []string{"outbox", "inbox"} {
			if !mentions(all, "CREATE TABLE "+table+" ") || mentions(all, "DROP TABLE "+table) {
				continue
			}
			for _, statement := range want {
				if strings.Contains(statement, table) && !mentions(all, statement) {
					t.Errorf("%s lacks, or has changed: %s", service, statement)
				}
			}
		}
	}
}

func TestFS_PanicsWithoutMigrations(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("no panic")
		}
	}()
	migrations.FS("nobody")
}

func services(t *testing.T) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		if entry.IsDir() {
			names = append(names, entry.Name())
		}
	}
	return names
}

func read(t *testing.T, service, name string) string {
	t.Helper()
	raw, err := fs.ReadFile(migrations.FS(service), name)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

var (
	comment = regexp.MustCompile(`(?m)--.*$`)
	spaces  = regexp.MustCompile(`\s+`)
	inside  = regexp.MustCompile(`\( | \)`)
)

// statements returns the statements of sql in one line each, without comments.
func statements(sql string) (all []string) {
	for statement := range strings.SplitSeq(comment.ReplaceAllString(sql, ""), ";") {
		statement = strings.TrimSpace(spaces.ReplaceAllString(statement, " "))
		statement = inside.ReplaceAllStringFunc(statement, strings.TrimSpace)
		if statement != "" {
			all = append(all, statement)
		}
	}
	return all
}

func mentions(all []string, part string) bool {
	for _, statement := range all {
		if strings.Contains(statement, part) {
			return true
		}
	}
	return false
}
