// Package demo plays certctl's main story against a running installation, with nothing
// faked: an agent enrols with a one-time token, makes a key, has it certified and
// installs the certificate in a real NGINX; a TLS handshake shows that it is served;
// then it is renewed while clients keep connecting.
//
// Each step is a line: how long it took, what happened, what that proves. A step that
// does not hold ends the story with an error.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"time"
)

// Server is the installation to play against.
type Server struct {
	// URL is where the API is, Key an admin's API key, LeafURL where agents connect.
	URL, Key, LeafURL string
	// DataDir holds all that the control plane stores. The story searches it for the
	// key that must not be there.
	DataDir string
}

// Options say how the story is played.
type Options struct {
	Server
	// Dir is an empty folder for the agent's and NGINX's files.
	Dir string
	// AgentBinary is certctl-agent; NGINXBinary is empty to look for one.
	AgentBinary, NGINXBinary string
	// Out receives the story, Log what goes wrong beside it.
	Out io.Writer
	Log *slog.Logger
}

// commonName is what the story's certificate is for. The domain is reserved and can
// belong to nobody (RFC 6761).
const commonName = "www.demo.test"

// Summary is what is left running when the story has been told.
type Summary struct {
	CertificateID string
	Site          string // the NGINX's address
}

// story is one telling.
type story struct {
	Options
	api   *api
	agent *agentProcess
	nginx *nginx
	begun time.Time

	agentID, targetID, certificateID string
	first, second                    version
}

// Play tells the story. The agent and NGINX that it starts go on until ctx ends; wait
// returns when they have.
func Play(ctx context.Context, o Options) (summary Summary, wait func(), err error) {
	s := &story{Options: o, begun: time.Now(), api: newAPI(o.URL, o.Key)}
	wait = func() {
		s.agent.wait()
		s.nginx.wait()
	}
	steps := []struct {
		title string
		do    func(context.Context) (proof string, err error)
	}{
		{"the control plane is ready", s.ready},
		{"NGINX serves a placeholder", s.startNGINX},
		{"an agent enrols with a one-time token, through its leaf", s.enrol},
		{"the used token is refused", s.reuseToken},
		{"the target is described", s.createTarget},
		{"a certificate is requested", s.request},
		{"the agent makes the key, the CA signs, NGINX reloads", s.served},
		{"a TLS handshake shows the new certificate", s.handshake},
		{"OpenSSL verifies the chain", s.verifyChain},
		{"the private key is on the agent's host alone", s.keyStayed},
		{"OCSP and CRL answer for it", s.status},
		{"a renewal is served while clients keep connecting", s.renew},
		{"the audit trail tells the whole story", s.audit},
	}
	for i, step := range steps {
		start := time.Now()
		proof, err := step.do(ctx)
		if err != nil {
			s.tell("%2d  FAILED  %s", i+1, step.title)
			return Summary{}, wait, fmt.Errorf("step %d, %s: %w", i+1, step.title, err)
		}
		s.tell("%2d  %7s  %s", i+1, time.Since(start).Round(time.Millisecond), step.title)
		if proof != "" {
			s.tell("             %s", proof)
		}
	}
	s.tell("\nDone in %s: nothing was faked and nobody waited for a tick.", time.Since(s.begun).Round(time.Millisecond))
	return Summary{CertificateID: s.certificateID, Site: s.nginx.address}, wait, nil
}

func (s *story) tell(format string, args ...any) { fmt.Fprintf(s.Out, format+"\n", args...) }

func (s *story) path(elements ...string) string {
	return filepath.Join(append([]string{s.Dir}, elements...)...)
}

// within repeats a check until it holds, and fails with its last answer when the time is
// over.
func within(ctx context.Context, limit time.Duration, check func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		err := check(ctx)
		if err == nil {
			return nil
		}
		if _, final := errors.AsType[*finalError](err); final {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("not within %s: %w", limit, err)
		case <-tick.C:
		}
	}
}

// finalError is one that waiting cannot mend.
type finalError struct{ error }

func final(format string, args ...any) error { return &finalError{fmt.Errorf(format, args...)} }
