package acme

import (
	"crypto/x509"
	"encoding/base64"
	"maps"
	"net/mail"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"unicode"

	"github.com/certctl/certctl/libs/fault"
)

// The settings of an ACME issuer, by their names in its config.
const (
	settingDirectory = "directory_url"
	settingEmail     = "email"
	settingChallenge = "challenge_type"
	settingKeyID     = "eab_kid"
	settingMACKey    = "eab_hmac_key" // never shown
	settingProfile   = "profile"
	settingChain     = "preferred_chain"
	settingRoots     = "ca_certificate_pem"
)

var settingNames = []string{
	settingDirectory, settingEmail, settingChallenge, settingKeyID, settingMACKey, settingProfile, settingChain, settingRoots,
}

// lasting are the settings that make the account what it is.
var lasting = []string{settingDirectory, settingKeyID, settingMACKey}

const maxText = 255

// Settings are those of one issuer.
type Settings struct {
	Directory, Email, Challenge string
	KeyID, MACKey               string
	Profile, PreferredChain     string
	// RootsPEM are what the directory's TLS certificate must lead to; empty are those of the system.
	RootsPEM string
}

// Check returns what is wrong with the settings, by their names.
func (s *Settings) Check() []fault.Field {
	var bad []fault.Field
	object := func(setting, reason string) {
		bad = append(bad, fault.Field{Name: "config." + setting, Reason: reason})
	}
	if u, err := url.Parse(s.Directory); err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || u.Fragment != "" {
		object(settingDirectory, "must be of the form https://host/directory; ACME is spoken over TLS only")
	}
	if s.Email != "" {
		if at, err := mail.ParseAddress(s.Email); err != nil || at.Address != s.Email {
			object(settingEmail, "must be a mail address")
		}
	}
	if s.Challenge != HTTP01 && s.Challenge != DNS01 {
		object(settingChallenge, "must be "+HTTP01+" or "+DNS01)
	}
	if (s.KeyID == "") != (s.MACKey == "") {
		object(settingKeyID, "belongs together with "+settingMACKey+"; give both or none")
	}
	if mac, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(s.MACKey, "=")); err != nil || s.MACKey != "" && len(mac) < 16 {
		object(settingMACKey, "must be a key in base64url, as the CA hands it out")
	}
	for setting, text := range map[string]string{settingKeyID: s.KeyID, settingProfile: s.Profile, settingChain: s.PreferredChain} {
		if len(text) > maxText || strings.ContainsFunc(text, unicode.IsControl) {
			object(setting, "must have at most 255 characters, none of them a control character")
		}
	}
	if s.RootsPEM != "" && s.roots() == nil {
		object(settingRoots, "must be certificates in PEM")
	}
	slices.SortFunc(bad, func(a, b fault.Field) int { return strings.Compare(a.Name, b.Name) })
	return bad
}

func (s *Settings) roots() *x509.CertPool {
	if s.RootsPEM == "" {
		return nil
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM([]byte(s.RootsPEM)) {
		return nil
	}
	return pool
}

// shown is what a config says of the settings: no secrets.
func (s *Settings) shown() map[string]any {
	config := map[string]any{}
	for setting, text := range map[string]string{
		settingDirectory: s.Directory, settingEmail: s.Email, settingChallenge: s.Challenge, settingKeyID: s.KeyID,
		settingProfile: s.Profile, settingChain: s.PreferredChain, settingRoots: s.RootsPEM,
	} {
		if text != "" {
			config[setting] = text
		}
	}
	return config
}

// read reads a config. A null is a setting that is not given.
func read(config map[string]any) (Settings, []fault.Field) {
	s := Settings{Challenge: HTTP01}
	into := map[string]*string{
		settingDirectory: &s.Directory, settingEmail: &s.Email, settingChallenge: &s.Challenge, settingKeyID: &s.KeyID,
		settingMACKey: &s.MACKey, settingProfile: &s.Profile, settingChain: &s.PreferredChain, settingRoots: &s.RootsPEM,
	}
	var bad []fault.Field
	for _, setting := range slices.Sorted(maps.Keys(config)) {
		field, known := into[setting]
		text, isText := config[setting].(string)
		switch {
		case !known && strings.Contains(setting, "script"):
			bad = append(bad, fault.Field{Name: "config." + setting, Reason: "programs are named by the operator only, in CERTCTL_ACME_DNS_PRESENT_SCRIPT and CERTCTL_ACME_DNS_CLEANUP_SCRIPT"})
		case !known:
			bad = append(bad, fault.Field{Name: "config." + setting, Reason: "is no setting of an ACME issuer; it has " + strings.Join(settingNames, ", ")})
		case config[setting] == nil:
		case !isText:
			bad = append(bad, fault.Field{Name: "config." + setting, Reason: "must be a string"})
		default:
			*field = strings.TrimSpace(text)
		}
	}
	return s, bad
}

// amended is a config after an update of some settings.
func amended(config, update map[string]any) (map[string]any, []fault.Field) {
	after := maps.Clone(config)
	if after == nil {
		after = map[string]any{}
	}
	var bad []fault.Field
	for _, setting := range slices.Sorted(maps.Keys(update)) {
		v := update[setting]
		switch {
		case reflect.DeepEqual(config[setting], v):
			// As it is, which is what a client sends that changes one setting of what it has read.
		case slices.Contains(lasting, setting):
			bad = append(bad, fault.Field{Name: "config." + setting, Reason: "cannot be changed: an issuer keeps its account for life, since what was issued is revoked in its name; set up another issuer"})
		case v == nil:
			delete(after, setting)
		default:
			after[setting] = v
		}
	}
	return after, bad
}
