package natshttp

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
)

const (
	// window is how many chunks a reader asks for ahead of what it has read.
	window = 4
	// aliveEvery is how often each side of a stream says that it is still there, goneAfter how long the other believes it.
	aliveEvery = 10 * time.Second
	goneAfter  = 3 * aliveEvery
)

// What a reader says to the server's end of a stream, as the body of a message.
const (
	sayMore   = "more" // with a reply subject: send one chunk there
	sayAlive  = "alive"
	sayCancel = "cancel"
)

// reader is the body of a streamed response. One goroutine may read while another closes.
type reader struct {
	ctx     context.Context
	nc      *nats.Conn
	subject string
	inbox   string
	sub     *nats.Subscription

	asked, got int    // chunks; of the reading goroutine
	buf        []byte // of the reading goroutine
	end        error  // of the reading goroutine: what Read returns when buf is empty

	closeOnce sync.Once
	closed    chan struct{}
}

// openStream begins to read a stream whose first bytes came with the response.
func openStream(ctx context.Context, nc *nats.Conn, subject string, first []byte) (*reader, error) {
	r := &reader{ctx: ctx, nc: nc, subject: subject, inbox: nc.NewInbox(), buf: first, closed: make(chan struct{})}
	sub, err := nc.SubscribeSync(r.inbox + ".*")
	if err != nil {
		return nil, fmt.Errorf("subscribe to chunks: %w", err)
	}
	r.sub = sub
	for range window {
		if err := r.ask(); err != nil {
			r.shut(true)
			return nil, fmt.Errorf("ask for chunks: %w", err)
		}
	}
	go r.keepAlive()
	return r, nil
}

func (r *reader) ask() error {
	r.asked++
	return r.nc.PublishRequest(r.subject, r.inbox+"."+strconv.Itoa(r.asked), []byte(sayMore))
}

// keepAlive tells the server that a reader who asks for nothing is slow, and not gone. It ends the stream with the
// request's context, and with the connection, on which chunks may have been lost.
func (r *reader) keepAlive() {
	lost := r.nc.StatusChanged(nats.RECONNECTING, nats.CLOSED)
	defer r.nc.RemoveStatusListener(lost)
	tick := time.NewTicker(aliveEvery)
	defer tick.Stop()
	for {
		select {
		case <-lost:
			_ = r.sub.Unsubscribe()
			return
		case <-r.closed:
			return
		case <-r.ctx.Done():
			r.shut(true)
			return
		case <-tick.C:
			// An error means that the connection is closed; Read finds out.
			_ = r.nc.Publish(r.subject, []byte(sayAlive))
		}
	}
}

// Read implements io.Reader. A stream that ends before the handler was done is io.ErrUnexpectedEOF.
func (r *reader) Read(p []byte) (int, error) {
	for len(r.buf) == 0 {
		if r.end != nil {
			return 0, r.end
		}
		if err := r.next(); err != nil {
			r.end = err
			r.shut(true)
		}
	}
	n := copy(p, r.buf)
	r.buf = r.buf[n:]
	return n, nil
}

// next waits for a chunk and asks for another.
func (r *reader) next() error {
	ctx, cancel := context.WithTimeout(r.ctx, goneAfter)
	defer cancel()
	m, err := r.sub.NextMsgWithContext(ctx)
	switch {
	case r.ctx.Err() != nil:
		return r.ctx.Err()
	case r.isClosed():
		return io.ErrClosedPipe
	case err != nil:
		return fmt.Errorf("%w: no chunk came: %w", io.ErrUnexpectedEOF, err)
	}
	if get(m.Header, headerEnd) == endAborted || get(m.Header, "Status") != "" {
		return fmt.Errorf("%w: the server broke off its answer", io.ErrUnexpectedEOF)
	}
	if n := get(m.Header, headerChunk); n != "" {
		r.got++
		if n != strconv.Itoa(r.got) {
			return fmt.Errorf("%w: chunk %s came after chunk %d", io.ErrUnexpectedEOF, n, r.got-1)
		}
	}
	r.buf = m.Data
	if get(m.Header, headerEnd) == endComplete {
		r.end = io.EOF
		r.shut(false)
		return nil
	}
	if err := r.ask(); err != nil {
		return fmt.Errorf("%w: ask for a chunk: %w", io.ErrUnexpectedEOF, err)
	}
	return nil
}

// Close ends the handler's context when it has not finished, and frees what the stream held. It may be called again.
func (r *reader) Close() error {
	r.shut(true)
	return nil
}

func (r *reader) isClosed() bool {
	select {
	case <-r.closed:
		return true
	default:
		return false
	}
}

func (r *reader) shut(cancel bool) {
	r.closeOnce.Do(func() {
		close(r.closed)
		if cancel {
			// Lost, it only means that the server finds out by silence.
			_ = r.nc.Publish(r.subject, []byte(sayCancel))
		}
		_ = r.sub.Unsubscribe()
	})
}
