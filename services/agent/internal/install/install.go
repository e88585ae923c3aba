// Package install replaces the files of a server as one, has the server take them up,
// and proves that it serves them; or else leaves everything as it was.
//
// The steps: the new files are written beside the old ones, whole and synced (here a
// full disk shows, before anything is touched); the old ones are given a second name;
// the new ones are renamed into place; the configuration is tested; the server
// reloads; and a TLS handshake must show the new leaf. If one of them fails, the old
// files are renamed back, which needs no space, and the server reloads again.
//
// Where an installation stands is saved before each change of direction. A run that
// was cut off at any point is taken up by calling Install again: one that was going
// forward goes on, one that was going back goes on going back.
//
// It is for servers on this host that read files. What such a server is called, and
// how it is tested and reloaded, is the caller's.
package install

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/certctl/certctl/services/agent/internal/process"
	"github.com/certctl/certctl/services/agent/internal/served"
	"github.com/certctl/certctl/services/agent/internal/target"
)

// Limits of the steps.
const (
	commandLimit = 30 * time.Second
	// handshakePatience is how long a reload may take until the new leaf is served.
	handshakePatience = 10 * time.Second
)

// File is a file to be installed.
type File struct {
	Path string
	Data []byte
	// Secret files are for their owner and group alone; new ones for their owner.
	Secret bool
}

// Plan is one installation.
type Plan struct {
	// Files are put in place in this order.
	Files []File
	// Test is run before Reload, and must succeed.
	Test, Reload process.Command
	// Address and ServerName are where and for which name the server is asked.
	Address, ServerName string
	// Fingerprint of the leaf that must be served.
	Fingerprint string
}

// Installer carries out plans.
type Installer struct {
	Places Places
}

// Install carries out a plan, or takes it up where p says it was cut off, and returns
// the fingerprint of the leaf that is served. A failure is a *target.Error.
func (in Installer) Install(ctx context.Context, plan Plan, p target.Progress) (string, error) {
	entries, err := in.open(plan)
	if err != nil {
		return "", err
	}
	defer closeAll(entries)
	before, err := load(p)
	if err != nil {
		return "", &target.Error{State: target.Broken, Err: err}
	}
	run := &installation{plan: plan, entries: entries, progress: p, tag: cmp.Or(before.Tag, newTag())}
	if before.Phase == "" && run.alreadyServed(ctx) {
		return plan.Fingerprint, nil
	}
	if before.Phase == "" || before.Phase == staging {
		if err := errors.Join(run.clear(), run.prepare()); err != nil {
			return "", &target.Error{State: target.Untouched, Permanent: target.AsError(err).Permanent, Err: err}
		}
	} else {
		run.resume(before)
	}
	if before.Phase == backwards {
		return "", run.back(ctx, errors.New(before.Reason))
	}
	fingerprint, err := run.forward(ctx)
	if err != nil {
		return fingerprint, run.back(ctx, err)
	}
	return fingerprint, nil
}

// Clear deletes what an installation kept to be able to go back.
func (in Installer) Clear(p target.Progress) error {
	m, err := load(p)
	if err != nil || m.Phase == "" {
		return err
	}
	var errs []error
	for _, was := range m.Files {
		at, err := in.Places.locate(was.Path)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		e := entry{place: at, was: was}
		errs = append(errs, e.clear(m.Tag), at.dir.Close())
	}
	return errors.Join(errs...)
}

func (in Installer) open(plan Plan) ([]*entry, error) {
	var entries []*entry
	seen := map[string]bool{}
	for _, f := range plan.Files {
		at, err := in.Places.locate(f.Path)
		if err != nil {
			closeAll(entries)
			return nil, target.AsError(err)
		}
		entries = append(entries, &entry{place: at, file: f})
		if seen[at.path] {
			closeAll(entries)
			return nil, target.Refuse("two files are to be installed as %s", at.path)
		}
		seen[at.path] = true
	}
	return entries, nil
}

func newTag() string {
	var b [4]byte
	// crypto/rand.Read never returns an error; it ends the process instead.
	_, _ = rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

func closeAll(entries []*entry) {
	for _, e := range entries {
		e.dir.Close()
	}
}

// installation is one run of a plan.
type installation struct {
	plan     Plan
	entries  []*entry
	progress target.Progress
	tag      string
}

// alreadyServed reports whether there is nothing to do: the same order came before
// under another name, or a person was faster.
func (i *installation) alreadyServed(ctx context.Context) bool {
	for _, e := range i.entries {
		if text, ok := e.read(); !ok || string(text) != string(e.file.Data) {
			return false
		}
	}
	got, err := served.Fingerprint(ctx, i.plan.Address, i.plan.ServerName)
	return err == nil && got == i.plan.Fingerprint
}

// prepare stages the new files and keeps the old ones. It touches none of them; what
// it made is deleted if it fails.
func (i *installation) prepare() error {
	for _, e := range i.entries {
		existed, err := e.exists()
		if err != nil {
			return err
		}
		e.was = record{Path: e.path, Existed: existed, Sum: sum(e.file.Data)}
		if text, ok := e.read(); ok {
			e.was.Old = sum(text)
		}
	}
	if err := i.save(staging, ""); err != nil {
		return err
	}
	err := i.stage()
	if err == nil {
		err = i.save(forward, "")
	}
	if err != nil {
		return errors.Join(err, i.clear())
	}
	return nil
}

func (i *installation) stage() error {
	for _, e := range i.entries {
		if err := e.stage(i.tag); err != nil {
			return err
		}
		if err := e.keep(i.tag); err != nil {
			return err
		}
		if err := e.sync(); err != nil {
			return fmt.Errorf("sync the folder of %s: %w", e.path, err)
		}
	}
	return nil
}

// clear deletes what lies beside the files; a run that was cut off while it staged
// left some.
func (i *installation) clear() error {
	return i.each(func(e *entry) error { return e.clear(i.tag) })
}

// resume takes the records of the run that was cut off.
func (i *installation) resume(m manifest) {
	for n, e := range i.entries {
		if n < len(m.Files) && m.Files[n].Path == e.path {
			e.was = m.Files[n]
		}
	}
}

func (i *installation) forward(ctx context.Context) (string, error) {
	for _, e := range i.entries {
		if err := e.commit(i.tag); err != nil {
			return "", err
		}
	}
	if err := i.each((*entry).sync); err != nil {
		return "", fmt.Errorf("sync the folders: %w", err)
	}
	if _, err := process.Run(ctx, i.plan.Test, commandLimit); err != nil {
		return "", fmt.Errorf("the configuration test failed: %w", err)
	}
	if _, err := process.Run(ctx, i.plan.Reload, commandLimit); err != nil {
		return "", fmt.Errorf("the reload failed: %w", err)
	}
	got, err := served.Await(ctx, i.plan.Address, i.plan.ServerName, i.plan.Fingerprint, handshakePatience)
	if err != nil {
		return got, fmt.Errorf("after the reload the new certificate is not served: %w", err)
	}
	return got, nil
}

// back restores the old files and has the server take them up again. It goes on when
// ctx has ended: half of a change is the one thing that must not be left.
func (i *installation) back(ctx context.Context, reason error) error {
	ctx = context.WithoutCancel(ctx)
	if err := i.save(backwards, reason.Error()); err != nil {
		// Without a record of the direction a crash from here on would go forward again,
		// which fails again and ends here again: worse than slow, but not wrong.
		reason = errors.Join(reason, err)
	}
	if err := i.each(func(e *entry) error { return e.restore(i.tag) }); err != nil {
		return &target.Error{State: target.Broken, Err: fmt.Errorf("%w; and what was there before could not be put back: %w", reason, err)}
	}
	if _, err := process.Run(ctx, i.plan.Test, commandLimit); err != nil {
		// What runs now goes on with the old certificate; a reload would not be accepted.
		return &target.Error{State: target.Restored, Err: fmt.Errorf("%w; the old files are back, and with them the configuration test fails too", reason)}
	}
	if _, err := process.Run(ctx, i.plan.Reload, commandLimit); err != nil {
		return &target.Error{State: target.Restored, Err: fmt.Errorf("%w; the old files are back, but the server could not be reloaded: %w", reason, err)}
	}
	return &target.Error{State: target.Restored, Err: reason}
}

func (i *installation) each(f func(*entry) error) error {
	var errs []error
	for _, e := range i.entries {
		errs = append(errs, f(e))
	}
	return errors.Join(errs...)
}
