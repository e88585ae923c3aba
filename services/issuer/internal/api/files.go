package api

import (
	"context"
	"crypto"
	"encoding/base64"
	"fmt"
	"mime"
	"net/http"
	"strings"

	"github.com/certctl/certctl/contracts/httpapi/issuerapi"
	"github.com/certctl/certctl/libs/id"
	"github.com/certctl/certctl/libs/x509x"
	"github.com/certctl/certctl/services/issuer/internal/bundle"
	"github.com/certctl/certctl/services/issuer/internal/issuance"
)

// file is an answer that is a file.
type file struct {
	format bundle.Format
	name   string
	body   []byte
	// secret keeps it from being stored on the way.
	secret bool
}

var fileTypes = map[bundle.Format]struct{ media, extension string }{
	bundle.PEM:    {"application/x-pem-file", ".pem"},
	bundle.DER:    {"application/pkix-cert", ".cer"},
	bundle.PKCS7:  {"application/pkcs7-mime", ".p7b"},
	bundle.PKCS12: {"application/x-pkcs12", ".p12"},
	bundle.JKS:    {"application/x-java-keystore", ".jks"},
}

func (f file) write(w http.ResponseWriter) error {
	kind := fileTypes[f.format]
	h := w.Header()
	h.Set("Content-Type", kind.media)
	h.Set("Content-Disposition", mime.FormatMediaType("attachment", map[string]string{"filename": f.name + kind.extension}))
	if f.secret {
		h.Set("Cache-Control", "no-store")
	}
	w.WriteHeader(http.StatusOK)
	_, err := w.Write(f.body)
	return err
}

// VisitExportCertificateResponse implements the answer to exportCertificate.
func (f file) VisitExportCertificateResponse(w http.ResponseWriter) error { return f.write(w) }

// VisitExportCertificateWithKeyResponse implements the answer to exportCertificateWithKey.
func (f file) VisitExportCertificateWithKeyResponse(w http.ResponseWriter) error { return f.write(w) }

// ExportCertificate implements the operation of that name.
func (s *server) ExportCertificate(ctx context.Context, r issuerapi.ExportCertificateRequestObject) (issuerapi.ExportCertificateResponseObject, error) {
	which, err := versionGiven(r.ID, r.Params.VersionID)
	if err != nil {
		return nil, err
	}
	format := bundle.PEM
	if r.Params.Format != nil {
		format = bundle.Format(*r.Params.Format)
	}
	if _, known := fileTypes[format]; !known {
		return nil, invalid("format", "must be one of pem, der, pkcs7, pkcs12, jks")
	}
	p, _ := asking(ctx)
	v, _, err := s.service.VersionOf(ctx, p, which)
	if err != nil {
		return nil, err
	}
	chain, err := x509x.ParseCertificates([]byte(v.PEMChain))
	if err != nil {
		return nil, fmt.Errorf("read the chain of %s: %w", v.ID, err)
	}
	body, err := bundle.Write(format, chain, s.clock.Now())
	if err != nil {
		return nil, err
	}
	return file{format: format, name: r.ID, body: body}, nil
}

// ExportCertificateWithKey implements the operation of that name.
func (s *server) ExportCertificateWithKey(
	ctx context.Context, r issuerapi.ExportCertificateWithKeyRequestObject,
) (issuerapi.ExportCertificateWithKeyResponseObject, error) {
	which, err := versionGiven(r.ID, r.Body.VersionID)
	if err != nil {
		return nil, err
	}
	format, lock := bundle.Format(r.Body.Format), bundle.Lock{Password: r.Body.Password}
	if e := r.Body.Encryption; e != nil {
		switch *e {
		case issuerapi.Modern:
		case issuerapi.Legacy:
			lock.Legacy = true
		default:
			return nil, invalid("encryption", "must be modern or legacy")
		}
	}
	if err := lock.Check(format); err != nil {
		return nil, err
	}
	p, origin := asking(ctx)
	now := s.clock.Now()
	body, err := s.service.ExportKey(ctx, p, origin, which, string(format), func(v issuance.Version, key crypto.Signer) ([]byte, error) {
		chain, err := x509x.ParseCertificates([]byte(v.PEMChain))
		if err != nil {
			return nil, fmt.Errorf("read the chain of %s: %w", v.ID, err)
		}
		return bundle.WriteWithKey(format, chain, key, lock, now)
	})
	if err != nil {
		return nil, err
	}
	return file{format: format, name: r.ID, body: body, secret: true}, nil
}

// delivered is the answer with a key.
type delivered issuerapi.CertificateKey

// VisitDeliverCertificateKeyResponse implements the answer to deliverCertificateKey.
func (d delivered) VisitDeliverCertificateKeyResponse(w http.ResponseWriter) error {
	w.Header().Set("Cache-Control", "no-store")
	return issuerapi.DeliverCertificateKey200JSONResponse(d).VisitDeliverCertificateKeyResponse(w)
}

// DeliverCertificateKey implements the operation of that name.
func (s *server) DeliverCertificateKey(
	ctx context.Context, r issuerapi.DeliverCertificateKeyRequestObject,
) (issuerapi.DeliverCertificateKeyResponseObject, error) {
	var given *string
	if r.Body != nil {
		given = r.Body.VersionID
	}
	which, err := versionGiven(r.ID, given)
	if err != nil {
		return nil, err
	}
	p, origin := asking(ctx)
	v, key, err := s.service.Deliver(ctx, p, origin, which)
	if err != nil {
		return nil, err
	}
	return delivered{
		CertificateID: v.CertificateID, VersionID: v.ID, PrivateKeyPem: string(key), PemChain: v.PEMChain, Warning: issuance.ServerKeyWarning,
	}, nil
}

// versionGiven reads which version of which certificate is asked for; empty is the newest.
func versionGiven(certificateID string, versionID *string) (issuance.Which, error) {
	if err := known("certificate", certificateID); err != nil {
		return issuance.Which{}, err
	}
	version := value(versionID)
	if version != "" && !id.Valid(version) {
		return issuance.Which{}, invalid("version_id", "is no id")
	}
	return issuance.Which{CertificateID: certificateID, VersionID: version}, nil
}

// contentOf reads a file in base64, in lines or not.
func contentOf(text string) ([]byte, error) {
	text = strings.NewReplacer("\n", "", "\r", "", " ", "").Replace(text)
	if base64.StdEncoding.DecodedLen(len(text)) > bundle.MaxFile+2 {
		return nil, invalid("file", "is larger than 512 KiB; split it")
	}
	content, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return nil, invalid("file", "must be the file in base64")
	}
	return content, nil
}
