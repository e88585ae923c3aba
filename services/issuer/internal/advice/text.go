package advice

import (
	"net/url"
	"strings"
	"unicode"
)

// link is a CA's address if it is one that people may be sent to, else nothing.
func link(address string) string {
	u, err := url.Parse(address)
	if err != nil || len(address) > maxText || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.User != nil {
		return ""
	}
	return u.String()
}

// cut makes a text fit to be stored and shown.
func cut(s string) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
	if len(s) > maxText {
		s = strings.ToValidUTF8(s[:maxText], "")
	}
	return s
}
