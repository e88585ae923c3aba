package fleet_test

import (
	"maps"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/certctl/certctl/contracts/command"
	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/services/deployment/internal/fleet"
)

func TestToken_IsReadAsItWasWritten(t *testing.T) {
	want := command.EnrolmentToken{ID: "et-1", SiteID: "site-local", Secret: fleet.NewSecret(), JWT: "a.b.c"}
	text, err := fleet.EncodeToken(want)
	if err != nil {
		t.Fatal(err)
	}
	got, err := fleet.DecodeToken("  " + text + "\n")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	for _, bad := range []string{"", "cet_", text[:len(text)-9], "cck_" + text[4:], "cet_e30", "cet_!!"} {
		if _, err := fleet.DecodeToken(bad); fault.CodeOf(err) != fault.Invalid {
			t.Errorf("%q: got %v, want a refusal", bad, err)
		}
	}
}

func FuzzDecodeToken(f *testing.F) {
	f.Add("cet_e30")
	f.Fuzz(func(t *testing.T, text string) {
		token, err := fleet.DecodeToken(text)
		if err == nil && (token.ID == "" || token.SiteID == "" || token.Secret == "") {
			t.Errorf("accepted %+v", token)
		}
	})
}

func TestTarget_TypesAreCanonicalAndOnlyInstallableOnesAreTaken(t *testing.T) {
	for given, want := range map[string]string{
		"NGINX": "", "nginx": "", " Nginx ": "",
		"apache":  "this build installs on NGINX only, not yet on Apache",
		"HAProxy": "this build installs on NGINX only, not yet on HAProxy",
		"f5":      "this build installs on NGINX only, not yet on F5",
		"IIS":     "this build installs on NGINX only, not yet on IIS",
		"tomcat":  "must be one of NGINX, Apache, HAProxy, F5, IIS",
		"":        "must be one of NGINX, Apache, HAProxy, F5, IIS",
	} {
		target := fleet.Target{Name: "web", Type: given, Config: map[string]any{"cert_path": "/c.pem", "key_path": "/k.pem"}}
		err := fleet.CheckTarget(&target)
		switch {
		case want == "" && (err != nil || target.Type != "NGINX"):
			t.Errorf("%q: %v, %q", given, err, target.Type)
		case want != "" && (fault.CodeOf(err) != fault.Invalid || !strings.Contains(err.Error(), want)):
			t.Errorf("%q: got %v, want %q", given, err, want)
		}
	}
}

func TestTarget_ConfigOfNGINXIsChecked(t *testing.T) {
	good := map[string]any{
		"cert_path": "/etc/nginx/tls/www.crt", "key_path": "/etc/nginx/tls/www.key", "chain_path": "/etc/nginx/tls/chain.crt",
		"verify_address": "127.0.0.1:8443", "reload_command": "systemctl reload nginx", "server_name": "www.example.org", "unheard_of": 7.0,
	}
	for field, change := range map[string]map[string]any{
		"":                      {},
		"config.cert_path":      {"cert_path": nil},
		"config.key_path":       {"key_path": "/etc/nginx/tls/www.crt"},
		"config.chain_path":     {"chain_path": "../chain.crt"},
		"config.verify_address": {"verify_address": "localhost"},
		"config.reload_command": {"reload_command": []any{"nginx", "-s", "reload"}},
		"config":                {"unheard_of": "\x00"},
	} {
		config := maps.Clone(good)
		maps.Copy(config, change)
		err := fleet.CheckTarget(&fleet.Target{Name: "web", Type: "NGINX", Config: config})
		if field == "" {
			if err != nil {
				t.Error(err)
			}
			continue
		}
		f := fault.From(err)
		if f == nil || f.Code != fault.Invalid || f.Fields[0].Name != field {
			t.Errorf("%s: got %v", field, err)
		}
	}
}

func TestName_MustBePlainText(t *testing.T) {
	for _, bad := range []string{"", "  ", " web", "web\n", "we\x00b", strings.Repeat("x", 256)} {
		if fleet.CheckName(bad) == nil {
			t.Errorf("accepted %q", bad)
		}
	}
	for _, good := range []string{"web-1", "Büro Süd", strings.Repeat("x", 255)} {
		if err := fleet.CheckName(good); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
}

func TestHeartbeat_WhateverAHostSaysCanBeStored(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := fleet.Clean(command.Heartbeat{
			Hostname: string(rapid.SliceOf(rapid.Byte()).Draw(t, "hostname")),
			OS:       rapid.String().Draw(t, "os"),
		})
		for _, s := range []string{h.Hostname, h.OS} {
			if !utf8.ValidString(s) || strings.ContainsRune(s, 0) || len(s) > 255 {
				t.Fatalf("%q cannot be stored", s)
			}
		}
	})
}
