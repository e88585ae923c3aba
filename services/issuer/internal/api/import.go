package api

import (
	"context"
	"fmt"
	"strings"

	"github.com/certctl/certctl/contracts/httpapi/issuerapi"
	"github.com/certctl/certctl/libs/x509x"
	"github.com/certctl/certctl/services/issuer/internal/bundle"
	"github.com/certctl/certctl/services/issuer/internal/issuance"
)

// ImportCertificates implements the operation of that name.
func (s *server) ImportCertificates(ctx context.Context, r issuerapi.ImportCertificatesRequestObject) (issuerapi.ImportCertificatesResponseObject, error) {
	b := r.Body
	request := issuance.ImportRequest{
		Environment: value(b.Environment), OwnerID: value(b.OwnerID), TeamID: value(b.TeamID), IssuerID: value(b.IssuerID),
		RenewalPolicyID: value(b.RenewalPolicyID), ProfileID: value(b.CertificateProfileID),
		KeepKeys: is(b.KeepKey), Exportable: is(b.Exportable), DryRun: is(b.DryRun),
	}
	if b.Tags != nil {
		request.Tags = *b.Tags
	}
	options := bundle.Options{Password: value(b.Password), Keys: request.KeepKeys}
	if b.Format != nil && *b.Format != issuerapi.CertificateImportFormatAuto {
		if !b.Format.Valid() {
			return nil, invalid("format", "must be one of auto, pem, pkcs12, jks")
		}
		options.Format = bundle.Format(*b.Format)
	}
	data, err := contentOf(b.File)
	if err != nil {
		return nil, err
	}
	content, err := bundle.Read(data, options)
	if err != nil {
		return nil, err
	}
	leaves, rest := content.Leaves()
	arrivals := make([]issuance.Arrival, 0, len(leaves)+len(rest))
	for _, l := range leaves {
		arrivals = append(arrivals, issuance.Arrival{Certificate: l.Certificate, Chain: l.Chain, Key: l.Key})
	}
	for _, c := range rest {
		arrivals = append(arrivals, issuance.Arrival{Certificate: c})
	}
	p, origin := asking(ctx)
	done, err := s.service.Import(ctx, p, origin, request, arrivals)
	if err != nil {
		return nil, err
	}
	return importResult(content, arrivals, done, &request), nil
}

func importResult(content *bundle.Content, arrivals []issuance.Arrival, done []issuance.Imported, r *issuance.ImportRequest) issuerapi.ImportCertificates200JSONResponse {
	out := issuerapi.ImportCertificates200JSONResponse{
		DryRun: r.DryRun, Format: issuerapi.CertificateImportResultFormat(content.Format), Data: make([]issuerapi.CertificateImportItem, len(done)),
	}
	used, dropped, late := 0, 0, 0
	for i := range done {
		item := importItem(&arrivals[i], &done[i])
		item.Key = issuerapi.CertificateImportItemKeyNone
		if arrivals[i].Key != nil {
			used++
			item.Key = keyOutcome(done[i].Outcome, r)
			switch {
			case item.Key != issuerapi.CertificateImportItemKeyDropped:
			case r.KeepKeys:
				late++
			default:
				dropped++
			}
		}
		switch done[i].Outcome {
		case issuance.WasImported, issuance.IsImportable:
			out.Imported++
		case issuance.IsThere:
			out.Existing++
		case issuance.IsRefused:
			out.Refused++
		}
		out.Data[i] = item
	}
	out.Notice = text(keyNotice(dropped, late, len(content.Keys)-used, content.Unread))
	return out
}

// keyOutcome is what becomes of a key that the file has.
func keyOutcome(o issuance.Outcome, r *issuance.ImportRequest) issuerapi.CertificateImportItemKey {
	taken := o == issuance.WasImported || o == issuance.IsImportable
	switch {
	case taken && r.KeepKeys && r.Exportable:
		return issuerapi.CertificateImportItemKeyExportable
	case taken && r.KeepKeys:
		return issuerapi.CertificateImportItemKeyKept
	default:
		return issuerapi.CertificateImportItemKeyDropped
	}
}

// keyNotice says which private keys of a file were not kept; empty if it had none but those.
func keyNotice(dropped, late, strays, unread int) string {
	var parts []string
	for _, part := range []struct {
		n    int
		what string
	}{
		{dropped, "dropped: keep_key keeps those of certificates that are imported"},
		{late, "dropped: a key is kept when its certificate is imported, not if that is managed already or refused"},
		{max(strays, 0), "dropped: no certificate in the file has such a key"},
		{unread, "not read"},
	} {
		if part.n > 0 {
			keys := "private keys were"
			if part.n == 1 {
				keys = "private key was"
			}
			parts = append(parts, fmt.Sprintf("%d %s %s", part.n, keys, part.what))
		}
	}
	return strings.Join(parts, "; ")
}

func importItem(a *issuance.Arrival, done *issuance.Imported) issuerapi.CertificateImportItem {
	cert := a.Certificate
	commonName, names := issuance.ArrivalNames(cert)
	item := issuerapi.CertificateImportItem{
		Status: issuerapi.CertificateImportItemStatus(done.Outcome), Reason: text(done.Reason), CertificateID: text(done.Certificate.ID),
		Subject: issuance.NameOf(cert.Subject.String()), CommonName: text(issuance.NameOf(commonName)), Sans: sansOf(names),
		IssuerName: issuance.NameOf(cert.Issuer.String()), SerialNumber: x509x.SerialHex(cert.SerialNumber),
		FingerprintSha256: x509x.Fingerprint(cert.Raw), NotBefore: cert.NotBefore.UTC(), NotAfter: cert.NotAfter.UTC(),
		ChainLength: len(a.Chain),
	}
	if done.Certificate.Status != "" {
		status := issuerapi.CertificateStatus(done.Certificate.Status)
		item.CertificateStatus = &status
	}
	return item
}

// maxShown bounds the names that an answer repeats of a certificate, which may have thousands.
const maxShown = 100

func sansOf(names x509x.Names) []string {
	all := names.Values()
	if len(all) > maxShown {
		all = all[:maxShown]
	}
	for i := range all {
		all[i] = issuance.NameOf(all[i])
	}
	return all
}

// is reads a switch that is off if it is left out.
func is(b *bool) bool { return b != nil && *b }
