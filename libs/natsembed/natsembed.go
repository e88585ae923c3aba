// Package natsembed holds what a program needs around a NATS server that runs inside it, whatever the server is for. It
// does not import the server.
package natsembed

import (
	"fmt"
	"os"
	"path/filepath"
)

// LoadAtStart makes a server in operator mode load accounts, with their streams, while it starts. It is to be called
// before each start, with the server's StoreDir.
//
// Without it an account is loaded when its first user connects. While that goes on a second user is let in already, and
// a stream that it makes is lost when the loading, which tries whether the account's folder can be written, removes the
// folder again. What the server finds in its store when it starts it loads before it accepts anybody.
func LoadAtStart(storeDir string, accountKeys ...string) error {
	for _, key := range accountKeys {
		dir := filepath.Join(storeDir, "jetstream", key)
		if err := os.MkdirAll(dir, 0o750); err != nil {
			return fmt.Errorf("prepare account: %w", err)
		}
		// An empty folder would be removed.
		if err := os.WriteFile(filepath.Join(dir, "account"), []byte(key+"\n"), 0o600); err != nil {
			return fmt.Errorf("prepare account: %w", err)
		}
	}
	return nil
}
