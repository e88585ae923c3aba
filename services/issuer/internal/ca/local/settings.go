package local

import (
	"fmt"
	"maps"
	"math"
	"reflect"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/certctl/certctl/libs/fault"
)

// The settings of a Local CA, by their names in an issuer's config.
const (
	// settingName is the common name of a CA that signs itself; the older API calls it ca_common_name.
	settingName    = "common_name"
	settingOldName = "ca_common_name"
	// settingCADays is how long such a CA is valid, settingDays how long what it issues is, both in days.
	settingCADays = "ca_validity_days"
	settingDays   = "validity_days"
	// settingCert and settingKey are a CA that is handed over. They are given once and never shown.
	settingCert = "ca_cert_pem"
	settingKey  = "ca_key_pem"
	// settingStore is where the CA's key is, settingLabel by which name it is found in a token. settingAlgorithm is of
	// what kind one is that is made there.
	settingStore     = "key_store"
	settingLabel     = "key_label"
	settingAlgorithm = "key_algorithm"
	// settingMode and settingFile are ours to say; they are taken back if they say what is true.
	settingMode = "mode"
	settingFile = "ca_cert_path"
)

const (
	modeRoot = "self-signed"
	modeSub  = "sub-ca"
	// maxDays is a century: what is meant to be longer is a slip of the hand.
	maxDays = 36500
)

// settings are the settings of a new CA.
type settings struct {
	name         string
	caDays, days int // zero if not given
	cert, key    string
	mode         string
	// handedOver tells that a certificate or a key is given, described that a name or a validity of one to be made is.
	handedOver, described bool
	tokenSettings
}

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
			[]string{settingName, settingCADays, settingDays, settingCert, settingKey, settingStore, settingLabel, settingAlgorithm}, ", "))
	}
}

// readSettings reads the settings of a new CA. A null is a setting that is not given.
func readSettings(config map[string]any) (settings, error) {
	var s settings
	var c checks
	for _, setting := range slices.Sorted(maps.Keys(config)) {
		v := config[setting]
		if v == nil {
			continue
		}
		switch setting {
		case settingName, settingOldName:
			s.name = strings.TrimSpace(c.text(setting, v))
			s.described = true
			checkName(&c, setting, s.name)
		case settingCADays:
			s.caDays = c.days(setting, v)
			s.described = true
		case settingDays:
			s.days = c.days(setting, v)
		case settingCert:
			s.cert, s.handedOver = c.text(setting, v), true
		case settingKey:
			s.key, s.handedOver = c.text(setting, v), true
		case settingMode:
			s.mode = c.text(setting, v)
		case settingStore, settingLabel, settingAlgorithm:
			s.readToken(&c, setting, v)
		default:
			c.unknown(setting)
		}
	}
	s.checkToken(&c)
	if s.handedOver {
		checkHandedOver(&c, &s)
	}
	if s.mode != "" && (s.mode == modeSub) != s.handedOver {
		c.object(settingMode, "is "+modeSub+" for a CA that is given with "+settingCert+" and "+settingKey+", else "+modeRoot)
	}
	return s, c.err()
}

func checkName(c *checks, setting, name string) {
	switch {
	case name == "" || utf8.RuneCountInString(name) > maxCommonName:
		c.object(setting, fmt.Sprintf("must have 1 to %d characters", maxCommonName))
	case !utf8.ValidString(name) || strings.ContainsFunc(name, unicode.IsControl):
		c.object(setting, "holds control characters")
	}
}

func checkHandedOver(c *checks, s *settings) {
	if s.cert == "" {
		c.object(settingCert, "is needed with "+settingKey)
	}
	if s.key == "" && !s.inToken {
		c.object(settingKey, "is needed with "+settingCert)
	}
	if s.described {
		c.object(settingCert, "says itself what its name and validity are; leave out "+settingName+" and "+settingCADays)
	}
}

// amend is a CA's config after an update of some settings. What makes the CA what it is stays.
func amend(config, update map[string]any) (map[string]any, error) {
	after := maps.Clone(config)
	if after == nil {
		after = map[string]any{}
	}
	var c checks
	for _, setting := range slices.Sorted(maps.Keys(update)) {
		v := update[setting]
		switch {
		case setting == settingDays && v == nil:
			delete(after, setting)
		case setting == settingDays:
			if c.days(setting, v) > 0 {
				after[setting] = v
			}
		case reflect.DeepEqual(config[setting], v):
			// As it is, which is what a client sends that changes one setting of what it has read.
		case setting == settingName || setting == settingOldName || setting == settingCADays || setting == settingMode ||
			setting == settingCert || setting == settingKey || isTokenSetting(setting):
			c.object(setting, "cannot be changed: an issuer keeps its CA for life, since what was issued is revoked in its name; set up another issuer")
		default:
			c.unknown(setting)
		}
	}
	return after, c.err()
}
