package natshttptest

import (
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"sync/atomic"
	"testing"
)

func randomBytes(n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{1}).Read(b)
	return b
}

func TestStream_ArrivesWhole(t *testing.T) {
	for _, size := range []int{512 << 10, 512<<10 + 1, 640 << 10, 20<<20 + 17} {
		content := randomBytes(size)
		r := serve(t, http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
			if q.URL.Path == "/one" {
				w.Write(content)
				return
			}
			for rest := content; len(rest) > 0; {
				n := min(len(rest), 10_007)
				w.Write(rest[:n])
				rest = rest[n:]
			}
		}))
		for _, path := range []string{"/one", "/many"} {
			got, err := io.ReadAll(do(t, r, request(t.Context(), t, http.MethodGet, path)).Body)
			if err != nil || sha256.Sum256(got) != sha256.Sum256(content) {
				t.Errorf("%d bytes in %s write(s): got %d bytes, error %v", size, path, len(got), err)
			}
		}
	}
}

func TestStream_WaitsForASlowReader(t *testing.T) {
	const total, step = 16 << 20, 64 << 10
	const ahead = 1 << 20 // the server's buffer and the reader's window, with room
	var written atomic.Int64
	content := randomBytes(total)
	r := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		for rest := content; len(rest) > 0; rest = rest[step:] {
			w.Write(rest[:step])
			written.Add(step)
		}
	}))
	resp := do(t, r, request(t.Context(), t, http.MethodGet, "/x"))
	hash := sha256.New()
	for read := 0; read < total; read += step {
		if n := int(written.Load()); n > read+ahead {
			t.Fatalf("the handler is %d bytes ahead of the reader", n-read)
		}
		if _, err := io.CopyN(hash, resp.Body, step); err != nil {
			t.Fatal(err)
		}
	}
	if [32]byte(hash.Sum(nil)) != sha256.Sum256(content) {
		t.Error("the reader got something else")
	}
}

func TestStream_FlushedEventsArriveOneByOne(t *testing.T) {
	next := make(chan struct{})
	r := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for i := range 3 {
			fmt.Fprintf(w, "data: %d\n", i)
			w.(http.Flusher).Flush()
			<-next
		}
	}))
	resp := do(t, r, request(t.Context(), t, http.MethodGet, "/x"))
	lines := bufio.NewScanner(resp.Body)
	for i := range 3 {
		if !lines.Scan() || lines.Text() != fmt.Sprintf("data: %d", i) {
			t.Fatalf("event %d is %q (%v)", i, lines.Text(), lines.Err())
		}
		next <- struct{}{}
	}
	if lines.Scan() {
		t.Errorf("after the last event: %q", lines.Text())
	}
}

// endless writes until it is told that nobody reads.
func endless(ended chan<- error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		for {
			if _, err := w.Write(make([]byte, 100_000)); err != nil {
				ended <- q.Context().Err()
				return
			}
		}
	})
}

func TestStream_ClosedByTheReaderEndsTheHandler(t *testing.T) {
	ended := make(chan error, 1)
	r := serve(t, endless(ended))
	resp := do(t, r, request(t.Context(), t, http.MethodGet, "/x"))
	if _, err := io.CopyN(io.Discard, resp.Body, 3<<20); err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("handler's context: %v", err)
	}
	if _, err := resp.Body.Read(make([]byte, 1)); err == nil {
		t.Error("a closed body can still be read")
	}
}

func TestStream_CancelledByTheCallerEndsTheHandler(t *testing.T) {
	ended := make(chan error, 1)
	r := serve(t, endless(ended))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	resp := do(t, r, request(ctx, t, http.MethodGet, "/x"))
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("handler's context: %v", err)
	}
	if _, err := io.Copy(io.Discard, resp.Body); !errors.Is(err, context.Canceled) {
		t.Errorf("reader got %v", err)
	}
}

func TestStream_BrokenOffIsNotTakenForTheWhole(t *testing.T) {
	r := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Write(make([]byte, 2<<20))
		panic(http.ErrAbortHandler)
	}))
	resp := do(t, r, request(t.Context(), t, http.MethodGet, "/x"))
	if _, err := io.Copy(io.Discard, resp.Body); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("reader got %v", err)
	}
}

func TestStream_OfAServerThatIsGoneIsBrokenOff(t *testing.T) {
	ended := make(chan error, 1)
	r := serve(t, endless(ended))
	resp := do(t, r, request(t.Context(), t, http.MethodGet, "/x"))
	if _, err := io.CopyN(io.Discard, resp.Body, 1<<20); err != nil {
		t.Fatal(err)
	}
	r.server.Restart()
	if _, err := io.Copy(io.Discard, resp.Body); err == nil {
		t.Error("reader took a part for the whole")
	}
	resp.Body.Close()
	<-ended
}
