// Package spool keeps reports on disk while there is nobody to give them to.
//
// Add is durable when it returns. Flush hands the reports on in the order in which
// they were added, and deletes each only after it was taken; a crash between the two
// hands it on again, with the same id, by which the stream drops the copy. The spool is
// bounded: when it is full it refuses, so that the order is not acknowledged and comes
// again. A Spool is safe for concurrent use.
package spool

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/services/agent/internal/atomicfile"
	"github.com/certctl/certctl/services/agent/internal/statedir"
)

// Message is a report as it goes to the bus.
type Message struct {
	// ID is the Nats-Msg-Id.
	ID      string            `json:"id"`
	Subject string            `json:"subject"`
	Header  map[string]string `json:"header"`
	Body    []byte            `json:"body"`
	At      time.Time         `json:"at"`
}

// Spool is a folder of messages.
type Spool struct {
	dir   string
	limit int

	flushing sync.Mutex // held by the one that flushes

	mu      sync.Mutex
	waiting []uint64 // file numbers, oldest first; guarded by mu
	next    uint64   // guarded by mu
}

// Open reads the spool in a folder, or makes an empty one, for at most limit messages.
func Open(dir string, limit int) (*Spool, error) {
	if err := statedir.Private(dir); err != nil {
		return nil, fmt.Errorf("spool: %w", err)
	}
	if err := atomicfile.Sweep(dir); err != nil {
		return nil, fmt.Errorf("spool: %w", err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("spool: %w", err)
	}
	s := &Spool{dir: dir, limit: limit, next: 1}
	for _, e := range entries {
		if n, err := strconv.ParseUint(e.Name(), 10, 64); err == nil {
			s.waiting = append(s.waiting, n)
			s.next = max(s.next, n+1)
		}
	}
	slices.Sort(s.waiting)
	return s, nil
}

// Len is how many messages wait.
func (s *Spool) Len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.waiting)
}

// Add puts a message behind those that wait. The error is fault.Unavailable if the
// spool is full.
func (s *Spool) Add(m Message) error {
	text, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("spool: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.waiting) >= s.limit {
		return fault.New(fault.Unavailable, "the spool is full: %d reports wait for the leaf", s.limit)
	}
	if err := atomicfile.Write(s.path(s.next), text, 0o600); err != nil {
		return fmt.Errorf("spool: %w", err)
	}
	s.waiting = append(s.waiting, s.next)
	s.next++
	return nil
}

// Flush gives the messages to send, oldest first, until none waits, send fails or ctx
// ends. A message that cannot be read is set aside and reported in the error.
func (s *Spool) Flush(ctx context.Context, send func(context.Context, Message) error) error {
	s.flushing.Lock()
	defer s.flushing.Unlock()
	var unreadable []error
	for ctx.Err() == nil {
		n, ok := s.oldest()
		if !ok {
			break
		}
		var m Message
		text, err := os.ReadFile(s.path(n))
		if err == nil {
			err = json.Unmarshal(text, &m)
		}
		if err != nil {
			// The journal still has the report; the platform asks again for what it misses.
			unreadable = append(unreadable, fmt.Errorf("spool: %s: %w", s.path(n), err), os.Rename(s.path(n), s.path(n)+".bad"))
			s.drop()
			continue
		}
		if err := send(ctx, m); err != nil {
			return errors.Join(append(unreadable, err)...)
		}
		if err := atomicfile.Remove(s.path(n)); err != nil {
			return errors.Join(append(unreadable, fmt.Errorf("spool: %w", err))...)
		}
		s.drop()
	}
	return errors.Join(append(unreadable, ctx.Err())...)
}

func (s *Spool) oldest() (uint64, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.waiting) == 0 {
		return 0, false
	}
	return s.waiting[0], true
}

func (s *Spool) drop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waiting = s.waiting[1:]
}

func (s *Spool) path(n uint64) string { return filepath.Join(s.dir, fmt.Sprintf("%020d", n)) }
