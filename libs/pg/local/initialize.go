package local

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
)

// initialize makes the cluster if there is none. It comes to lie in its place in one step: data is complete or absent.
func (c *Cluster) initialize(ctx context.Context) error {
	partials, _ := filepath.Glob(c.at.data + ".partial*")
	for _, partial := range partials {
		if err := os.RemoveAll(partial); err != nil {
			return fmt.Errorf("remove unfinished cluster: %w", err)
		}
	}
	if _, err := os.Stat(c.at.data); err == nil {
		return c.as.ownAll(c.at.data)
	}
	partial := c.at.data + ".partial"
	if err := c.as.makeFolder(partial); err != nil {
		return err
	}
	passwordFile, err := c.lendPassword(partial + ".password")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(passwordFile) }()
	if err := c.initdb(ctx, partial, passwordFile); err != nil {
		return err
	}
	if err := os.Rename(partial, c.at.data); err != nil {
		return err
	}
	return syncFolder(c.at.root)
}

func (c *Cluster) initdb(ctx context.Context, data, passwordFile string) error {
	args := []string{
		"--pgdata=" + data, "--username=" + superuser, "--pwfile=" + passwordFile,
		"--auth=scram-sha-256", "--locale=C", "--encoding=UTF8", "--data-checksums", "--no-instructions",
	}
	if c.o.Settings["fsync"] == "off" {
		args = append(args, "--no-sync")
	}
	cmd := exec.CommandContext(ctx, filepath.Join(c.bin.Dir, "initdb"), args...)
	cmd.Env, cmd.Dir, cmd.SysProcAttr = environment(), c.at.root, attributes(c.as, sigKill)
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	// The kernel signals the child when the thread ends that made it.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("initdb: %w: %s", err, strings.TrimSpace(output.String()))
	}
	return nil
}

// lendPassword writes the superuser's password to where initdb can read it.
func (c *Cluster) lendPassword(path string) (string, error) {
	if err := os.WriteFile(path, []byte(c.password+"\n"), 0o600); err != nil {
		return "", err
	}
	return path, c.as.own(path)
}

// loadPassword returns the superuser's password, and makes one for a cluster that is still to be made.
func loadPassword(at layout) (string, error) {
	raw, err := os.ReadFile(at.password)
	if err == nil {
		return strings.TrimSpace(string(raw)), nil
	}
	if !errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("password of the superuser: %w", err)
	}
	if _, err := os.Stat(at.data); err == nil {
		return "", fmt.Errorf("the data in %s are there but their password in %s is gone: put it back from the backup",
			at.data, at.password)
	}
	password := rand.Text()
	partial := at.password + ".partial"
	if err := os.WriteFile(partial, []byte(password+"\n"), 0o600); err != nil {
		return "", err
	}
	if err := os.Rename(partial, at.password); err != nil {
		return "", err
	}
	return password, syncFolder(at.root)
}

func syncFolder(path string) error {
	folder, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = folder.Close() }()
	return folder.Sync()
}

// environment is what Postgres needs to know of ours: nothing, so that no PG* variable changes what it does.
func environment() []string {
	return []string{"PATH=/usr/local/bin:/usr/bin:/bin", "LC_ALL=C", "TZ=UTC"}
}
