package stepca_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/certctl/certctl/libs/clock"
	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/x509x"
	"github.com/certctl/certctl/services/issuer/internal/ca"
	"github.com/certctl/certctl/services/issuer/internal/ca/catest"
	"github.com/certctl/certctl/services/issuer/internal/ca/stepca"
	"github.com/certctl/certctl/services/issuer/internal/ca/stepca/stepcatest"
)

func config(s *stepcatest.Server) stepca.Config {
	return stepca.Config{
		URL: s.URL, RootFingerprint: x509x.Fingerprint(s.Root.Raw), Provisioner: stepcatest.Provisioner,
		Key: s.Key, Password: []byte(stepcatest.Password),
	}
}

func open(t *testing.T, c stepca.Config) *stepca.Authority {
	t.Helper()
	a, err := stepca.Open(t.Context(), c, clock.System)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func request(t *testing.T, name string) ca.Request {
	t.Helper()
	return catest.NewRequest(t, catest.NewKey(t, "ECDSA P-256"), name)
}

func TestStepCA_Conforms(t *testing.T) {
	catest.Conforms(t, "step-ca", "a real step-ca", open(t, config(stepcatest.Start(t))))
}

// The roots that a machine trusts are read once in a process, so this test runs itself in another one.
func TestStepCA_WithoutAFingerprintIsBelievedIfTheMachineTrustsIt(t *testing.T) {
	if address := os.Getenv("STEPCA_TRUSTED"); address != "" {
		c := stepca.Config{URL: address, Provisioner: stepcatest.Provisioner, Password: []byte(stepcatest.Password)}
		if _, err := open(t, c).Issue(t.Context(), request(t, "www.example.com")); err != nil {
			t.Error(err)
		}
		return
	}
	s := stepcatest.Start(t)
	root := filepath.Join(t.TempDir(), "root.pem")
	if err := os.WriteFile(root, x509x.EncodePEM(s.Root.Raw), 0o600); err != nil {
		t.Fatal(err)
	}
	again := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	again.Env = append(os.Environ(), "STEPCA_TRUSTED="+s.URL, "SSL_CERT_FILE="+root)
	out, err := again.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS") {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestStepCA_OpensTheKeyThatTheCAHandsOut(t *testing.T) {
	c := config(stepcatest.Start(t))
	c.Key = nil
	if _, err := open(t, c).Issue(t.Context(), request(t, "www.example.com")); err != nil {
		t.Error(err)
	}
}

func TestStepCA_GrantsTheLifetimeAskedForAndRefusesMoreThanItsProvisionerAllows(t *testing.T) {
	a := open(t, config(stepcatest.Start(t)))
	r := request(t, "www.example.com")
	r.Lifetime = 72 * time.Hour
	issued, err := a.Issue(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	if left := time.Until(issued.NotAfter); left < 71*time.Hour || left > 72*time.Hour {
		t.Errorf("%s are left", left)
	}
	r.Lifetime = 365 * 24 * time.Hour
	if _, err := a.Issue(t.Context(), r); fault.CodeOf(err) != fault.Invalid || !strings.Contains(err.Error(), "duration") {
		t.Errorf("a year: %v", err)
	}
}

func TestStepCA_RevokesAtTheCAAndBearsARepetition(t *testing.T) {
	s := stepcatest.Start(t)
	a := open(t, config(s))
	issued, err := a.Issue(t.Context(), request(t, "www.example.com"))
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := a.Revoke(t.Context(), ca.Revocation{Serial: issued.Serial, Leaf: issued.DER, Reason: 4}); err != nil {
			t.Fatal(err)
		}
	}
	if !s.Revoked(issued.Serial) {
		t.Error("the CA's list does not hold it")
	}
}

func TestStepCA_SaysWhatIsWrongWithItsConfiguration(t *testing.T) {
	s := stepcatest.Start(t)
	for name, c := range map[string]struct {
		change func(*stepca.Config)
		code   fault.Code
		says   string
	}{
		"a root that it has not": {func(c *stepca.Config) { c.RootFingerprint = strings.Repeat("0", 64) }, fault.Invalid, "root_fingerprint"},
		"no fingerprint":         {func(c *stepca.Config) { c.RootFingerprint = "" }, fault.Invalid, "root_fingerprint"},
		"a wrong password":       {func(c *stepca.Config) { c.Password = []byte("wrong") }, fault.Invalid, "provisioner_password"},
		"an unknown provisioner": {func(c *stepca.Config) { c.Provisioner = "nobody" }, fault.Invalid, "nobody"},
		"a key of another": {func(c *stepca.Config) {
			c.Key = []byte(`{"kty":"EC","crv":"P-256","x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4","y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM","d":"870MB6gfuTJ4HtUnUvYMyJpr5eUZNP4Bk43bVdj3eAE"}`)
		}, fault.Invalid, "not the key of"},
		"no key":         {func(c *stepca.Config) { c.Key = []byte("secret") }, fault.Invalid, "provisioner_key"},
		"plain HTTP":     {func(c *stepca.Config) { c.URL = "http://127.0.0.1" }, fault.Invalid, "https"},
		"nobody answers": {func(c *stepca.Config) { c.URL = "https://127.0.0.1:1" }, fault.Unavailable, "cannot be reached: connection refused"},
		"no step-ca":     {func(c *stepca.Config) { c.URL += "/elsewhere" }, fault.Invalid, "url: leads to no step-ca"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := config(s)
			c.change(&cfg)
			_, err := stepca.Open(t.Context(), cfg, clock.System)
			if fault.CodeOf(err) != c.code || !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v", err)
			}
			if err != nil && strings.Contains(err.Error(), "wrong\"") {
				t.Errorf("the error tells a secret: %v", err)
			}
		})
	}
}

func TestStepCA_IsTriedAgainWhileItIsAway(t *testing.T) {
	s := stepcatest.Start(t)
	a := open(t, config(s))
	s.Stop()
	if _, err := a.Issue(t.Context(), request(t, "www.example.com")); fault.CodeOf(err) != fault.Unavailable {
		t.Errorf("while it is away: %v", err)
	}
	s.Run()
	if _, err := a.Issue(t.Context(), request(t, "www.example.com")); err != nil {
		t.Errorf("when it is back: %v", err)
	}
}
