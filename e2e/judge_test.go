package e2e

import (
	"fmt"
	"slices"
	"strings"

	"golang.org/x/crypto/ocsp"

	"github.com/certctl/certctl/contracts/httpapi/client"
	"github.com/certctl/certctl/e2e/internal/rig"
	"github.com/certctl/certctl/libs/x509x"
)

// settled waits until nothing is left to do: every certificate is Active and every job
// has ended.
func (s *storm) settled() {
	rig.Within(s.t, settle, "everything settles", func() error {
		all, err := s.Certificates(s.t.Context())
		if err != nil {
			return err
		}
		var open []string
		for _, c := range all {
			if c.Status != client.CertificateStatusActive {
				open = append(open, fmt.Sprintf("%s is %s (%s)", c.ID, c.Status, rig.Value(c.StatusReason)))
			}
		}
		jobs, err := s.Jobs(s.t.Context())
		if err != nil {
			return err
		}
		for _, j := range jobs {
			if !ended(j) {
				open = append(open, fmt.Sprintf("%s of %s is %s after %d attempts (%s)", j.ID, j.CertificateID, j.Status, j.Attempts, rig.Value(j.LastError)))
			}
		}
		if len(all) != len(s.asked) {
			open = append(open, fmt.Sprintf("there are %d certificates, %d were asked for", len(all), len(s.asked)))
		}
		if len(open) > 0 {
			return fmt.Errorf("%d things are not: %s", len(open), strings.Join(open[:min(len(open), 10)], "; "))
		}
		return nil
	})
}

func ended(j client.Job) bool {
	switch j.Status {
	case client.JobStatusCompleted, client.JobStatusFailed, client.JobStatusCancelled:
		return true
	default:
		return false
	}
}

// judge looks at everything that a storm could have broken.
func (s *storm) judge() {
	jobs, err := s.Jobs(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	issuing, deploying := map[string]int{}, map[string]int{}
	installed := map[string]int{}
	for _, j := range jobs {
		if j.Status != client.JobStatusCompleted {
			s.t.Errorf("job %s of %s is %s: %s", j.ID, j.CertificateID, j.Status, rig.Value(j.LastError))
		}
		if j.Type == client.Deployment {
			deploying[j.CertificateID]++
			installed[rig.Value(j.VersionID)+" on "+rig.Value(j.TargetID)]++
		} else {
			issuing[j.CertificateID]++
		}
	}
	for what, n := range installed {
		if n != 1 {
			s.t.Errorf("there are %d jobs for %s", n, what)
		}
	}
	versions := map[string]bool{} // by id
	for _, w := range s.asked {
		s.judgeOne(w, issuing[w.id], deploying[w.id], versions)
	}
	s.judgeAudit(versions)
	if out, err := s.Admin("audit", "verify"); err != nil {
		s.t.Errorf("the audit chain does not verify: %s", out)
	} else {
		s.t.Log(strings.TrimSpace(out))
	}
}

// judgeOne looks at one certificate, and adds its versions to those of all.
func (s *storm) judgeOne(w *wish, issuing, deploying int, versions map[string]bool) {
	c := rig.Must[client.Certificate](s.t)(s.GetCertificate(s.t.Context(), w.id))
	list := rig.Must[client.CertificateVersionList](s.t)(s.ListCertificateVersions(s.t.Context(), w.id, nil))
	if len(list.Data) != issuing {
		s.t.Errorf("%s has %d versions, and %d jobs have issued", w.id, len(list.Data), issuing)
	}
	want := 0
	if w.target != nil {
		want = len(list.Data)
	}
	if deploying > want || w.target != nil && deploying == 0 {
		s.t.Errorf("%s has %d versions and %d deployment jobs", w.id, len(list.Data), deploying)
	}
	for i, v := range list.Data {
		versions[v.ID] = true
		if i == 0 && v.FingerprintSha256 != rig.Value(c.FingerprintSha256) {
			s.t.Errorf("%s names %s as its newest version, the list %s", w.id, rig.Value(c.FingerprintSha256), v.FingerprintSha256)
		}
		s.judgeStatus(v)
	}
	if w.answered != nil && (len(list.Data) != 1 || list.Data[0].ID != w.answered.ID || list.Data[0].PemChain != w.answered.PemChain) {
		s.t.Errorf("%s was acknowledged with version %s, which is not the one on record", w.id, w.answered.ID)
	}
	if w.target != nil {
		if got := w.target.served.Fingerprint(s.t); got != rig.Value(c.FingerprintSha256) {
			s.t.Errorf("NGINX serves %s for %s, the newest version is %s", got, w.id, rig.Value(c.FingerprintSha256))
		}
	}
}

// judgeStatus asks what relying parties are told, who learn a serial number from its
// event alone.
func (s *storm) judgeStatus(v client.CertificateVersion) {
	chain, err := x509x.ParseCertificates([]byte(v.PemChain))
	if err != nil {
		s.t.Errorf("the chain of %s: %v", v.ID, err)
		return
	}
	if got := x509x.SerialHex(chain[0].SerialNumber); got != v.SerialNumber {
		s.t.Errorf("version %s has the serial number %s, its certificate %s", v.ID, v.SerialNumber, got)
	}
	rig.Within(s.t, rig.Patience, "OCSP knows "+v.SerialNumber, func() error {
		der, err := rig.Raw(s.GetOCSP(s.t.Context(), "iss-local", v.SerialNumber))
		if err != nil {
			return err
		}
		answer, err := ocsp.ParseResponse(der, nil)
		if err != nil {
			return err
		}
		if answer.Status != ocsp.Good || answer.SerialNumber.Cmp(chain[0].SerialNumber) != 0 {
			return fmt.Errorf("it says %d of %x", answer.Status, answer.SerialNumber)
		}
		return nil
	})
}

// judgeAudit compares what is on record with what there is: each version was issued
// once, and each certificate requested once.
func (s *storm) judgeAudit(versions map[string]bool) {
	var issued []client.AuditEvent
	rig.Within(s.t, rig.Patience, "all that was issued is on record", func() error {
		issued = issued[:0]
		for _, action := range []string{"certificate_issued", "renewal_job_completed"} {
			events, err := s.Audit(s.t.Context(), action)
			if err != nil {
				return err
			}
			issued = append(issued, events...)
		}
		if len(issued) < len(versions) {
			return fmt.Errorf("%d events for %d versions", len(issued), len(versions))
		}
		return nil
	})
	seen := map[string]int{}
	for _, e := range issued {
		v, _ := e.Details["version_id"].(string)
		if seen[v]++; !versions[v] || seen[v] > 1 {
			s.t.Errorf("audit has event %s of %s for version %q: the version exists: %v, event number %d", e.Action, e.ResourceID, v, versions[v], seen[v])
		}
	}
	requested, err := s.Audit(s.t.Context(), "certificate_created")
	if err != nil {
		s.t.Fatal(err)
	}
	created := map[string]int{}
	for _, e := range requested {
		created[e.ResourceID]++
	}
	for _, w := range s.asked {
		if created[w.id] != 1 {
			s.t.Errorf("audit has %d requests for %s", created[w.id], w.id)
		}
	}
	s.judgeSequence()
}

// judgeSequence sees that the record has no gap and nothing twice. The list is by time, the
// chain by the order in which things were heard of.
func (s *storm) judgeSequence() {
	p := &client.ListAuditEventsParams{PerPage: new(500)}
	var places []int64
	for {
		list := rig.Must[client.AuditEventList](s.t)(s.ListAuditEvents(s.t.Context(), p))
		for _, e := range list.Data {
			places = append(places, e.Sequence)
		}
		if list.NextCursor == nil {
			break
		}
		p.Cursor = list.NextCursor
	}
	slices.Sort(places)
	for i, place := range places {
		if place != int64(i+1) {
			s.t.Errorf("audit event %d stands where %d belongs", place, i+1)
			return
		}
	}
}
