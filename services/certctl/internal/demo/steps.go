package demo

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/certctl/certctl/contracts/httpapi/client"
	"github.com/certctl/certctl/libs/x509x"
)

// patience is how long a step may take that usually takes well under a second.
const patience = 60 * time.Second

func (s *story) ready(ctx context.Context) (string, error) {
	err := within(ctx, patience, func(ctx context.Context) error {
		_, err := read[client.Readiness](s.api.GetReady(ctx))
		return err
	})
	return s.URL + " answers, every service behind it is there", err
}

func (s *story) enrol(ctx context.Context) (string, error) {
	token, err := read[client.EnrolmentToken](s.api.CreateEnrolmentToken(ctx, client.CreateEnrolmentTokenJSONRequestBody{}))
	if err != nil {
		return "", err
	}
	if s.agent, err = startAgent(ctx, s, token.Token); err != nil {
		return "", err
	}
	err = within(ctx, patience, func(ctx context.Context) error {
		if err := s.agent.alive(); err != nil {
			return err
		}
		list, err := read[client.AgentList](s.api.ListAgents(ctx, nil))
		if err != nil {
			return err
		}
		for _, a := range list.Data {
			if a.Name == s.agent.name && a.Status == client.Online {
				s.agentID = a.ID
				return nil
			}
		}
		return errors.New("the agent is not Online")
	})
	if err != nil {
		return "", s.agent.explain(err)
	}
	s.agent.token = token.Token
	return fmt.Sprintf("%s is Online; it reaches nothing but %s, and made its own identity key", s.agentID, s.LeafURL), nil
}

func (s *story) reuseToken(ctx context.Context) (string, error) {
	output, err := s.agent.enrolAgain(ctx, s)
	if err == nil {
		return "", errors.New("a second host enrolled with a used token")
	}
	if _, refused := errors.AsType[*exec.ExitError](err); !refused {
		return "", err
	}
	return "a second host with the same token was told: " + lastLine(output), nil
}

func (s *story) createTarget(ctx context.Context) (string, error) {
	t, err := read[client.Target](s.api.CreateTarget(ctx, client.TargetCreate{
		Name: "demo NGINX", Type: "NGINX", AgentID: s.agentID,
		Config: &map[string]any{
			"cert_path": s.nginx.cert, "key_path": s.nginx.key,
			"nginx_binary": s.nginx.binary, "prefix": s.nginx.prefix, "config_path": s.nginx.config,
			"verify_address": s.nginx.address, "server_name": commonName,
		},
	}))
	s.targetID = t.ID
	return fmt.Sprintf("%s: NGINX on the host of %s", t.ID, s.agentID), err
}

func (s *story) request(ctx context.Context) (string, error) {
	c, err := read[client.Certificate](s.api.CreateCertificate(ctx, client.CertificateCreate{
		CommonName: commonName, Sans: &[]string{commonName, "demo.test"}, TargetIds: &[]string{s.targetID},
	}))
	s.certificateID = c.ID
	return fmt.Sprintf("%s for %s and demo.test, job %s", c.ID, commonName, deref(c.JobID)), err
}

func (s *story) served(ctx context.Context) (string, error) {
	err := within(ctx, patience, func(ctx context.Context) (err error) {
		s.first, err = s.api.newest(ctx, s.certificateID, "")
		return err
	})
	if err != nil {
		return "", s.agent.explain(err)
	}
	return fmt.Sprintf("%s is Active until %s", s.certificateID, s.first.notAfter.Format(time.DateOnly)), nil
}

func (s *story) handshake(ctx context.Context) (string, error) {
	leaf, err := s.nginx.leaf(ctx)
	if err != nil {
		return "", err
	}
	if got := x509x.Fingerprint(leaf.Raw); got != s.first.fingerprint {
		return "", fmt.Errorf("NGINX serves %s, the record says %s", got, s.first.fingerprint)
	}
	return fmt.Sprintf("NGINX serves serial %s, which is what the record says", x509x.SerialHex(leaf.SerialNumber)), nil
}

func (s *story) verifyChain(ctx context.Context) (string, error) {
	ca, err := s.trust(ctx)
	if err != nil {
		return "", err
	}
	chain, err := s.nginx.served(ctx)
	if err != nil {
		return "", err
	}
	caFile, leafFile, chainFile := s.path("ca.pem"), s.path("leaf.pem"), s.path("chain.pem")
	leaf, issuers, err := x509x.SplitChain(chain)
	if err != nil {
		return "", err
	}
	if err := errors.Join(os.WriteFile(caFile, ca, 0o644), os.WriteFile(leafFile, leaf, 0o644), os.WriteFile(chainFile, issuers, 0o644)); err != nil {
		return "", err
	}
	args := []string{"verify", "-CAfile", caFile, "-purpose", "sslserver", "-verify_hostname", commonName}
	if len(issuers) > 0 {
		args = append(args, "-untrusted", chainFile)
	}
	out, err := exec.CommandContext(ctx, "openssl", append(args, leafFile)...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("openssl verify: %w: %s", err, out)
	}
	return "openssl verify -purpose sslserver -verify_hostname " + commonName + ": OK", nil
}

// trust returns the certificates of the issuing CA, as any relying party gets them.
func (s *story) trust(ctx context.Context) ([]byte, error) {
	return raw(s.api.GetCACertificates(ctx, issuerID))
}

func (s *story) renew(ctx context.Context) (string, error) {
	ca, err := s.trust(ctx)
	if err != nil {
		return "", err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(ca) {
		return "", errors.New("the CA's certificate cannot be read")
	}
	v := s.nginx.visit(ctx, pool, 2)
	defer v.stop()
	// Some visits before, so that the reload falls among them.
	if err := v.wait(ctx, 20); err != nil {
		return "", err
	}
	start := time.Now()
	job, err := read[client.RenewalTriggered](s.api.RenewCertificate(ctx, s.certificateID, client.CertificateRenew{}))
	if err != nil {
		return "", err
	}
	err = within(ctx, patience, func(ctx context.Context) (err error) {
		s.second, err = s.api.newest(ctx, s.certificateID, s.first.fingerprint)
		return err
	})
	if err != nil {
		return "", s.agent.explain(fmt.Errorf("job %s: %w", job.JobID, err))
	}
	took := time.Since(start).Round(time.Millisecond)
	if err := v.wait(ctx, v.served.Load()+20); err != nil {
		return "", err
	}
	n, err := v.halt()
	if err != nil {
		return "", err
	}
	if got := *v.serials.Load(); got != s.second.serial {
		return "", fmt.Errorf("NGINX serves serial %s, the record says %s", got, s.second.serial)
	}
	return fmt.Sprintf("serial %s has taken over %s after the call; %d new connections meanwhile, none failed", s.second.serial, took, n), nil
}

// wait returns when as many visits have been made.
func (v *visitors) wait(ctx context.Context, number int64) error {
	return within(ctx, patience, func(context.Context) error {
		if n := v.served.Load(); n < number {
			return fmt.Errorf("%d of %d visits were made", n, number)
		}
		return nil
	})
}

func (s *story) audit(ctx context.Context) (string, error) {
	// Asked for, issued and active, and once more by the renewal.
	const enough = 6
	var actions []string
	err := within(ctx, patience, func(ctx context.Context) error {
		list, err := read[client.AuditEventList](s.api.ListAuditEvents(ctx, &client.ListAuditEventsParams{
			ResourceType: new("certificate"), ResourceID: &s.certificateID,
		}))
		if err != nil {
			return err
		}
		actions = actions[:0]
		for i := len(list.Data) - 1; i >= 0; i-- {
			actions = append(actions, list.Data[i].Action)
		}
		if len(actions) < enough {
			return fmt.Errorf("%d events of the certificate are on record", len(actions))
		}
		return nil
	})
	return strings.Join(actions, ", "), err
}

func lastLine(output string) string {
	lines := strings.Split(strings.TrimSpace(output), "\n")
	return lines[len(lines)-1]
}
