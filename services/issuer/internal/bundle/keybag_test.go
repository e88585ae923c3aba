package bundle

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/certctl/certctl/libs/fault"
)

const hidden = "secret of the file"

// encryptedFor is PBES2 of RFC 8018, with PBKDF2 and AES-256, as OpenSSL writes it.
type encryptedFor struct {
	ID     asn1.ObjectIdentifier
	Params struct {
		KDF struct {
			ID     asn1.ObjectIdentifier
			Params struct {
				Salt       []byte
				Iterations int
				PRF        pkix.AlgorithmIdentifier
			}
		}
		Cipher struct {
			ID asn1.ObjectIdentifier
			IV []byte
		}
	}
}

func encryption(iterations int) (a encryptedFor) {
	a.ID = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 13}
	a.Params.KDF.ID = idPBKDF2
	a.Params.KDF.Params.Salt = []byte("salt of the file")
	a.Params.KDF.Params.Iterations = iterations
	a.Params.KDF.Params.PRF = pkix.AlgorithmIdentifier{Algorithm: idHMACSHA256, Parameters: asn1.NullRawValue}
	a.Params.Cipher.ID = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 1, 42}
	a.Params.Cipher.IV = make([]byte, aes.BlockSize)
	return a
}

func encrypt(t *testing.T, iterations int, plain []byte) []byte {
	t.Helper()
	key, err := pbkdf2.Key(sha256.New, hidden, []byte("salt of the file"), iterations, 32)
	if err != nil {
		t.Fatal(err)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	n := aes.BlockSize - len(plain)%aes.BlockSize
	out := append(bytes.Clone(plain), bytes.Repeat([]byte{byte(n)}, n)...)
	cipher.NewCBCEncrypter(block, make([]byte, aes.BlockSize)).CryptBlocks(out, out)
	return out
}

func der(t *testing.T, v any) []byte {
	t.Helper()
	b, err := asn1.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// encrypted are contents that are encrypted as a whole.
func encrypted(t *testing.T, bags ...contentInfo) contentInfo {
	t.Helper()
	type info struct {
		Type      asn1.ObjectIdentifier
		Algorithm encryptedFor
		Content   []byte `asn1:"tag:0"`
	}
	const iterations = 1000
	sealed := info{idData, encryption(iterations), encrypt(t, iterations, der(t, bags))}
	return contentInfo{idEncryptedData, explicit(der(t, struct {
		Version int
		Info    info
	}{0, sealed}))}
}

func open(t *testing.T, bags ...contentInfo) contentInfo {
	t.Helper()
	return contentInfo{idData, explicit(der(t, der(t, bags)))}
}

// shrouded is a private key that is encrypted by itself, and claims to be so with some number of iterations.
func shrouded(t *testing.T, key *ecdsa.PrivateKey, iterations, claimed int) contentInfo {
	t.Helper()
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return contentInfo{asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 12, 10, 1, 2}, explicit(der(t, struct {
		Algorithm encryptedFor
		Data      []byte
	}{encryption(claimed), encrypt(t, iterations, pkcs8)}))}
}

func certificateBag(t *testing.T, cert []byte) contentInfo {
	t.Helper()
	return contentInfo{asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 12, 10, 1, 3}, explicit(der(t, struct {
		ID   asn1.ObjectIdentifier
		Data asn1.RawValue
	}{asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 22, 1}, explicit(der(t, cert))}))}
}

func keyAndCertificate(t *testing.T) (*ecdsa.PrivateKey, []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: "www.example.com"}, DNSNames: []string{"www.example.com"},
		NotBefore: time.Now(), NotAfter: time.Now().Add(time.Hour),
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return key, cert
}

// file is a PKCS #12 file, one that OpenSSL opens too if it is said to be whole.
func file(t *testing.T, whole bool, contents ...contentInfo) []byte {
	t.Helper()
	data, err := pfxOf(hidden, contents...)
	if err != nil {
		t.Fatal(err)
	}
	if whole {
		name := filepath.Join(t.TempDir(), "file.p12")
		if err := os.WriteFile(name, data, 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := exec.CommandContext(t.Context(), "openssl", "pkcs12", "-in", name, "-nomacver", "-nodes", "-passin", "pass:"+hidden).CombinedOutput()
		if err != nil || !bytes.Contains(out, []byte("BEGIN CERTIFICATE")) || !bytes.Contains(out, []byte("BEGIN PRIVATE KEY")) {
			t.Fatalf("%v: %s", err, out)
		}
	}
	return data
}

func TestPKCS12_IsNotOpenedForHoursByAKeyThatIsHiddenInEncryptedContents(t *testing.T) {
	key, cert := keyAndCertificate(t)
	const hours = 2_000_000_000
	for name, data := range map[string][]byte{
		"with the certificate": file(t, false, encrypted(t, certificateBag(t, cert), shrouded(t, key, 1, hours))),
		"before it":            file(t, false, encrypted(t, shrouded(t, key, 1, hours), certificateBag(t, cert))),
		"alone":                file(t, false, encrypted(t, shrouded(t, key, 1, hours)), open(t, certificateBag(t, cert))),
		"besides another key":  file(t, false, open(t, shrouded(t, key, 1000, 1000)), encrypted(t, certificateBag(t, cert), shrouded(t, key, 1, hours))),
		"behind a certificate that is none": file(t, false,
			encrypted(t, certificateBag(t, []byte("none")), shrouded(t, key, 1, hours))),
		"in contents of their own": file(t, false, open(t, certificateBag(t, cert)), encrypted(t, shrouded(t, key, 1, hours))),
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Read(data, Options{Password: hidden, Keys: true})
			if fault.CodeOf(err) != fault.Invalid || strings.Contains(err.Error(), "takes longer") || !strings.Contains(err.Error(), "openssl pkcs12") {
				t.Errorf("%v", err)
			}
			if len(slots) > 0 {
				t.Errorf("%d files are still being opened", len(slots))
			}
		})
	}
}

func TestPKCS12_SaysOfAKeyInEncryptedContentsHowToConvertIt(t *testing.T) {
	key, cert := keyAndCertificate(t)
	data := file(t, true, encrypted(t, certificateBag(t, cert), shrouded(t, key, 1000, 1000)))
	_, err := Read(data, Options{Password: hidden, Keys: true})
	if fault.CodeOf(err) != fault.Invalid || !strings.Contains(err.Error(), "encrypted as a whole") {
		t.Errorf("%v", err)
	}
	_, err = Read(data, Options{Password: "another", Keys: true})
	if f := fault.From(err); f.Code != fault.Invalid || len(f.Fields) == 0 || f.Fields[0].Name != "password" {
		t.Errorf("%v", err)
	}
}

func TestPKCS12_IsReadWithItsKeyInSight(t *testing.T) {
	key, cert := keyAndCertificate(t)
	data := file(t, true, open(t, shrouded(t, key, 1000, 1000)), encrypted(t, certificateBag(t, cert)))
	c, err := Read(data, Options{Password: hidden, Keys: true})
	if err != nil || len(c.Certificates) != 1 || len(c.Keys) != 1 {
		t.Errorf("%+v, %v", c, err)
	}
}

func TestRead_CountsWhatAllKeysOfAFileCostTogether(t *testing.T) {
	key, cert := keyAndCertificate(t)
	// Either could be afforded by itself.
	cheap, dear := shrouded(t, key, 1000, 1000), shrouded(t, key, 1, maxIterations)
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert})
	for _, bag := range []contentInfo{cheap, dear} {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: bag.Content.Bytes})...)
	}
	for name, data := range map[string][]byte{
		"PKCS#12": file(t, false, open(t, cheap, dear), encrypted(t, certificateBag(t, cert))),
		"PEM":     text,
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Read(data, Options{Password: hidden, Keys: true})
			if fault.CodeOf(err) != fault.Invalid || !strings.Contains(err.Error(), "hashed more than") {
				t.Errorf("%v", err)
			}
		})
	}
}
