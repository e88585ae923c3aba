// Package relyingparty has certificates verified by those who would have to rely on them (RFC 5280 section 6): the openssl
// command and GnuTLS's certtool, which read them with parsers of their own and forgive less than crypto/x509 does.
//
// A certificate is verified up to what its relying party trusts, with nothing between but what is served with it, for what it
// is for, strictly, and now; one that has expired since, at the last second that it held. Many of them cost little: openssl
// verifies those together that have the same certificates above them, certtool takes a few milliseconds for each.
//
// Names are not compared and revocation is not asked for: both are others' to test. Nor is anything linted here.
package relyingparty

import (
	"crypto/x509"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/certctl/certctl/libs/x509x"
)

// Chain is a certificate as a relying party gets it.
type Chain struct {
	// Name is what objections call it.
	Name string
	// Served is the certificate, and what is served with it: what stands between it and what is trusted.
	Served []*x509.Certificate
	// Trusted are those that the relying party trusts, roots or not.
	Trusted []*x509.Certificate
	// For is what the relying party wants it for. Its zero value is what the certificate is for: a server if for several things.
	For x509.ExtKeyUsage
}

// purpose is a usage as the parties are told of it.
type purpose struct{ openSSL, gnuTLS string }

// purposes lack what openssl has had no word for until lately; GnuTLS is told of that.
var purposes = map[x509.ExtKeyUsage]purpose{
	x509.ExtKeyUsageServerAuth:      {"sslserver", "1.3.6.1.5.5.7.3.1"},
	x509.ExtKeyUsageClientAuth:      {"sslclient", "1.3.6.1.5.5.7.3.2"},
	x509.ExtKeyUsageCodeSigning:     {"any", "1.3.6.1.5.5.7.3.3"},
	x509.ExtKeyUsageEmailProtection: {"smimesign", "1.3.6.1.5.5.7.3.4"},
	x509.ExtKeyUsageTimeStamping:    {"any", "1.3.6.1.5.5.7.3.8"},
	x509.ExtKeyUsageOCSPSigning:     {"ocsphelper", "1.3.6.1.5.5.7.3.9"},
}

func (c *Chain) purpose() purpose {
	usage, own := c.For, c.Served[0].ExtKeyUsage
	switch {
	case usage != x509.ExtKeyUsageAny || len(own) == 0:
	case slices.Contains(own, x509.ExtKeyUsageServerAuth):
		usage = x509.ExtKeyUsageServerAuth
	default:
		usage = own[0]
	}
	if p, known := purposes[usage]; known {
		return p
	}
	return purpose{openSSL: "any"}
}

// expired reports whether the certificate has stopped to hold.
func (c *Chain) expired(now time.Time) bool { return now.After(c.Served[0].NotAfter) }

// at is when it is verified.
func (c *Chain) at(now time.Time) time.Time {
	if c.expired(now) {
		return c.Served[0].NotAfter.Add(-time.Second)
	}
	return now
}

// Objections are what the parties have against chains, in their words; there are none against what both rely on. A chain
// needs a certificate, and somebody to be trusted.
func Objections(t testing.TB, chains ...Chain) []string {
	t.Helper()
	return append(OpenSSL(t, chains...), GnuTLS(t, chains...)...)
}

// OpenSSL are what the openssl command has against chains.
func OpenSSL(t testing.TB, chains ...Chain) (out []string) {
	t.Helper()
	now := time.Now()
	groups := map[string][]Chain{}
	for _, c := range chains {
		alike := fmt.Sprintf("%s %d %x", c.purpose().openSSL, c.at(now).Unix(), raw(c.Trusted, c.Served[1:]))
		groups[alike] = append(groups[alike], c)
	}
	for _, group := range groups {
		out = append(out, openSSL(t, group, now)...)
	}
	return out
}

func raw(lists ...[]*x509.Certificate) (out [][]byte) {
	for _, list := range lists {
		for _, c := range list {
			out = append(out, c.Raw)
		}
		out = append(out, nil)
	}
	return out
}

// openSSL verifies chains that differ in their first certificate alone.
func openSSL(t testing.TB, group []Chain, now time.Time) (out []string) {
	t.Helper()
	first := &group[0]
	files := map[string][]*x509.Certificate{"trusted": first.Trusted}
	args := []string{
		"verify", "-x509_strict", "-check_ss_sig", "-partial_chain", "-no-CApath", "-no-CAstore", "-purpose", first.purpose().openSSL,
		"-attime", strconv.FormatInt(first.at(now).Unix(), 10), "-CAfile", "trusted",
	}
	if above := first.Served[1:]; len(above) > 0 {
		files["between"] = above
		args = append(args, "-untrusted", "between")
	}
	for i, c := range group {
		name := strconv.Itoa(i)
		files[name] = c.Served[:1]
		args = append(args, name)
	}
	said, err := run(t, files, "openssl", args...)
	if err == nil && strings.Count(said, ": OK\n") == len(group) {
		return nil
	}
	if len(group) == 1 {
		return []string{fmt.Sprintf("openssl of %s: %v: %s", first.Name, err, said)}
	}
	for i := range group {
		out = append(out, openSSL(t, group[i:i+1], now)...)
	}
	return out
}

const (
	// verdict is how certtool begins to say what it makes of a chain.
	verdict = "Chain verification output: "
	// onlyExpired is what it says of one against which there is nothing but its age. It cannot be told of another time.
	onlyExpired = "Not verified. The certificate is NOT trusted. The certificate chain uses expired certificate."
)

// GnuTLS are what certtool has against chains.
func GnuTLS(t testing.TB, chains ...Chain) (out []string) {
	t.Helper()
	for _, c := range chains {
		args := []string{"--verify", "--load-ca-certificate=trusted", "--infile=chain"}
		if oid := c.purpose().gnuTLS; oid != "" {
			args = append(args, "--verify-purpose="+oid)
		}
		said, err := run(t, map[string][]*x509.Certificate{"trusted": c.Trusted, "chain": c.Served}, certtool(t), args...)
		_, judged, _ := strings.Cut(said, verdict)
		judged, _, _ = strings.Cut(judged, "\n")
		judged = strings.TrimSpace(judged)
		relies := err == nil && strings.HasPrefix(judged, "Verified.")
		if !relies && (judged != onlyExpired || !c.expired(time.Now())) {
			out = append(out, fmt.Sprintf("GnuTLS of %s: %v: %s", c.Name, err, said))
		}
	}
	return out
}

// run runs a command in a folder with certificates and returns all that it printed.
func run(t testing.TB, files map[string][]*x509.Certificate, name string, args ...string) (string, error) {
	t.Helper()
	dir := t.TempDir()
	for file, certs := range files {
		if err := os.WriteFile(filepath.Join(dir, file), x509x.EncodeCertificates(certs...), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	// What they say is compared.
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// certtool finds GnuTLS's certtool on PATH, else where make peers has put it.
func certtool(t testing.TB) string {
	t.Helper()
	if path, err := exec.LookPath("certtool"); err == nil {
		return path
	}
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for ; dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
		path := filepath.Join(dir, ".peers", "bin", "certtool")
		if info, err := os.Stat(path); err == nil && info.Mode()&0o111 != 0 {
			return path
		}
	}
	t.Fatal("certtool is not there; make peers fetches it")
	return ""
}
