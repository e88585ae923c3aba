package natshttp

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nuid"
)

// streamToken is where the operation stands in the subjects of streams. No operation is called so.
const streamToken = "_stream"

var errReaderGone = errors.New("the reader of the response has gone")

// streams are the responses of one server that are being streamed. All share one subscription.
type streams struct {
	nc     *nats.Conn
	prefix string

	mu   sync.Mutex
	live map[string]*stream // guarded by mu, by the last token of the subject
}

// stream is the server's end of one streamed response.
type stream struct {
	nc      *nats.Conn
	subject string
	token   string
	cancel  context.CancelFunc
	done    chan struct{}

	chunks int // sent; of the sending goroutine

	mu     sync.Mutex
	wanted []want    // guarded by mu: the chunks that the reader has asked for
	heard  time.Time // guarded by mu
	asked  chan struct{}
}

type want struct {
	reply string
	since time.Time
}

func newStreams(nc *nats.Conn, prefix string) *streams {
	return &streams{nc: nc, prefix: prefix, live: map[string]*stream{}}
}

// open makes a stream whose reader, when it goes, ends the handler with cancel.
func (s *streams) open(ctx context.Context, cancel context.CancelFunc) *stream {
	token := nuid.Next()
	st := &stream{
		nc: s.nc, subject: s.prefix + token, token: token, cancel: cancel,
		done: make(chan struct{}), asked: make(chan struct{}, 1), heard: time.Now(),
	}
	s.mu.Lock()
	s.live[token] = st
	s.mu.Unlock()
	go st.watch(ctx)
	return st
}

func (s *streams) close(st *stream) {
	s.mu.Lock()
	delete(s.live, st.token)
	s.mu.Unlock()
	close(st.done)
}

// guard ends all streams when the connection is lost, because chunks may have been lost with it, until stop is closed.
func (s *streams) guard(stop <-chan struct{}) {
	lost := s.nc.StatusChanged(nats.RECONNECTING, nats.CLOSED)
	defer s.nc.RemoveStatusListener(lost)
	for {
		select {
		case <-stop:
			return
		case <-lost:
		}
		s.mu.Lock()
		for _, st := range s.live {
			st.cancel()
		}
		s.mu.Unlock()
	}
}

// hear receives what readers say.
func (s *streams) hear(m *nats.Msg) {
	token := m.Subject[strings.LastIndexByte(m.Subject, '.')+1:]
	s.mu.Lock()
	st := s.live[token]
	s.mu.Unlock()
	switch {
	case st == nil:
		if m.Reply != "" {
			_ = s.nc.PublishMsg(&nats.Msg{Subject: m.Reply, Header: nats.Header{headerEnd: {endAborted}}})
		}
	case string(m.Data) == sayCancel:
		st.cancel()
	default:
		st.hear(m.Reply)
	}
}

func (st *stream) hear(reply string) {
	now := time.Now()
	st.mu.Lock()
	st.heard = now
	if reply != "" && len(st.wanted) < 2*window {
		st.wanted = append(st.wanted, want{reply, now})
	}
	st.mu.Unlock()
	select {
	case st.asked <- struct{}{}:
	default:
	}
}

// take returns where the reader waits for a chunk, "" when it has asked for none.
func (st *stream) take(before time.Time) string {
	st.mu.Lock()
	defer st.mu.Unlock()
	if len(st.wanted) == 0 || st.wanted[0].since.After(before) {
		return ""
	}
	reply := st.wanted[0].reply
	st.wanted = st.wanted[1:]
	return reply
}

// send sends a chunk when the reader has asked for one.
func (st *stream) send(ctx context.Context, data []byte, end string) error {
	for {
		if reply := st.take(time.Now()); reply != "" {
			st.chunks++
			h := nats.Header{headerChunk: {strconv.Itoa(st.chunks)}}
			if end != "" {
				h[headerEnd] = []string{end}
			}
			return st.nc.PublishMsg(&nats.Msg{Subject: reply, Header: h, Data: data})
		}
		select {
		case <-st.asked:
		case <-ctx.Done():
			return errReaderGone
		}
	}
}

// watch answers a reader that has waited long with an empty chunk, so that it knows that the server is there, and ends
// the handler when the reader has long said nothing.
func (st *stream) watch(ctx context.Context) {
	tick := time.NewTicker(aliveEvery / 2)
	defer tick.Stop()
	for {
		select {
		case <-st.done:
			return
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if reply := st.take(time.Now().Add(-aliveEvery)); reply != "" {
			_ = st.nc.PublishMsg(&nats.Msg{Subject: reply})
		}
		st.mu.Lock()
		silent := time.Since(st.heard)
		st.mu.Unlock()
		if silent > goneAfter {
			st.cancel()
			return
		}
	}
}
