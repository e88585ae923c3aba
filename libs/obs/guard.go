package obs

import (
	"log/slog"
	"regexp"
	"strings"
)

const redacted = "[redacted]"

// The last words of keys whose values are secret, with or without a separator before them.
var secretWords = [...]string{
	"password", "passwd", "secret", "token", "authorization", "cookie", "seed", "creds", "credentials",
	"api_key", "apikey", "private_key", "privatekey", "signing_key", "sealing_key",
}

var (
	// An API key, a NATS seed, a JWT, a private key in PEM.
	secretValue = regexp.MustCompile(`cck_[A-Za-z0-9_-]{20,}|\bS[ACNOUX][A-Z2-7]{56}\b|\beyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+|-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*`)
	urlPassword = regexp.MustCompile(`(://[^:/@\s]*):[^/@\s]+@`)
)

func secretKey(key string) bool {
	for _, w := range secretWords {
		n := len(key) - len(w)
		if n < 0 || !strings.EqualFold(key[n:], w) {
			continue
		}
		if n == 0 || strings.IndexByte("_-.", key[n-1]) >= 0 {
			return true
		}
	}
	return false
}

// guard is the logger's ReplaceAttr: it redacts what must not be in a log.
func guard(_ []string, a slog.Attr) slog.Attr {
	if secretKey(a.Key) {
		return slog.String(a.Key, redacted)
	}
	switch v := a.Value; v.Kind() {
	case slog.KindString:
		a.Value = slog.StringValue(Redact(v.String()))
	case slog.KindAny:
		if err, ok := v.Any().(error); ok {
			a.Value = slog.StringValue(Redact(err.Error()))
		}
	}
	return a
}

// Redact replaces what looks like a secret within s: API keys, NATS seeds, JWTs, private keys, passwords in URLs.
func Redact(s string) string {
	// Most values are short ids and numbers; the checks here keep the patterns off them.
	if len(s) < 8 || !mayHoldSecret(s) {
		return s
	}
	s = secretValue.ReplaceAllString(s, redacted)
	return urlPassword.ReplaceAllString(s, "$1:"+redacted+"@")
}

func mayHoldSecret(s string) bool {
	return len(s) >= 58 || strings.Contains(s, "cck_") || strings.Contains(s, "eyJ") || strings.Contains(s, "://") ||
		strings.Contains(s, "-----BEGIN")
}
