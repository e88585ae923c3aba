package issuance

import (
	"context"
	"crypto"
	"crypto/x509"
	"time"

	"github.com/certctl/certctl/contracts/event"
	"github.com/certctl/certctl/libs/authn"
	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/x509x"
)

// StoredKey is a private key that lies here, sealed, or did. It belongs to a certificate and to those versions of it that bear its
// public key.
type StoredKey struct {
	CertificateID, SPKI string
	// Sealed is nil if the key has gone.
	Sealed []byte
	// Exportable lets it leave by an export, Made says that it was made here and leaves once.
	Exportable, Made bool
	CreatedAt        time.Time
	GoneAt           time.Time
	// GoneWhy says what became of it, such as Delivered.
	GoneWhy string
}

// Delivered is why a key has gone that was handed out.
const Delivered = "delivered"

// Release is that a key is handed out.
type Release struct {
	CertificateID, SPKI string
	// Consume deletes it as it is.
	Consume bool
	// Hand is told the key and keeps a hold of it, so that nobody else is handed it at once. Its error ends the release. It may be run
	// again.
	Hand func(StoredKey) error
	Fact Fact
}

// sealing binds a sealed key to its certificate and its public key, so that it can be put in no other's place.
func (k *StoredKey) sealing() []byte {
	return []byte("certificate key\x00" + k.CertificateID + "\x00" + k.SPKI)
}

// seal returns a key as it is stored.
func (s *Service) seal(key crypto.Signer, certificateID string, now time.Time) (*StoredKey, error) {
	if s.settings.Sealer == nil {
		return nil, fault.New(fault.Unavailable, "no sealing key is configured, so private keys cannot be kept")
	}
	pub, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return nil, fault.New(fault.Internal, "the public key of %s cannot be encoded", certificateID)
	}
	plain, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		// What it says may quote the key.
		return nil, fault.New(fault.Internal, "the private key of %s cannot be encoded", certificateID)
	}
	k := &StoredKey{CertificateID: certificateID, SPKI: x509x.SPKIHash(pub), CreatedAt: now}
	if k.Sealed, err = s.settings.Sealer.Seal(plain, k.sealing()); err != nil {
		return nil, fault.Wrap(err, fault.Internal, "the private key of %s cannot be sealed", certificateID)
	}
	return k, nil
}

func (s *Service) unseal(k *StoredKey) (crypto.Signer, error) {
	broken := func(err error) error {
		return fault.Wrap(err, fault.Internal, "the stored key of certificate %s cannot be opened; was its sealing key replaced?", k.CertificateID)
	}
	if s.settings.Sealer == nil {
		return nil, fault.New(fault.Unavailable, "no sealing key is configured, so private keys cannot be opened")
	}
	plain, err := s.settings.Sealer.Unseal(k.Sealed, k.sealing())
	if err != nil {
		return nil, broken(err)
	}
	key, err := x509.ParsePKCS8PrivateKey(plain)
	if err != nil {
		return nil, broken(nil)
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, broken(nil)
	}
	return signer, nil
}

// Which is a version of a certificate; the newest if it names none.
type Which struct{ CertificateID, VersionID string }

// VersionOf returns a version of a certificate within the caller's scope, and the agent that has its key, if one has.
func (s *Service) VersionOf(ctx context.Context, p authn.Principal, which Which) (Version, string, error) {
	c, err := s.store.Certificate(ctx, p.Scope, which.CertificateID)
	if err != nil {
		return Version{}, "", err
	}
	versionID := orDefault(which.VersionID, c.VersionID)
	if versionID == "" {
		return Version{}, "", fault.New(fault.Conflict, "certificate %s has no version yet: %s", c.ID, orDefault(c.StatusReason, "it is being issued"))
	}
	return s.store.Version(ctx, c.ID, versionID)
}

// ExportKey hands out a version with its private key, if that lies here and may leave. Write makes the file; it is handed
// out only once that is told of. The error is a Conflict that says where the key is if it cannot be had here.
func (s *Service) ExportKey(
	ctx context.Context, p authn.Principal, o Origin, which Which, format string, write func(Version, crypto.Signer) ([]byte, error),
) ([]byte, error) {
	v, agentID, err := s.VersionOf(ctx, p, which)
	if err != nil {
		return nil, err
	}
	var file []byte
	err = s.store.Release(ctx, s.release(&v, o, "export", format, func(k StoredKey) error {
		if err := k.mayBeExported(&v); err != nil {
			return err
		}
		key, err := s.unseal(&k)
		if err != nil {
			return err
		}
		file, err = write(v, key)
		return err
	}))
	if fault.CodeOf(err) == fault.NotFound {
		err = whereabouts(&v, agentID)
	}
	if err != nil {
		return nil, err
	}
	return file, nil
}

// Deliver hands out, once, a private key that was made here, in PEM. The key is deleted in the transaction that tells of it, and
// nothing is handed out unless that is done. The error is a Conflict if the key was not made here, or has gone.
func (s *Service) Deliver(ctx context.Context, p authn.Principal, o Origin, which Which) (Version, []byte, error) {
	v, agentID, err := s.VersionOf(ctx, p, which)
	if err != nil {
		return Version{}, nil, err
	}
	var text []byte
	r := s.release(&v, o, "delivery", "", func(k StoredKey) error {
		switch {
		case !k.Made:
			return fault.New(fault.Conflict, "the key of version %s was not made here but imported: POST /api/v1/certificates/%s/export exports it, if it may leave", v.ID, v.CertificateID)
		case k.Sealed == nil:
			return k.gone(&v)
		}
		key, err := s.unseal(&k)
		if err != nil {
			return err
		}
		text, err = x509x.EncodePrivateKey(key)
		return err
	})
	r.Consume = true
	err = s.store.Release(ctx, r)
	if fault.CodeOf(err) == fault.NotFound {
		err = whereabouts(&v, agentID)
	}
	if err != nil {
		return Version{}, nil, err
	}
	return v, text, nil
}

func (s *Service) release(v *Version, o Origin, way, format string, hand func(StoredKey) error) Release {
	return Release{
		CertificateID: v.CertificateID, SPKI: v.SPKI, Hand: hand,
		Fact: Fact{Origin: o, At: s.clock.Now(), Event: event.CertificateKeyReleased{
			CertificateID: v.CertificateID, VersionID: v.ID, SPKISHA256: v.SPKI, Way: way, Format: format,
		}},
	}
}

func (k *StoredKey) mayBeExported(v *Version) error {
	switch {
	case k.Sealed == nil:
		return k.gone(v)
	case k.Made:
		return fault.New(fault.Conflict, "the key of version %s was made here for one delivery: POST /api/v1/certificates/%s/key hands it out", v.ID, v.CertificateID)
	case !k.Exportable:
		return fault.New(fault.Conflict, "the key of version %s was imported without exportable, so it never leaves", v.ID)
	default:
		return nil
	}
}

func (k *StoredKey) gone(v *Version) error {
	return fault.New(fault.Conflict, "the key of version %s is here no more since %s: %s; renew the certificate for another",
		v.ID, k.GoneAt.UTC().Format(time.RFC3339), k.GoneWhy)
}

// whereabouts says where the key of a version is that does not lie here.
func whereabouts(v *Version, agentID string) error {
	switch {
	case agentID != "":
		return fault.New(fault.Conflict, "the key of version %s was made on the host of agent %s and never leaves it", v.ID, agentID)
	case v.Imported:
		return fault.New(fault.Conflict, "the key of version %s was not kept when it was imported", v.ID)
	default:
		return fault.New(fault.Conflict, "the key of version %s is with whoever sent its signing request; it never was here", v.ID)
	}
}
