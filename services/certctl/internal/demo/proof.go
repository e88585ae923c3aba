package demo

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/crypto/ocsp"

	"github.com/certctl/certctl/libs/x509x"
)

// issuerID is the issuer that a fresh installation has.
const issuerID = "iss-local"

// served returns the chain that NGINX serves, in PEM.
func (n *nginx) served(ctx context.Context) ([]byte, error) {
	certs, err := n.chain(ctx, insecure())
	if err != nil {
		return nil, err
	}
	return x509x.EncodeCertificates(certs...), nil
}

// keyStayed looks for the private key in everything that the control plane stores. The
// search knows the key in the forms in which it could lie there: the number itself, and
// each line of its PEM.
func (s *story) keyStayed(context.Context) (string, error) {
	text, err := os.ReadFile(s.nginx.key)
	if err != nil {
		return "", err
	}
	info, err := os.Stat(s.nginx.key)
	if err != nil {
		return "", err
	}
	if mode := info.Mode().Perm(); mode != 0o600 {
		return "", fmt.Errorf("the key's mode is %o", mode)
	}
	needles, err := forms(text)
	if err != nil {
		return "", err
	}
	files, size, err := search(s.DataDir, needles)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("its mode is 0600; %d files (%d MiB) of Postgres and NATS were searched for it in vain", files, size>>20), nil
}

func forms(text []byte) ([][]byte, error) {
	key, err := x509x.ParsePrivateKey(text)
	if err != nil {
		return nil, err
	}
	var needles [][]byte
	if k, ok := key.(*ecdsa.PrivateKey); ok {
		number, err := k.Bytes()
		if err != nil {
			return nil, err
		}
		needles = append(needles, number)
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, errors.New("the key is no PEM")
	}
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimSpace(line); len(line) >= 40 && !strings.HasPrefix(line, "-----") {
			needles = append(needles, []byte(line))
		}
	}
	return needles, nil
}

func search(dir string, needles [][]byte) (files int, size int64, err error) {
	err = filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // the servers are at work and remove files
		}
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		content, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		files, size = files+1, size+int64(len(content))
		for _, needle := range needles {
			if bytes.Contains(content, needle) {
				return fmt.Errorf("the private key lies in %s", path)
			}
		}
		return nil
	})
	return files, size, err
}

// status asks as a relying party does, without a key.
func (s *story) status(ctx context.Context) (string, error) {
	chain, err := s.trust(ctx)
	if err != nil {
		return "", err
	}
	cas, err := x509x.ParseCertificates(chain)
	if err != nil {
		return "", err
	}
	ca := cas[0]
	leaf, err := s.nginx.leaf(ctx)
	if err != nil {
		return "", err
	}
	request, err := ocsp.CreateRequest(leaf, ca, &ocsp.RequestOptions{Hash: crypto.SHA1})
	if err != nil {
		return "", err
	}
	var answer *ocsp.Response
	// The serial number becomes known by an event, a moment after it was issued.
	err = within(ctx, patience, func(ctx context.Context) error {
		der, err := raw(s.api.PostOCSPWithBody(ctx, issuerID, "application/ocsp-request", bytes.NewReader(request)))
		if err != nil {
			return err
		}
		if answer, err = ocsp.ParseResponseForCert(der, leaf, ca); err != nil {
			return err
		}
		if answer.Status != ocsp.Good {
			return fmt.Errorf("OCSP says %d", answer.Status)
		}
		return nil
	})
	if err != nil {
		return "", err
	}
	der, err := raw(s.api.GetCRL(ctx, issuerID))
	if err != nil {
		return "", err
	}
	list, err := x509.ParseRevocationList(der)
	if err != nil {
		return "", err
	}
	if err := list.CheckSignatureFrom(ca); err != nil {
		return "", err
	}
	return fmt.Sprintf("OCSP says good; CRL number %d, signed by the CA, is good until %s",
		list.Number, list.NextUpdate.Format("2006-01-02 15:04 MST")), nil
}
