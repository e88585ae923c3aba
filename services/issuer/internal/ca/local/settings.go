package local

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
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
	settingCert     = "ca_cert_pem"
	settingKey      = "ca_key_pem"
	settingPassword = "ca_key_password"
	// What a CA that is made here is to be; see Description.
	settingParent    = "parent_issuer_id"
	settingAlgorithm = "key_algorithm"
	settingPathLen   = "max_path_len"
	settingPermitDNS = "permitted_dns_domains"
	settingExcludDNS = "excluded_dns_domains"
	settingPermitIP  = "permitted_ip_ranges"
	settingExcludIP  = "excluded_ip_ranges"
	// settingStore is where the CA's key is, settingLabel by which name it is found in a token.
	settingStore = "key_store"
	settingLabel = "key_label"
	// settingMode and settingFile are ours to say; they are taken back if they say what is true.
	settingMode = "mode"
	settingFile = "ca_cert_path"
)

// made are the settings that make a CA what it is.
var made = []string{
	settingName, settingOldName, settingCADays, settingMode, settingCert, settingKey, settingPassword, settingParent, settingAlgorithm,
	settingPathLen, settingPermitDNS, settingExcludDNS, settingPermitIP, settingExcludIP, settingStore, settingLabel,
}

const (
	modeRoot = "self-signed"
	modeSub  = "sub-ca"
	// modeBelow is a CA below another issuer, modeOutside one below a root elsewhere that signs its request.
	modeBelow   = "intermediate"
	modeOutside = "external"
	// maxDays is a century: what is meant to be longer is a slip of the hand.
	maxDays = 36500
)

// settings are the settings of a new CA.
type settings struct {
	name         string
	caDays, days int // zero if not given
	cert, key    string
	password     string
	mode         string
	parent       string
	algorithm    string
	pathLen      *int
	constraints  Constraints
	// handedOver tells that a certificate or a key is given, described names a setting of one to be made that is.
	handedOver bool
	described  string
	tokenSettings
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
		case settingDays:
			s.days = c.days(setting, v)
		case settingCert:
			s.cert, s.handedOver = c.text(setting, v), true
		case settingKey:
			s.key, s.handedOver = c.text(setting, v), true
		case settingPassword:
			s.password = c.text(setting, v)
		case settingMode:
			s.mode = c.text(setting, v)
		case settingStore, settingLabel:
			s.readToken(&c, setting, v)
		default:
			if s.described = setting; !s.describe(&c, setting, v) {
				c.unknown(setting)
			}
		}
	}
	s.checkToken(&c)
	s.checkMode(&c)
	return s, c.err()
}

// describe reads a setting of a CA that is to be made, false if it is none.
func (s *settings) describe(c *checks, setting string, v any) bool {
	switch setting {
	case settingName, settingOldName:
		s.name = strings.TrimSpace(c.text(setting, v))
		checkName(c, setting, s.name)
	case settingCADays:
		s.caDays = c.days(setting, v)
	case settingParent:
		s.parent = c.text(setting, v)
	case settingAlgorithm:
		var ok bool
		if s.algorithm, ok = algorithmNamed(c.text(setting, v)); !ok {
			c.object(setting, "must be one of "+strings.Join(Algorithms, ", "))
		}
	case settingPathLen:
		s.pathLen = c.pathLen(v)
	case settingPermitDNS:
		s.constraints.PermittedDNS = c.domains(setting, v)
	case settingExcludDNS:
		s.constraints.ExcludedDNS = c.domains(setting, v)
	case settingPermitIP:
		s.constraints.PermittedIP = c.ranges(setting, v)
	case settingExcludIP:
		s.constraints.ExcludedIP = c.ranges(setting, v)
	default:
		return false
	}
	return true
}

// checkMode settles what kind of CA the settings mean, and refuses those of another kind.
func (s *settings) checkMode(c *checks) {
	mode := modeRoot
	switch {
	case s.handedOver:
		checkHandedOver(c, s)
		mode = modeSub
	case s.password != "":
		c.object(settingPassword, "is that of "+settingKey+", which is missing")
	case s.parent != "":
		mode = modeBelow
	case s.mode == modeOutside:
		mode = modeOutside
		if !s.constraints.none() || s.caDays > 0 {
			c.object(settingMode, "is "+modeOutside+": how long the CA holds and what it may issue for is said by whoever signs its request; leave out "+
				settingCADays+" and the ranges and domains")
		}
	}
	if s.mode != "" && s.mode != mode {
		c.object(settingMode, fmt.Sprintf("is %s for a CA that is given with %s and %s, %s for one with %s, %s for one whose request is signed elsewhere, else %s",
			modeSub, settingCert, settingKey, modeBelow, settingParent, modeOutside, modeRoot))
	}
	s.mode = mode
}

func checkHandedOver(c *checks, s *settings) {
	if s.cert == "" {
		c.object(settingCert, "is needed with "+settingKey)
	}
	if s.key == "" && !s.inToken {
		c.object(settingKey, "is needed with "+settingCert)
	}
	if s.described != "" {
		c.object(settingCert, "says itself what the CA is; leave out "+s.described)
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
		case slices.Contains(made, setting):
			c.object(setting, "cannot be changed: an issuer keeps its CA, since what was issued is revoked in its name; give it another key by a rollover, or set up another issuer")
		default:
			c.unknown(setting)
		}
	}
	return after, c.err()
}
