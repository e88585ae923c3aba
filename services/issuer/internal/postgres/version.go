package postgres

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/certctl/certctl/services/issuer/internal/issuance"
	"github.com/certctl/certctl/services/issuer/internal/lint"
)

// versionNames are the columns of versions in the input of a statement, in the order of versionParameters and
// versionArgs. Where there is no version, version_id is empty.
const versionNames = `version_id, version_issuer, serial_number, fingerprint_sha256, spki_sha256, not_before, not_after,
		pem_chain, key_algorithm, key_size, lint_findings, ca_key_id`

var versionTypes = [...]string{
	"text", "text", "text", "text", "text", "timestamptz", "timestamptz", "text", "text", "int",
	"jsonb", "text",
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
		column(rows, func(r *row) *string { return encodeFindings((*r).Findings) }),
		text(func(v row) string { return v.CAKeyID }),
	}
}

// insertVersions is a WITH part that stores the versions in the input i of a statement, which from joins to the certificates
// that it changes.
func insertVersions(certificateID, from string) string {
	return `INSERT INTO certificate_versions (id, certificate_id, job_id, issuer_id, serial_number, fingerprint_sha256, spki_sha256,
		not_before, not_after, pem_chain, csr_pem, key_algorithm, key_size, lint_findings, ca_key_id, created_at, authority_key_id)
	SELECT i.version_id, ` + certificateID + `, i.job_id, i.version_issuer, i.serial_number, i.fingerprint_sha256, i.spki_sha256,
		i.not_before, i.not_after, i.pem_chain, i.csr_pem, i.key_algorithm, i.key_size, i.lint_findings, i.ca_key_id, i.at, i.authority_key_id
	FROM ` + from + `
	WHERE i.version_id <> ''`
}

// encodeFindings is NULL for none, which is what there mostly are.
func encodeFindings(findings []lint.Finding) *string {
	if len(findings) == 0 {
		return nil
	}
	// It is made of strings, and cannot fail.
	b, _ := json.Marshal(findings)
	text := string(b)
	return &text
}

// versionColumns are those of a version v. One that was imported has neither job nor issuer.
const versionColumns = `v.id, v.certificate_id, COALESCE(v.job_id, ''), COALESCE(v.issuer_id, ''), v.serial_number, v.fingerprint_sha256,
	v.spki_sha256, v.not_before, v.not_after, v.pem_chain, v.csr_pem, v.key_algorithm, v.key_size, v.created_at, v.imported, v.issuer_name,
	` + keyState + `, v.lint_findings`

// scanVersion reads versionColumns, and more behind them.
func scanVersion(row pgx.Row, more ...any) (issuance.Version, error) {
	var v issuance.Version
	var findings []byte
	err := row.Scan(append([]any{
		&v.ID, &v.CertificateID, &v.JobID, &v.IssuerID, &v.SerialNumber, &v.Fingerprint, &v.SPKI,
		&v.NotBefore, &v.NotAfter, &v.PEMChain, &v.CSRPEM, &v.KeyAlgorithm, &v.KeySize, &v.CreatedAt,
		&v.Imported, &v.IssuerName, &v.KeyState, &findings,
	}, more...)...)
	if err != nil || findings == nil {
		return v, err
	}
	if err := json.Unmarshal(findings, &v.Findings); err != nil {
		return v, fmt.Errorf("findings about version %s: %w", v.ID, err)
	}
	return v, nil
}

func collectVersion(row pgx.CollectableRow) (issuance.Version, error) { return scanVersion(row) }
