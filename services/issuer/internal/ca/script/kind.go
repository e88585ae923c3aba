package script

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/certctl/certctl/libs/clock"
	"github.com/certctl/certctl/libs/x509x"
	"github.com/certctl/certctl/services/issuer/internal/ca"
	"github.com/certctl/certctl/services/issuer/internal/registry"
	"github.com/certctl/certctl/services/issuer/internal/setting"
)

// The settings of a CA behind programs, by their names in an issuer's config.
const (
	SettingSign    = "sign_script"
	SettingRevoke  = "revoke_script"
	SettingCRL     = "crl_script"
	SettingTimeout = "timeout_seconds"
	SettingChain   = "ca_cert_pem"
)

const maxTimeout = 3600

// Kind opens CAs behind programs. It implements [registry.Kind].
//
// Whoever may set up issuers over the API must not thereby run whatever they like on this machine: programs are run
// only if they lie under Dir, with all links followed.
type Kind struct {
	// Dir is the folder of programs that issuers may name; empty is none.
	Dir string
	// Trusted is the id of the issuer whose programs the environment names, wherever they lie.
	Trusted string
	Clock   clock.Clock
}

func (k *Kind) read(i registry.Issuer, config map[string]any) (Config, error) {
	r := setting.Of(registry.TypeOpenSSL, config)
	c := Config{
		Sign: r.Words(SettingSign), Revoke: r.Words(SettingRevoke), CRL: r.Words(SettingCRL),
		Timeout: time.Duration(r.Whole(SettingTimeout, 1, maxTimeout)) * time.Second, Lifetime: r.Lifetime(),
	}
	if text := r.Text(SettingChain); text != "" {
		var err error
		if c.Chain, err = x509x.ParseCertificates([]byte(text)); err != nil {
			r.Bad(SettingChain, "is no chain of certificates: "+err.Error())
		}
	}
	for name, argv := range map[string][]string{SettingSign: c.Sign, SettingRevoke: c.Revoke, SettingCRL: c.CRL} {
		if len(argv) == 0 && name != SettingSign {
			continue
		}
		// What may not be run is not looked at either: an answer would tell whether it is there.
		if reason := k.forbids(i, argv); reason != "" {
			r.Bad(name, reason)
		} else if reason := objection(argv); reason != "" {
			r.Bad(name, reason)
		}
	}
	return c, r.Err()
}

// forbids says why a program may not be run for an issuer, nothing if it may.
func (k *Kind) forbids(i registry.Issuer, argv []string) string {
	if k.Trusted != "" && i.ID == k.Trusted || len(argv) == 0 {
		return ""
	}
	if k.Dir == "" {
		return "programs can be named only if CERTCTL_OPENSSL_SCRIPT_DIR says in which folder they lie"
	}
	outside := fmt.Sprintf("must be a program in %s (CERTCTL_OPENSSL_SCRIPT_DIR)", k.Dir)
	dir, err := filepath.EvalSymlinks(k.Dir)
	if err != nil {
		return outside + ", which cannot be read"
	}
	if !within(k.Dir, argv[0]) && !within(dir, argv[0]) {
		return outside
	}
	if real, err := filepath.EvalSymlinks(argv[0]); err == nil && !within(dir, real) {
		return outside + "; it is a link that leads out of there"
	}
	return ""
}

func within(dir, path string) bool {
	rel, err := filepath.Rel(dir, path)
	return err == nil && rel != "." && rel != ".." && !strings.HasPrefix(rel, ".."+string(filepath.Separator)) && filepath.IsAbs(path)
}

// Make implements [registry.Kind]. It runs nothing.
func (k *Kind) Make(i registry.Issuer, config map[string]any) (registry.Made, error) {
	config, err := k.Amend(i, config)
	return registry.Made{Config: config, SignsCRL: config[SettingCRL] != nil}, err
}

// Amend implements [registry.Kind].
func (k *Kind) Amend(i registry.Issuer, update map[string]any) (map[string]any, error) {
	config := setting.Merge(i.Config, update)
	_, err := k.read(i, config)
	return config, err
}

// Open implements [registry.Kind].
func (k *Kind) Open(_ context.Context, i registry.Issuer) (ca.Issuer, map[string]any, error) {
	c, err := k.read(i, i.Config)
	if err != nil {
		return nil, nil, err
	}
	a, err := Open(c, k.Clock)
	if err != nil {
		return nil, nil, err
	}
	return a, i.Config, nil
}
