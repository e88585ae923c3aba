// Package issuance holds the rules of how a certificate comes to be and is renewed: what may be asked for, the states
// of certificates and of the jobs that work for them, whether a signing request fits its record, and what is to be done
// next about a job.
//
// Decisions are functions of values. The use cases (create.go, renew.go, submit.go, archive.go, cancel.go, work.go,
// receive.go) fetch those values, decide, sign where a signature is due, and hand what is to be written, with the facts
// to be told, to the store in one piece: a change and its events commit together or not at all. A change of a job names
// the token it has seen, so of several who act on one job at once exactly one prevails.
//
// Nothing here knows SQL, subjects or HTTP.
package issuance

import (
	"slices"
	"time"

	"github.com/certctl/certctl/services/issuer/internal/lint"
)

// Prefixes of the ids that are made here.
const (
	certificatePrefix = "mc-"
	versionPrefix     = "cv-"
	jobPrefix         = "job-i-"
)

// CertificateStatus is the state of a certificate.
type CertificateStatus string

// The states of a certificate.
const (
	// Pending has no version yet, or its first is not yet served by its targets.
	Pending CertificateStatus = "Pending"
	// Active is valid and, if it has targets, served by all of them.
	Active CertificateStatus = "Active"
	// Expiring is Active and within its policy's threshold of expiry.
	Expiring CertificateStatus = "Expiring"
	// Expired is past the end of its newest version.
	Expired CertificateStatus = "Expired"
	// RenewalInProgress has a version, and a further one is being made or deployed.
	RenewalInProgress CertificateStatus = "RenewalInProgress"
	// Failed is where an issuance, a renewal or a deployment was given up.
	Failed CertificateStatus = "Failed"
	// Revoked is not to be trusted any more, and never renewed.
	Revoked CertificateStatus = "Revoked"
	// Archived is no longer managed, for good.
	Archived CertificateStatus = "Archived"
)

// CertificateStatuses lists every state.
var CertificateStatuses = []CertificateStatus{
	Pending, Active, Expiring, Expired, RenewalInProgress, Failed, Revoked, Archived,
}

// certificateMoves lists where a certificate may go from each state; docs/lifecycle.md shows it as a table.
var certificateMoves = map[CertificateStatus][]CertificateStatus{
	Pending:           {Active, Failed, Archived},
	Active:            {Expiring, Expired, RenewalInProgress, Revoked, Archived},
	Expiring:          {Expired, RenewalInProgress, Revoked, Archived},
	Expired:           {RenewalInProgress, Archived},
	RenewalInProgress: {Active, Expired, Failed, Revoked, Archived},
	Failed:            {Pending, Active, Expired, RenewalInProgress, Revoked, Archived},
	Revoked:           {Archived},
	Archived:          {},
}

// CanBecome reports whether a certificate may go from s to next.
func (s CertificateStatus) CanBecome(next CertificateStatus) bool {
	return slices.Contains(certificateMoves[s], next)
}

// Before lists the states from which next may be reached, for the condition of an update.
func Before(next CertificateStatus) []string {
	var from []string
	for _, s := range CertificateStatuses {
		if s.CanBecome(next) {
			from = append(from, string(s))
		}
	}
	return from
}

// Certificate is the record of a managed certificate.
type Certificate struct {
	ID, Name, CommonName string
	// SANs holds every name, the common name first.
	SANs                      []string
	Environment               string
	OwnerID, TeamID           string
	IssuerID, RenewalPolicyID string
	// ProfileID is empty if the certificate has no profile.
	ProfileID                            string
	TargetIDs                            []string
	Tags                                 map[string]string
	Status                               CertificateStatus
	StatusReason                         string
	VersionID, SerialNumber, Fingerprint string
	// ExpiresAt is the zero time before the first version, and so are the next two before the first time.
	ExpiresAt, LastRenewalAt, LastDeploymentAt time.Time
	CreatedAt, UpdatedAt                       time.Time
	// Revision grows with every event that tells of the certificate.
	Revision int64
}

// Version is one issued certificate.
type Version struct {
	ID, CertificateID, JobID, IssuerID string
	SerialNumber, Fingerprint, SPKI    string
	NotBefore, NotAfter                time.Time
	// PEMChain holds the leaf, then its issuers, without the root.
	PEMChain, CSRPEM string
	// AuthorityKeyID is the CA's key as the leaf names it, in lower-case hex; it is known of a version that was just made, if
	// the leaf does.
	AuthorityKeyID string
	KeyAlgorithm   string
	KeySize        int
	// Imported says that it was issued elsewhere: it has no job and no issuer, and IssuerName is whom it names itself.
	Imported   bool
	IssuerName string
	// KeyState says what became of its private key, empty if that never was here.
	KeyState KeyState
	// ShortLived is known of a version that was just made; it is told, and not stored.
	ShortLived bool
	// CAKeyID is which of the issuer's keys signed it, empty for the first.
	CAKeyID string
	// EndsWithCA tells of one that was just made that it would hold longer if its CA did; it is told, and not stored.
	EndsWithCA bool
	// Findings are what linters had to say when it was issued.
	Findings  []lint.Finding
	CreatedAt time.Time
}

// KeyState is what became of a private key that lies here, or did.
type KeyState string

// The states of a stored key.
const (
	// KeyKept was imported and stays for good, KeyExportable may leave by an export besides.
	KeyKept       KeyState = "kept"
	KeyExportable KeyState = "exportable"
	// KeyWaiting was made here and waits to be fetched once; KeyGone was, or will never be.
	KeyWaiting KeyState = "waiting"
	KeyGone    KeyState = "gone"
)

// served is what a certificate is once nothing is under way for it: by whether its newest version still holds.
func served(expiresAt, now time.Time) CertificateStatus {
	if now.Before(expiresAt) {
		return Active
	}
	return Expired
}
