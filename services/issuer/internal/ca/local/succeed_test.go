package local_test

import (
	"crypto/x509"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/certctl/certctl/libs/clock"
	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/x509x"
	"github.com/certctl/certctl/services/issuer/internal/ca/catest"
	"github.com/certctl/certctl/services/issuer/internal/ca/local"
)

func TestSuccession_IsVerifiedByWhoTrustsEitherRoot(t *testing.T) {
	for name, s := range map[string]local.Successor{
		"under the same name": {Days: 3650, CrossSign: true},
		"under another name":  {Days: 3650, CrossSign: true, CommonName: "Root G2", Algorithm: local.RSA3072},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			old := b.root(named("Root"))
			next := b.open(old.Succeed("iss-root", s, b.sealer))
			served := b.issue(next, "www.example.com")
			oldRoot, newRoot := old.Chain()[0], next.Chain()[0]
			b.mustVerify(oldRoot, served)
			b.mustVerify(newRoot, served)
			b.mustVerify(oldRoot, b.issue(old, "www.example.com"))
			if len(served) != 2 || !served[1].NotAfter.Equal(oldRoot.NotAfter) {
				t.Errorf("%d certificates are served, the cross certificate until %s", len(served), served[len(served)-1].NotAfter)
			}
			// What issues below the new root is verified by both too.
			served = b.issue(b.below(next, named("Issuing")), "www.example.com")
			b.mustVerify(oldRoot, served)
			b.mustVerify(newRoot, served)
			// And so is a third root's.
			third := b.open(next.Succeed("iss-root", s, b.sealer))
			served = b.issue(third, "www.example.com")
			for _, root := range []*x509.Certificate{oldRoot, newRoot, third.Chain()[0]} {
				b.mustVerify(root, served)
			}
			catest.Run(t, next)
		})
	}
}

func TestSuccession_WithoutCrossSigningIsNotVerifiedByWhoTrustsTheOldRoot(t *testing.T) {
	b := newBench(t)
	old := b.root(named("Root"))
	next := b.open(old.Succeed("iss-root", local.Successor{Days: 3650}, b.sealer))
	served := b.issue(next, "www.example.com")
	b.mustVerify(next.Chain()[0], served)
	if out, err := b.verify(old.Chain()[0], served); err == nil {
		t.Errorf("verified: %s", out)
	}
}

func TestSuccession_ServesTheCrossCertificateUntilTheOldRootEnds(t *testing.T) {
	b := newBench(t)
	d := named("Root")
	d.Days = 100
	old := b.root(d)
	k, err := old.Succeed("iss-root", local.Successor{Days: 3650, CrossSign: true}, b.sealer)
	next := b.open(k, err)
	if n := len(b.issue(next, "www.example.com")); n != 2 {
		t.Errorf("%d certificates are served", n)
	}
	b.clock.Set(old.Chain()[0].NotAfter)
	if n := len(b.issue(next, "www.example.com")); n != 1 {
		t.Errorf("%d certificates are served after the old root's end", n)
	}
}

func TestSuccession_IsNotCrossSignedByARootThatAllowsNoCABelowIt(t *testing.T) {
	b := newBench(t)
	d := named("Root")
	d.MaxPathLen = 0
	_, err := b.root(d).Succeed("iss-root", local.Successor{Days: 3650, CrossSign: true}, b.sealer)
	if fault.CodeOf(err) != fault.Invalid || !strings.Contains(err.Error(), "path length") {
		t.Errorf("%v", err)
	}
}

func TestSuccession_KeepsTheLimitsOfTheCA(t *testing.T) {
	b := newBench(t)
	d := named("Root")
	d.MaxPathLen, d.Constraints.PermittedDNS, d.Algorithm = 2, []string{"corp.example"}, local.ECDSAP384
	c := b.open(b.root(d).Succeed("iss-root", local.Successor{Days: 10}, b.sealer)).Chain()[0]
	if c.MaxPathLen != 2 || len(c.PermittedDNSDomains) != 1 || local.AlgorithmOf(c.PublicKey) != local.ECDSAP384 || c.Subject.CommonName != "Root" {
		t.Errorf("path length %d, domains %v, key %s, %s", c.MaxPathLen, c.PermittedDNSDomains, local.AlgorithmOf(c.PublicKey), c.Subject)
	}
}

// TestRequest_IsSignedByARootThatOpenSSLKeeps goes the way of an offline root.
func TestRequest_IsSignedByARootThatOpenSSLKeeps(t *testing.T) {
	b := newBench(t)
	d := named("Issuing CA")
	d.MaxPathLen = 0
	pending, err := local.MakeRequest("iss-out", d, b.sealer, b.clock.Now())
	if err != nil || !pending.Pending() || pending.Active {
		t.Fatalf("%+v %v", pending, err)
	}
	dir := t.TempDir()
	run := func(args ...string) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), "openssl", args...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("openssl %s: %v\n%s", args, err, out)
		}
	}
	read := func(name string) string {
		t.Helper()
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	if err := os.WriteFile(filepath.Join(dir, "csr"), []byte(pending.CSRPEM), 0o600); err != nil {
		t.Fatal(err)
	}
	run("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "root.key", "-out", "root.pem", "-subj", "/CN=Offline Root", "-days", "100",
		"-addext", "keyUsage=critical,keyCertSign,cRLSign")
	// The extensions are those that the request asks for.
	run("x509", "-req", "-in", "csr", "-CA", "root.pem", "-CAkey", "root.key", "-days", "50", "-copy_extensions", "copyall", "-out", "signed.pem")
	// openssl has them begin at the present second.
	b.clock.Set(time.Now().Add(time.Second))
	for name, what := range map[string]string{
		read("root.pem"): "the key is not that of the first certificate", "nothing": "no certificate", read("root.pem") + read("signed.pem"): "the key is not",
	} {
		if _, err := local.Complete(pending, name, b.clock.Now()); fault.CodeOf(err) != fault.Invalid || !strings.Contains(err.Error(), what) {
			t.Errorf("%v, want %q", err, what)
		}
	}
	k, err := local.Complete(pending, read("signed.pem")+read("root.pem"), b.clock.Now())
	a := b.open(k, err)
	if c := a.Chain()[0]; !c.MaxPathLenZero || c.KeyUsage != x509.KeyUsageCertSign|x509.KeyUsageCRLSign {
		t.Errorf("path length %d, key usage %b", c.MaxPathLen, c.KeyUsage)
	}
	root, err := x509x.ParseCertificates([]byte(read("root.pem")))
	if err != nil {
		t.Fatal(err)
	}
	b.mustVerify(root[0], b.issue(a, "www.example.com"))
}

func TestSubordinate_OpensWithAnEncryptedKeyAndSeveralCertificates(t *testing.T) {
	root := newCA(t, "ECDSA P-384", nil, nil)
	middle := newCA(t, "RSA 2048", root, nil)
	sub := newCA(t, "ECDSA P-256", middle, nil)
	certPath, keyPath := files(t, sub.key, sub.cert, middle.cert)
	out, err := exec.CommandContext(t.Context(), "openssl", "pkcs8", "-topk8", "-in", keyPath, "-out", keyPath+".locked", "-passout", "pass:hunter2").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	f := local.Files{CertPath: certPath, KeyPath: keyPath + ".locked", Password: "hunter2"}
	a, err := f.Open(places, clock.System)
	if err != nil || len(a.Chain()) != 2 {
		t.Fatal(err)
	}
	f.Password = "wrong"
	if _, err := f.Open(places, clock.System); err == nil || !strings.Contains(err.Error(), "CERTCTL_CA_KEY_PASSWORD") || strings.Contains(err.Error(), "wrong\"") {
		t.Errorf("%v", err)
	}
}

func TestLeaf_IsCutShortByWhicheverCertificateAboveItEndsFirst(t *testing.T) {
	end := time.Now().AddDate(0, 0, 20).Truncate(time.Second)
	root := newCA(t, "ECDSA P-256", nil, func(c *x509.Certificate) { c.NotAfter = end })
	sub := newCA(t, "ECDSA P-256", root, nil)
	a := local.New([]*x509.Certificate{sub.cert, root.cert}, sub.key, places, clock.System)
	issued, err := a.Issue(t.Context(), catest.NewRequest(t, catest.NewKey(t, "ECDSA P-256"), "www.example.com"))
	if err != nil || !issued.NotAfter.Equal(end) || !issued.EndsWithCA {
		t.Errorf("until %s, told of: %t, error %v", issued.NotAfter, issued.EndsWithCA, err)
	}
}
