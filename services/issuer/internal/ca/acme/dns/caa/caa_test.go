package caa_test

import (
	"strings"
	"testing"

	"github.com/certctl/certctl/services/issuer/internal/ca/acme/dns/caa"
)

func TestObjection_FollowsRFC8659AndRFC8657(t *testing.T) {
	const account = "https://ca.example.net/acct/1"
	ask := caa.Ask{Identities: []string{"ca.example.net", "other-name.example.net"}, Account: account, Method: "dns-01"}
	is := func(tag, value string) caa.Record { return caa.Record{Tag: tag, Value: value} }
	for name, c := range map[string]struct {
		records  []caa.Record
		wildcard bool
		says     string // empty if it is allowed
	}{
		"no records":                              {nil, false, ""},
		"this CA":                                 {[]caa.Record{is("issue", "ca.example.net")}, false, ""},
		"this CA by its other name, in capitals":  {[]caa.Record{is("ISSUE", "Other-Name.example.NET")}, false, ""},
		"another CA":                              {[]caa.Record{is("issue", "digicert.com")}, false, "allows another CA"},
		"another and this":                        {[]caa.Record{is("issue", "digicert.com"), is("issue", " ca.example.net ; ")}, false, ""},
		"nobody":                                  {[]caa.Record{is("issue", ";")}, false, "allows nobody"},
		"only a place for reports":                {[]caa.Record{is("iodef", "mailto:a@example.com")}, false, ""},
		"wildcards of this CA only":               {[]caa.Record{is("issue", "digicert.com"), is("issuewild", "ca.example.net")}, true, ""},
		"wildcards of another only":               {[]caa.Record{is("issue", "ca.example.net"), is("issuewild", "digicert.com")}, true, "allows another CA"},
		"wildcards by what is said of all":        {[]caa.Record{is("issue", "digicert.com")}, true, "allows another CA"},
		"wildcards say nothing of other names":    {[]caa.Record{is("issuewild", ";")}, false, ""},
		"critical and unknown":                    {[]caa.Record{is("issue", "ca.example.net"), {Flag: 128, Tag: "future", Value: "x"}}, false, "critical"},
		"unknown":                                 {[]caa.Record{is("future", "x")}, false, ""},
		"critical and known":                      {[]caa.Record{{Flag: 128, Tag: "issue", Value: "ca.example.net"}, {Flag: 128, Tag: "iodef", Value: "x"}}, false, ""},
		"this account":                            {[]caa.Record{is("issue", "ca.example.net; accounturi="+account)}, false, ""},
		"another account":                         {[]caa.Record{is("issue", "ca.example.net; accounturi=https://ca.example.net/acct/2")}, false, "another account"},
		"two accounts at once":                    {[]caa.Record{is("issue", "ca.example.net; accounturi="+account+"; accounturi="+account)}, false, "another account"},
		"this way of proof":                       {[]caa.Record{is("issue", "ca.example.net; validationmethods=http-01, dns-01")}, false, ""},
		"another way of proof":                    {[]caa.Record{is("issue", "ca.example.net;validationmethods=http-01")}, false, "by dns-01"},
		"parameters of the CA's own":              {[]caa.Record{is("issue", "ca.example.net; policy=ev")}, false, ""},
		"what cannot be read":                     {[]caa.Record{is("issue", "ca.example.net; what")}, false, "cannot be read"},
		"another account, and anyone by this way": {[]caa.Record{is("issue", "ca.example.net; accounturi=x"), is("issue", "ca.example.net; validationmethods=dns-01")}, false, ""},
	} {
		ask.Wildcard = c.wildcard
		if got := caa.Objection(c.records, ask); (got == "") != (c.says == "") || !strings.Contains(got, c.says) {
			t.Errorf("%s: %q, want %q", name, got, c.says)
		}
	}
}

func FuzzObjection(f *testing.F) {
	for _, v := range []string{"ca.example.net", ";", "ca.example.net; accounturi=x; validationmethods=dns-01", "= ; =", "ca.example.net;=;a="} {
		f.Add(uint8(0), "issue", v)
	}
	f.Fuzz(func(t *testing.T, flag uint8, tag, value string) {
		ask := caa.Ask{Identities: []string{"ca.example.net"}, Account: "a", Method: "dns-01"}
		records := []caa.Record{{Flag: flag, Tag: tag, Value: value}}
		if strings.EqualFold(tag, "issue") && !strings.Contains(strings.ToLower(value), "ca.example.net") && caa.Objection(records, ask) == "" {
			t.Errorf("%q allows it", value)
		}
		// What is allowed beside it is allowed.
		records = append(records, caa.Record{Tag: "issue", Value: "ca.example.net"})
		if flag&128 == 0 && caa.Objection(records, ask) != "" {
			t.Errorf("%q and %q forbid it", tag, value)
		}
	})
}
