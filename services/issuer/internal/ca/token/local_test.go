package token_test

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"maps"
	"math/big"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/certctl/certctl/libs/clock"
	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/testkit/signertest"
	"github.com/certctl/certctl/libs/x509x"
	"github.com/certctl/certctl/services/issuer/internal/ca"
	"github.com/certctl/certctl/services/issuer/internal/ca/catest"
	"github.com/certctl/certctl/services/issuer/internal/ca/local"
	"github.com/certctl/certctl/services/issuer/internal/registry"
)

// stored is the one key of one issuer.
type stored struct{ key ca.Key }

func (s *stored) Keys(context.Context, string) ([]ca.Key, error) { return []ca.Key{s.key}, nil }

func (s *stored) ActiveKey(context.Context, string) (*ca.Key, error) { return &s.key, nil }

func (s *stored) AddKey(context.Context, ca.Key) (*ca.Key, error) { return &s.key, nil }

// issuer makes a Local CA of the settings, with its key in the signer's token.
func issuer(t *testing.T, s *signertest.Signer, config map[string]any) (*local.Kind, registry.Issuer, *stored, error) {
	t.Helper()
	keys := &stored{}
	k := &local.Kind{Keys: keys, Token: client(t, s.Socket), Clock: clock.System, PublicURL: "http://127.0.0.1:8080"}
	i := registry.Issuer{ID: "iss-hsm", Name: "HSM", Type: registry.TypeLocal}
	config = maps.Clone(config)
	config["key_store"] = "pkcs11"
	made, err := k.Make(i, config)
	keys.key, i.Config = made.Key, made.Config
	return k, i, keys, err
}

func opened(t *testing.T, s *signertest.Signer, config map[string]any) ca.Issuer {
	t.Helper()
	k, i, _, err := issuer(t, s, config)
	if err != nil {
		t.Fatal(err)
	}
	a, _, err := k.Open(t.Context(), i)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestLocalCA_WithItsKeyInATokenConforms(t *testing.T) {
	s := signertest.Start(t)
	catest.Conforms(t, "Local CA, PKCS#11", "SoftHSM 2", opened(t, s, map[string]any{}))
}

func TestLocalCA_WithAnyKindOfKeyInATokenConforms(t *testing.T) {
	s := signertest.Start(t)
	for label, config := range map[string]map[string]any{
		"P-384": {"key_algorithm": "ECDSA-P384"}, "RSA": {"key_algorithm": "rsa-2048"},
	} {
		t.Run(label, func(t *testing.T) {
			config["key_label"] = label
			catest.Run(t, opened(t, s, config))
		})
	}
}

func TestLocalCA_WithItsKeyInATokenIsNotInProcess(t *testing.T) {
	a := opened(t, signertest.Start(t), map[string]any{})
	if _, here := a.(ca.InProcess); here {
		t.Error("it is held to sign within a millisecond")
	}
}

// What a CA can do is asked for by the methods that it has: one that is left out is taken for a CA that cannot.
func TestLocalCA_WithItsKeyInATokenCanAllThatOneInProcessCan(t *testing.T) {
	own := map[string]string{"InProcess": "it is not", "Lasting": "before it is shown", "Below": "of the kind", "Succeed": "of the kind"}
	here, remote := reflect.TypeFor[*local.Authority](), reflect.TypeFor[local.Remote]()
	for m := range here.Methods() {
		if _, has := remote.MethodByName(m.Name); !has && own[m.Name] == "" {
			t.Errorf("it lacks %s", m.Name)
		}
	}
}

// certify makes a root that signs a certificate for a request, as a CA of an operator's does.
func certify(t *testing.T, request string) (chain string) {
	t.Helper()
	csr, err := x509x.ParseCSR([]byte(request))
	if err != nil {
		t.Fatal(err)
	}
	key := catest.NewKey(t, "ECDSA P-384")
	root := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Root"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(1, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, SubjectKeyId: []byte{1},
	}
	sub := *root
	sub.SerialNumber, sub.Subject, sub.SubjectKeyId = big.NewInt(2), csr.Subject, []byte{2}
	return sign(t, &sub, root, csr.PublicKey, key) + sign(t, root, root, key.Public(), key)
}

func sign(t *testing.T, template, parent *x509.Certificate, public crypto.PublicKey, key crypto.Signer) string {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, key)
	if err != nil {
		t.Fatal(err)
	}
	return string(x509x.EncodePEM(der))
}

func TestLocalCA_OfAChainForAKeyInTheTokenConforms(t *testing.T) {
	s := signertest.Start(t)
	s.Do("generate", "--label", "sub")
	request := s.Do("csr", "--label", "sub", "--common-name", "Sub CA", "--organization", "Example")
	a := opened(t, s, map[string]any{"key_label": "sub", "ca_cert_pem": certify(t, request)})
	if got := a.Chain()[0].Subject.String(); got != "CN=Sub CA,O=Example" {
		t.Errorf("the CA is %s", got)
	}
	catest.Run(t, a)
}

func TestLocalCA_IsNotMadeOfWhatDoesNotFit(t *testing.T) {
	s := signertest.Start(t)
	s.Do("generate", "--label", "one", "--algorithm", "RSA", "--bits", "2048")
	s.Do("generate", "--label", "two")
	foreign := certify(t, s.Do("csr", "--label", "one", "--common-name", "Sub CA"))
	for name, tt := range map[string]struct {
		config map[string]any
		want   string
	}{
		"a chain of another key":      {map[string]any{"key_label": "two", "ca_cert_pem": foreign}, "config.key_label: the key two in token \"certctl-test\" is not that of the CA's certificate"},
		"a chain of no key":           {map[string]any{"key_label": "three", "ca_cert_pem": foreign}, "config.key_label: token \"certctl-test\" has no key three"},
		"a chain without a label":     {map[string]any{"ca_cert_pem": foreign}, "config.key_label: is needed with ca_cert_pem"},
		"no chain":                    {map[string]any{"key_label": "one", "ca_cert_pem": "x"}, "config.ca_cert_pem: "},
		"a key that is handed over":   {map[string]any{"ca_key_pem": "x"}, "config.ca_key_pem: is in the token already"},
		"a label out of bounds":       {map[string]any{"key_label": strings.Repeat("a", 65)}, "config.key_label: must have 1 to 64 characters"},
		"a label that is not ASCII":   {map[string]any{"key_label": "ä"}, "config.key_label: a key's label has 1 to 64 printable characters"},
		"another algorithm":           {map[string]any{"key_algorithm": "Ed25519"}, "config.key_algorithm: is not made in a token"},
		"a key that is of other bits": {map[string]any{"key_label": "one", "key_algorithm": "ECDSA-P256"}, "already, which is RSA-2048"},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, _, err := issuer(t, s, tt.config)
			if fault.CodeOf(err) != fault.Invalid || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v, want %q", err, tt.want)
			}
		})
	}
	if listed := s.Do("keys"); strings.Count(listed, "\n") != 3 {
		t.Errorf("a key was made:\n%s", listed)
	}
}

func TestLocalCA_WithoutASignerSaysSo(t *testing.T) {
	k := &local.Kind{Clock: clock.System}
	i := registry.Issuer{ID: "iss-hsm", Name: "HSM", Type: registry.TypeLocal}
	if _, err := k.Make(i, map[string]any{"key_store": "pkcs11"}); fault.CodeOf(err) != fault.Invalid || !strings.Contains(err.Error(), "CERTCTL_SIGNER_SOCKET") {
		t.Errorf("made: %v", err)
	}
	if _, err := k.Make(i, map[string]any{"key_label": "a"}); fault.CodeOf(err) != fault.Invalid || !strings.Contains(err.Error(), "set key_store to pkcs11") {
		t.Errorf("a label without a store: %v", err)
	}
	k.Keys = &stored{key: ca.Key{ID: "cak-1", IssuerID: i.ID, TokenKey: "a", ChainPEM: "x", Active: true}}
	if _, _, err := k.Open(t.Context(), i); fault.CodeOf(err) != fault.Unavailable || !strings.Contains(err.Error(), "CERTCTL_SIGNER_SOCKET") {
		t.Errorf("opened: %v", err)
	}
}

func TestLocalCA_DoesNotOpenWithoutItsKeyAndIssuesNothingWithoutItsSigner(t *testing.T) {
	s := signertest.Start(t)
	k, i, keys, err := issuer(t, s, map[string]any{"key_label": "one"})
	if err != nil {
		t.Fatal(err)
	}
	a, _, err := k.Open(t.Context(), i)
	if err != nil {
		t.Fatal(err)
	}
	keys.key.TokenKey = "gone"
	if _, _, err := k.Open(t.Context(), i); fault.CodeOf(err) != fault.Unavailable || !strings.Contains(err.Error(), `has no key gone`) {
		t.Errorf("opened: %v", err)
	}
	s.Kill()
	_, err = a.Issue(t.Context(), catest.NewRequest(t, catest.NewKey(t, "ECDSA P-256"), "www.example.com"))
	if fault.CodeOf(err) != fault.Unavailable || !strings.Contains(fault.From(err).Message, "certctl-signer is not running") {
		t.Errorf("issued: %v", err)
	}
	_, err = a.(ca.CRLSigner).SignCRL(t.Context(), ca.RevocationList{Number: big.NewInt(1), ThisUpdate: time.Now(), NextUpdate: time.Now().Add(time.Hour)})
	if fault.CodeOf(err) != fault.Unavailable {
		t.Errorf("signed: %v", err)
	}
	s.Run()
	if _, err = a.Issue(t.Context(), catest.NewRequest(t, catest.NewKey(t, "ECDSA P-256"), "www.example.com")); err != nil {
		t.Errorf("after a restart: %v", err)
	}
}
