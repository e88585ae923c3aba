// Package journal remembers on disk which orders were begun and how they ended.
//
// It is what makes an order happen once. Save is durable before the first effect,
// Finish before anybody is told; so after a crash an order is either unknown, begun
// (to be taken up again from its checkpoint) or finished (to be answered with the same
// report). An order is known by its job and attempt.
//
// A finished order may leave things to clear away, such as backups; its checkpoint
// stays until Settle. What was finished long ago is forgotten by Prune, and must be
// refused by its expiry then. A Journal is safe for concurrent use.
package journal

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/certctl/certctl/contracts/command"
	"github.com/certctl/certctl/services/agent/internal/atomicfile"
	"github.com/certctl/certctl/services/agent/internal/statedir"
)

// Key names one order.
type Key struct {
	JobID   string
	Attempt int
}

// String is the key as it stands in file names.
func (k Key) String() string { return k.JobID + "." + strconv.Itoa(k.Attempt) }

// Begun is an order that was begun.
type Begun struct {
	// Order is what was received, whose signature was checked.
	Order command.Signed `json:"order"`
	// Origin is what the message that brought it says of itself; its form is the
	// reader's own.
	Origin json.RawMessage `json:"origin,omitempty"`
	At     time.Time       `json:"at"`
	// Checkpoint is what the one who carries it out needs to go on or to go back; its
	// form is that one's own.
	Checkpoint json.RawMessage `json:"checkpoint"`
}

// Done is how an order ended.
type Done struct {
	Report command.Signed `json:"report"`
	At     time.Time      `json:"at"`
}

// Journal is a folder of orders.
type Journal struct {
	open, done string

	mu     sync.Mutex
	latest map[string]int // the newest attempt known of each job; guarded by mu
}

// Open reads the journal in a folder, or makes an empty one.
func Open(dir string) (*Journal, error) {
	j := &Journal{open: filepath.Join(dir, "open"), done: filepath.Join(dir, "done"), latest: map[string]int{}}
	for _, folder := range []string{j.open, j.done} {
		if err := statedir.Private(folder); err != nil {
			return nil, fmt.Errorf("journal: %w", err)
		}
		if err := atomicfile.Sweep(folder); err != nil {
			return nil, fmt.Errorf("journal: %w", err)
		}
		keys, err := list(folder)
		if err != nil {
			return nil, fmt.Errorf("journal: %w", err)
		}
		for _, key := range keys {
			j.note(key)
		}
	}
	return j, nil
}

// Save makes it durable that an order is about to have effects, and how far it is.
func (j *Journal) Save(key Key, b Begun) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.note(key)
	return write(j.open, key, b)
}

// Begun returns an order that was begun and not settled; ok is false if there is none.
func (j *Journal) Begun(key Key) (b Begun, ok bool, err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	ok, err = read(j.open, key, &b)
	return b, ok, err
}

// Finish makes an order's report durable.
func (j *Journal) Finish(key Key, d Done) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.note(key)
	return write(j.done, key, d)
}

// Finished returns how an order ended; ok is false if it has not.
func (j *Journal) Finished(key Key) (d Done, ok bool, err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	ok, err = read(j.done, key, &d)
	return d, ok, err
}

// Settle forgets the checkpoint of a finished order.
func (j *Journal) Settle(key Key) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	return atomicfile.Remove(filepath.Join(j.open, key.String()))
}

// Unsettled lists the orders that were begun and not settled; some may be finished.
func (j *Journal) Unsettled() ([]Key, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return list(j.open)
}

// Superseded reports whether a later attempt at the same job is known.
func (j *Journal) Superseded(key Key) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.latest[key.JobID] > key.Attempt
}

// Prune forgets the orders that were finished before a time.
func (j *Journal) Prune(before time.Time) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	keys, err := list(j.done)
	if err != nil {
		return fmt.Errorf("prune journal: %w", err)
	}
	var errs []error
	for _, key := range keys {
		path := filepath.Join(j.done, key.String())
		info, err := os.Stat(path)
		if err != nil || !info.ModTime().Before(before) {
			continue
		}
		errs = append(errs, os.Remove(path))
		if j.latest[key.JobID] == key.Attempt {
			delete(j.latest, key.JobID)
		}
	}
	return errors.Join(errs...)
}

// note remembers an attempt. The caller holds mu, or alone knows j.
func (j *Journal) note(key Key) {
	j.latest[key.JobID] = max(j.latest[key.JobID], key.Attempt)
}

func write(folder string, key Key, v any) error {
	text, err := json.Marshal(v)
	if err == nil {
		err = atomicfile.Write(filepath.Join(folder, key.String()), text, 0o600)
	}
	if err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	return nil
}

func read(folder string, key Key, v any) (ok bool, err error) {
	text, err := os.ReadFile(filepath.Join(folder, key.String()))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err == nil {
		err = json.Unmarshal(text, v)
	}
	if err != nil {
		return false, fmt.Errorf("journal: %s: %w", key, err)
	}
	return true, nil
}

func list(folder string) ([]Key, error) {
	entries, err := os.ReadDir(folder)
	if err != nil {
		return nil, err
	}
	var keys []Key
	for _, e := range entries {
		job, attempt, ok := strings.Cut(e.Name(), ".")
		n, err := strconv.Atoi(attempt)
		if ok && err == nil {
			keys = append(keys, Key{JobID: job, Attempt: n})
		}
	}
	return keys, nil
}
