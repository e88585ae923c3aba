package postgres

import (
	"fmt"
	"strings"
	"time"

	"github.com/certctl/certctl/services/issuer/internal/issuance"
)

// versionNames are the columns of versions in the input of a statement, in the order of versionParameters and
// versionArgs. Where there is no version, version_id is empty.
const versionNames = `version_id, version_issuer, serial_number, fingerprint_sha256, spki_sha256, not_before, not_after,
		pem_chain, key_algorithm, key_size`

var versionTypes = [...]string{
	"text", "text", "text", "text", "text", "timestamptz", "timestamptz", "text", "text", "int",
}

// versionParameters are the arguments of unnest for versions, from parameter number first.
func versionParameters(first int) string {
	parameters := make([]string, len(versionTypes))
	for i, of := range versionTypes {
		parameters[i] = fmt.Sprintf("$%d::%s[]", first+i, of)
	}
	return strings.Join(parameters, ", ")
}

// versionArgs are versions as columns; nil is none.
func versionArgs(versions []*issuance.Version) []any {
	var none issuance.Version
	rows := make([]*issuance.Version, len(versions))
	for i, v := range versions {
		rows[i] = v
		if v == nil {
			rows[i] = &none
		}
	}
	type row = *issuance.Version
	text := func(field func(row) string) []string {
		return column(rows, func(r *row) string { return field(*r) })
	}
	moment := func(field func(row) time.Time) []*time.Time {
		return column(rows, func(r *row) *time.Time { return orNull(field(*r)) })
	}
	return []any{
		text(func(v row) string { return v.ID }),
		text(func(v row) string { return v.IssuerID }),
		text(func(v row) string { return v.SerialNumber }),
		text(func(v row) string { return v.Fingerprint }),
		text(func(v row) string { return v.SPKI }),
		moment(func(v row) time.Time { return v.NotBefore }),
		moment(func(v row) time.Time { return v.NotAfter }),
		text(func(v row) string { return v.PEMChain }),
		text(func(v row) string { return v.KeyAlgorithm }),
		column(rows, func(r *row) int { return (*r).KeySize }),
	}
}

// keyIDs are the keys that issued versions, apart from the other columns; nil is none.
func keyIDs(versions []*issuance.Version) []string {
	return column(versions, func(v **issuance.Version) string {
		if *v == nil {
			return ""
		}
		return (*v).CAKeyID
	})
}
