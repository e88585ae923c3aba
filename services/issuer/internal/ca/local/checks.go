package local

import (
	"fmt"
	"math"
	"net"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/x509x"
)

const (
	// maxPathLen is more CAs below each other than anybody verifies.
	maxPathLen = 8
	// maxConstraints bounds each kind: every leaf's chain carries them.
	maxConstraints = 64
)

// checks gathers the settings at fault.
type checks []fault.Field

func (c *checks) object(setting, reason string) {
	*c = append(*c, fault.Field{Name: "config." + setting, Reason: reason})
}

func (c *checks) err() error {
	if len(*c) == 0 {
		return nil
	}
	return fault.InvalidFields(*c...)
}

func (c *checks) text(setting string, v any) string {
	s, ok := v.(string)
	if !ok {
		c.object(setting, "must be a string")
	}
	return s
}

func (c *checks) days(setting string, v any) int {
	n, ok := v.(float64)
	if !ok || n != math.Trunc(n) || n < 1 || n > maxDays {
		c.object(setting, fmt.Sprintf("must be a whole number of days from 1 to %d", maxDays))
		return 0
	}
	return int(n)
}

func (c *checks) unknown(setting string) {
	switch setting {
	case settingFile, "ca_key_path":
		c.object(setting, "files are read for the default issuer only, from CERTCTL_CA_CERT_PATH and CERTCTL_CA_KEY_PATH; give "+
			settingCert+" and "+settingKey+" instead")
	default:
		c.object(setting, "is no setting of a GenericCA; it has "+strings.Join(
			[]string{
				settingName, settingCADays, settingDays, settingAlgorithm, settingParent, settingMode, settingPathLen,
				settingPermitDNS, settingExcludDNS, settingPermitIP, settingExcludIP, settingCert, settingKey, settingPassword,
				settingStore, settingLabel,
			}, ", "))
	}
}

func checkName(c *checks, setting, name string) {
	switch {
	case name == "" || utf8.RuneCountInString(name) > maxCommonName:
		c.object(setting, fmt.Sprintf("must have 1 to %d characters", maxCommonName))
	case !utf8.ValidString(name) || strings.ContainsFunc(name, unicode.IsControl):
		c.object(setting, "holds control characters")
	}
}

func (c *checks) pathLen(v any) *int {
	n, ok := v.(float64)
	if !ok || n != math.Trunc(n) || n < 0 || n > maxPathLen {
		c.object(settingPathLen, fmt.Sprintf("must be a whole number from 0, no CA below it, to %d", maxPathLen))
		return nil
	}
	return new(int(n))
}

// strings reads a list, or one alone.
func (c *checks) strings(setting string, v any) []string {
	if s, ok := v.(string); ok {
		return []string{s}
	}
	list, ok := v.([]any)
	if !ok || len(list) > maxConstraints {
		c.object(setting, fmt.Sprintf("must be a list of at most %d strings", maxConstraints))
		return nil
	}
	out := make([]string, len(list))
	for i, item := range list {
		out[i] = c.text(setting, item)
	}
	return out
}

// domains reads DNS domains. With a leading dot one means only what is below it.
func (c *checks) domains(setting string, v any) []string {
	list := c.strings(setting, v)
	for i, domain := range list {
		domain = strings.ToLower(strings.TrimSpace(domain))
		names, err := x509x.ParseNames(trimDot(domain), nil)
		if err != nil || len(names) != 1 || names[0].Kind != x509x.DNS || strings.HasPrefix(names[0].Value, "*.") {
			c.object(setting, fmt.Sprintf("%q is no domain such as example.com, or .example.com for only what is below it", domain))
			continue
		}
		list[i] = names[0].Value
		if strings.HasPrefix(domain, ".") {
			list[i] = "." + names[0].Value
		}
	}
	return list
}

// ranges reads ranges of addresses, or single ones.
func (c *checks) ranges(setting string, v any) []*net.IPNet {
	var out []*net.IPNet
	for _, s := range c.strings(setting, v) {
		s = strings.TrimSpace(s)
		if ip := net.ParseIP(s); ip != nil {
			s += map[bool]string{true: "/32", false: "/128"}[ip.To4() != nil]
		}
		_, network, err := net.ParseCIDR(s)
		if err != nil {
			c.object(setting, fmt.Sprintf("%q is no range such as 10.0.0.0/8 or 2001:db8::/32", s))
			continue
		}
		out = append(out, network)
	}
	return out
}
