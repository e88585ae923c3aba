package app_test

import (
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/certctl/certctl/contracts/command"
	"github.com/certctl/certctl/contracts/event"
	"github.com/certctl/certctl/contracts/subject"
	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/services/issuer/internal/app"
	"github.com/certctl/certctl/services/issuer/internal/ca/acme/pebbletest"
)

// hosts stands for deployment and its agents: it shows what it is told to, where the CA looks.
func (w *world) hosts(address string) *shown {
	w.t.Helper()
	h := &shown{answers: map[string]string{}}
	server := &http.Server{Addr: address, ReadTimeout: patience, Handler: http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		h.mu.Lock()
		defer h.mu.Unlock()
		_, _ = io.WriteString(rw, h.answers[r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:]])
	})}
	var serving sync.WaitGroup
	serving.Go(func() { _ = server.ListenAndServe() })
	w.t.Cleanup(func() {
		_ = server.Close()
		serving.Wait()
	})
	_, err := w.conn.NC.Subscribe(subject.Operation("deployment", "answerHTTP01"), func(m *nats.Msg) {
		var q command.AnswerHTTP01
		if err := json.Unmarshal(m.Data, &q); err != nil {
			w.t.Error(err)
		}
		reply := command.Reply[command.AnsweredHTTP01]{Body: &command.AnsweredHTTP01{}}
		if why := h.take(&q); why != "" {
			reply.Body, reply.Fault = nil, &command.Fault{Code: string(fault.Unavailable), Message: why}
		}
		text, err := json.Marshal(reply)
		if err == nil {
			err = m.Respond(text)
		}
		if err != nil {
			w.t.Error(err)
		}
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return h
}

type shown struct {
	mu      sync.Mutex
	refuses string            // guarded by mu
	answers map[string]string // by token; guarded by mu
	agents  []string          // who was told to show something; guarded by mu
}

func (h *shown) take(q *command.AnswerHTTP01) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, a := range q.Answers {
		if delete(h.answers, a.Token); !q.Withdraw {
			h.answers[a.Token] = a.KeyAuthorization
		}
	}
	if !q.Withdraw {
		h.agents = append(h.agents, q.AgentID)
		return h.refuses
	}
	return ""
}

func (h *shown) refuse(why string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.refuses = why
}

func (h *shown) left() (answers int, agents []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.answers), slices.Clone(h.agents)
}

func TestACME_ProvesNamesThroughTheAgentOfTheFirstTarget(t *testing.T) {
	w := newWorld(t)
	s := w.pebble(pebbletest.Options{Bound: true})
	w.start(app.Settings{})
	hosts := w.hosts(s.HTTP)
	body := acmeIssuer(s)
	body["config"].(map[string]any)["http01_via"] = "agent"
	i := w.issuer(body)
	w.target("tgt-1", "agent-1")
	c := w.create(map[string]any{"common_name": "www.example.com", "issuer_id": i.ID, "target_ids": []string{"tgt-1"}})
	hosts.refuse("agent agent-1 cannot show a CA that names lead to its host: port 80 is taken")
	asked := w.keyRequest(c.ID, 1)
	w.publish(event.CSRSubmitted{CertificateID: c.ID, JobID: asked.JobID, Attempt: 1, AgentID: "agent-1", CSRPEM: csrFor(t, "www.example.com")}, 1)
	w.await("the reason to be shown", func() bool {
		reason := w.certificate(c.ID).StatusReason
		return reason != nil && strings.Contains(*reason, "port 80 is taken")
	})
	hosts.refuse("")
	w.exec(`UPDATE issuer.jobs SET next_action_at = now() WHERE next_action_at IS NOT NULL`)
	w.wakeWorker()
	hear(w, func(e event.CertificateIssued) bool { return e.CertificateID == c.ID })
	w.await("all to be taken back", func() bool { n, _ := hosts.left(); return n == 0 })
	if _, agents := hosts.left(); len(agents) < 2 || agents[0] != "agent-1" {
		t.Errorf("told %v", agents)
	}
	// A certificate that is used nowhere fails, and no order is spent on it.
	nowhere := w.create(map[string]any{"common_name": "api.example.com", "issuer_id": i.ID, "csr_pem": csrFor(t, "api.example.com")})
	failed, _ := hear(w, func(e event.CertificateFailed) bool { return e.CertificateID == nowhere.ID })
	if !strings.Contains(failed.Reason, "http01_via") {
		t.Errorf("failed with %+v", failed)
	}
	if n := w.count(`SELECT count(*) FROM jobs WHERE certificate_id = $1 AND attempts > 1`, nowhere.ID); n != 0 {
		t.Error("it is tried again")
	}
}
