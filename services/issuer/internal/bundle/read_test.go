package bundle_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/binary"
	"strings"
	"testing"
	"time"

	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/services/issuer/internal/bundle"
)

func TestPEM_HasTheChainOfEachLeafPutTogether(t *testing.T) {
	root, ca, www := hierarchy(t, "www.example.com")
	api := issue(t, &ca, "api.example.com", false)
	other := issue(t, nil, "Unrelated CA", true)
	self := issue(t, nil, "self.example.com", false)
	// In no order, and one of them twice.
	c := read(t, concat(root.pem(), api.pem(), other.pem(), ca.pem(), self.pem(), www.pem(), www.keyPEM(t), api.pem()), bundle.Options{Keys: true})
	leaves, rest := c.Leaves()
	if c.Format != bundle.PEM || len(leaves) != 3 {
		t.Fatalf("%s with %d leaves", c.Format, len(leaves))
	}
	holds(t, leaves[0], "api.example.com", "Issuing CA", nil)
	holds(t, leaves[1], "self.example.com", "", nil)
	holds(t, leaves[2], "www.example.com", "Issuing CA", www.key)
	if names(rest...) != "Unrelated CA" {
		t.Errorf("left are %s", names(rest...))
	}
}

func TestPEM_IsNotReadInPartIfABlockOfItIsDamaged(t *testing.T) {
	_, ca, www := hierarchy(t, "www.example.com")
	half := www.pem()[:300] + "\n"
	for name, text := range map[string][]byte{
		"cut off at the end":     concat(ca.pem(), half),
		"cut off in the middle":  concat(half, ca.pem()),
		"garbled":                concat(ca.pem(), strings.Replace(www.pem(), "\nMI", "\n*I", 1)),
		"indented":               concat(ca.pem(), strings.ReplaceAll(www.pem(), "-----BEGIN", "  -----BEGIN")),
		"a key that is cut off":  concat(www.pem(), www.keyPEM(t)[:100]),
		"behind a mark of order": append([]byte("\ufeff"), concat(ca.pem())...),
	} {
		t.Run(name, func(t *testing.T) {
			refused(t, text, bundle.Options{}, "cut off, indented or damaged")
		})
	}
	read(t, concat(ca.pem(), "-----BEGIN of another story\n", www.pem(), "-----BEGIN X509 CRL-----\n"), bundle.Options{})
}

func TestRead_SaysThatItDoesNotReadACurve(t *testing.T) {
	dir := openssl(t, nil, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:secp256k1", "-nodes", "-keyout", "key.pem", "-subj", "/CN=k1.example.com", "-out", "k1.pem")
	refused(t, fileIn(t, dir, "k1.pem"), bundle.Options{}, "on a curve that is not read")
}

func TestPEM_DoesNotTakeACAOfTheSameNameForTheIssuer(t *testing.T) {
	_, ca, www := hierarchy(t, "www.example.com")
	impostor := issue(t, nil, "Issuing CA", true)
	leaves, rest := read(t, concat(impostor.pem(), www.pem()), bundle.Options{}).Leaves()
	holds(t, leaves[0], "www.example.com", "", nil)
	if len(rest) != 1 {
		t.Errorf("left are %s", names(rest...))
	}
	leaves, _ = read(t, concat(impostor.pem(), www.pem(), ca.pem()), bundle.Options{}).Leaves()
	holds(t, leaves[0], "www.example.com", "Issuing CA", nil)
}

func TestPEM_ReadsWhatOpenSSLWrites(t *testing.T) {
	_, ca, www := hierarchy(t, "www.example.com")
	dir := openssl(t, map[string]string{"key.pem": www.keyPEM(t), "cert.pem": www.pem()}, "ec", "-in", "key.pem", "-out", "sec1.pem")
	again(t, dir, "pkcs8", "-topk8", "-in", "key.pem", "-passout", "pass:secret", "-out", "locked.pem")
	again(t, dir, "ec", "-in", "key.pem", "-aes128", "-passout", "pass:secret", "-out", "old.pem")
	again(t, dir, "pkcs8", "-topk8", "-scrypt", "-in", "key.pem", "-passout", "pass:secret", "-out", "scrypt.pem")
	again(t, dir, "x509", "-in", "cert.pem", "-text", "-out", "text.pem")
	for _, key := range []string{"key.pem", "sec1.pem", "locked.pem"} {
		text := concat(string(fileIn(t, dir, "text.pem")), ca.pem(), string(fileIn(t, dir, key)))
		leaves, _ := read(t, text, bundle.Options{Keys: true, Password: "secret"}).Leaves()
		holds(t, leaves[0], "www.example.com", "Issuing CA", www.key)
	}
	locked := concat(www.pem(), string(fileIn(t, dir, "locked.pem")))
	refused(t, locked, bundle.Options{Keys: true}, "password: is needed")
	refused(t, locked, bundle.Options{Keys: true, Password: "wrong"}, "password: does not open")
	refused(t, concat(www.pem(), string(fileIn(t, dir, "old.pem"))), bundle.Options{Keys: true, Password: "secret"}, "old way of PEM")
	refused(t, concat(www.pem(), string(fileIn(t, dir, "scrypt.pem"))), bundle.Options{Keys: true, Password: "secret"}, "scrypt")
	// A key that nobody wants is no obstacle.
	if c := read(t, locked, bundle.Options{}); c.Unread != 1 || len(c.Keys) != 0 {
		t.Errorf("%d keys, %d not read", len(c.Keys), c.Unread)
	}
}

func TestDER_IsACertificateByItself(t *testing.T) {
	_, _, www := hierarchy(t, "www.example.com")
	c := read(t, www.cert.Raw, bundle.Options{})
	leaves, _ := c.Leaves()
	holds(t, leaves[0], "www.example.com", "", nil)
	if c.Format != bundle.DER {
		t.Errorf("taken for %s", c.Format)
	}
}

func TestPKCS12_ReadsWhatOpenSSLWrites(t *testing.T) {
	root, ca, www := hierarchy(t, "www.example.com")
	files := map[string]string{"key.pem": www.keyPEM(t), "cert.pem": www.pem(), "above.pem": ca.pem() + root.pem()}
	for name, more := range map[string][]string{
		"modern":                            nil,
		"legacy":                            {"-certpbe", "PBE-SHA1-3DES", "-keypbe", "PBE-SHA1-3DES", "-macalg", "sha1"},
		"no key encryption of certificates": {"-certpbe", "NONE"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := openssl(t, files, append([]string{"pkcs12", "-export", "-inkey", "key.pem", "-in", "cert.pem", "-certfile", "above.pem", "-name", "www", "-passout", "pass:geheim-ü", "-out", "out.p12"}, more...)...)
			c := read(t, fileIn(t, dir, "out.p12"), bundle.Options{Keys: true, Password: "geheim-ü"})
			leaves, rest := c.Leaves()
			if c.Format != bundle.PKCS12 || len(leaves) != 1 || len(rest) != 0 {
				t.Fatalf("%s: %d leaves, %d others", c.Format, len(leaves), len(rest))
			}
			holds(t, leaves[0], "www.example.com", "Issuing CA", www.key)
			refused(t, fileIn(t, dir, "out.p12"), bundle.Options{Password: "wrong"}, "password: does not open")
			refused(t, fileIn(t, dir, "out.p12"), bundle.Options{}, "password: is needed")
		})
	}
}

func TestKeytool_WritesKeyStoresThatAreRead(t *testing.T) {
	for file, format := range map[string]bundle.Format{"keytool.jks": bundle.JKS, "keytool.p12": bundle.PKCS12} {
		t.Run(file, func(t *testing.T) {
			data := fileIn(t, "testdata", file)
			c := read(t, data, bundle.Options{Keys: true, Password: "changeit"})
			leaves, rest := c.Leaves()
			if c.Format != format || len(leaves) != 2 || len(rest) != 0 || len(c.Keys) != 2 {
				t.Fatalf("%s: %d leaves, %d keys, besides %s", c.Format, len(leaves), len(c.Keys), names(rest...))
			}
			for _, l := range leaves {
				if l.Key == nil || names(l.Certificate) != "www.example.com" && names(l.Certificate) != "second.example.com" {
					t.Errorf("%s has key %v", names(l.Certificate), l.Key != nil)
				}
			}
			refused(t, data, bundle.Options{Password: "wrong!"}, "password: does not open")
			refused(t, data, bundle.Options{}, "password: is needed")
		})
	}
}

func TestJKS_SaysThatAKeyIsUnderAnotherPassword(t *testing.T) {
	data := bytes.Clone(fileIn(t, "testdata", "keytool.jks"))
	refused(t, append([]byte{0xce, 0xce, 0xce, 0xce}, data[4:]...), bundle.Options{Password: "changeit"}, "JCEKS")
}

// numbers makes a Java key store of numbers.
func numbers(n ...uint32) []byte {
	var b []byte
	for _, v := range append([]uint32{0xfeedfeed}, n...) {
		b = binary.BigEndian.AppendUint32(b, v)
	}
	return b
}

func TestJKS_DoesNotBelieveWhatAStoreClaims(t *testing.T) {
	entry := func(tail ...uint32) []byte {
		// One entry with an empty alias and a time of 0, then what is claimed of it.
		b := append(numbers(2, 1, 1), 0, 0)
		for _, v := range append([]uint32{0, 0}, tail...) {
			b = binary.BigEndian.AppendUint32(b, v)
		}
		return append(b, make([]byte, 40)...)
	}
	for name, data := range map[string][]byte{
		"a key of 4 GiB":            entry(0xffffffff),
		"4 billion certificates":    entry(0, 0xffffffff),
		"a certificate of 4 GiB":    entry(0, 1, 0xffff, 0xffffffff),
		"4 billion entries":         numbers(2, 0xffffffff),
		"cut off":                   fileIn(t, "testdata", "keytool.jks")[:1000],
		"something behind its end":  append(bytes.Clone(fileIn(t, "testdata", "keytool.jks")), 0),
		"another version":           numbers(3, 0, 0, 0, 0, 0, 0),
		"nothing but the beginning": numbers(),
	} {
		t.Run(name, func(t *testing.T) {
			refused(t, data, bundle.Options{Password: "changeit", Keys: true}, "Java key store")
		})
	}
}

func TestPKCS12_WouldNotBeHashedForHours(t *testing.T) {
	_, _, www := hierarchy(t, "www.example.com")
	dir := openssl(t, map[string]string{"key.pem": www.keyPEM(t), "cert.pem": www.pem()},
		"pkcs12", "-export", "-inkey", "key.pem", "-in", "cert.pem", "-iter", "5000", "-passout", "pass:secret", "-out", "out.p12")
	data := fileIn(t, dir, "out.p12")
	few, err := asn1.Marshal(5000)
	if err != nil {
		t.Fatal(err)
	}
	if n := bytes.Count(data, few); n < 3 {
		t.Fatalf("5000 iterations are in the file %d times", n)
	}
	// Two bytes that say 5000 are in the file for the certificates, for the key and for the digest; each by itself is made the
	// most that two bytes can say, times what the limit allows.
	at := 0
	for i := 0; ; i++ {
		n := bytes.Index(data[at:], few)
		if n < 0 {
			break
		}
		at += n + len(few)
		dear := dearer(t, data, at-len(few), len(few))
		begun := make(chan error, 1)
		go func() {
			_, err := bundle.Read(dear, bundle.Options{Password: "secret"})
			begun <- err
		}()
		if err := <-begun; fault.CodeOf(err) != fault.Invalid || !strings.Contains(err.Error(), "hashed more than") {
			t.Errorf("the %d. number of iterations: %v", i+1, err)
		}
	}
}

// dearer replaces the number of iterations at a place by two billion, and mends the lengths around it.
func dearer(t *testing.T, der []byte, at, length int) []byte {
	t.Helper()
	many, err := asn1.Marshal(2_000_000_000)
	if err != nil {
		t.Fatal(err)
	}
	return mend(t, der, 0, at, length, many)
}

// mend rewrites a value that begins at offset in the file, so that what is at a place within it is replaced.
func mend(t *testing.T, der []byte, offset, at, length int, by []byte) []byte {
	t.Helper()
	var out []byte
	for len(der) > 0 {
		var v asn1.RawValue
		rest, err := asn1.Unmarshal(der, &v)
		if err != nil {
			t.Fatal(err)
		}
		size := len(v.FullBytes)
		head := size - len(v.Bytes)
		switch {
		case at == offset && length == size:
			out = append(out, by...)
		case at >= offset && at < offset+size:
			v.Bytes, v.FullBytes = mend(t, v.Bytes, offset+head, at, length, by), nil
			again, err := asn1.Marshal(v)
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, again...)
		default:
			out = append(out, v.FullBytes...)
		}
		der, offset = rest, offset+size
	}
	return out
}

func TestRead_RefusesWhatIsNoFileOfOurs(t *testing.T) {
	root, _, www := hierarchy(t, "www.example.com")
	for name, tt := range map[string]struct {
		data   []byte
		format bundle.Format
		says   string
	}{
		"nothing":                    {nil, "", "is empty"},
		"text":                       {[]byte("hello"), "", "neither PEM"},
		"too large":                  {make([]byte, bundle.MaxFile+1), "", "larger than 512 KiB"},
		"PEM of something else":      {[]byte("-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n"), "", "no certificate"},
		"a malformed certificate":    {concat(root.pem(), "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"), "", "malformed, after 1 others"},
		"a key alone":                {[]byte(www.keyPEM(t)), "", "no certificate"},
		"OpenSSL's trust":            {[]byte("-----BEGIN TRUSTED CERTIFICATE-----\nAAAA\n-----END TRUSTED CERTIFICATE-----\n"), "", "openssl x509"},
		"PKCS#7":                     {[]byte("-----BEGIN PKCS7-----\nAAAA\n-----END PKCS7-----\n"), "", "openssl pkcs7"},
		"a sequence":                 {[]byte{0x30, 0x03, 0x02, 0x01, 0x03}, "", "PKCS#12"},
		"PKCS#12 that is cut off":    {fileIn(t, "testdata", "keytool.p12")[:900], "", "is cut off"},
		"PEM that is to be PKCS#12":  {concat(www.pem()), bundle.PKCS12, "PKCS#12"},
		"PKCS#12 that is to be JKS":  {fileIn(t, "testdata", "keytool.p12"), bundle.JKS, "no Java key store"},
		"JKS that is to be PEM":      {fileIn(t, "testdata", "keytool.jks"), bundle.PEM, "no certificate"},
		"what is to be another form": {concat(www.pem()), "tar", "neither PEM"},
	} {
		t.Run(name, func(t *testing.T) {
			refused(t, tt.data, bundle.Options{Format: tt.format, Keys: true, Password: "changeit"}, tt.says)
		})
	}
}

func TestRead_BoundsHowManyCertificatesAFileHolds(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	var file bytes.Buffer
	for range 501 {
		template := &x509.Certificate{Subject: pkix.Name{CommonName: "a"}, NotBefore: time.Now(), NotAfter: time.Now().Add(time.Hour)}
		der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
		if err != nil {
			t.Fatal(err)
		}
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		file.WriteString(pair{cert: cert}.pem())
	}
	if file.Len() > bundle.MaxFile {
		t.Fatalf("the file has %d bytes", file.Len())
	}
	refused(t, file.Bytes(), bundle.Options{}, "more than 500 certificates")
}

func FuzzRead(f *testing.F) {
	_, ca, www := hierarchy(f, "www.example.com")
	f.Add([]byte(www.pem()+ca.pem()+www.keyPEM(f)), "secret")
	f.Add(www.cert.Raw, "")
	f.Add(fileIn(f, "testdata", "keytool.jks"), "changeit")
	f.Add(fileIn(f, "testdata", "keytool.p12"), "changeit")
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(pair{key: rsaKey}.keyPEM(f)+www.pem()), "")
	f.Fuzz(func(t *testing.T, data []byte, password string) {
		for _, format := range []bundle.Format{"", bundle.PEM, bundle.DER, bundle.PKCS12, bundle.JKS} {
			c, err := bundle.Read(data, bundle.Options{Format: format, Password: password, Keys: true})
			if err != nil {
				if code := fault.CodeOf(err); code != fault.Invalid && code != fault.Unavailable {
					t.Errorf("%v", err)
				}
				continue
			}
			leaves, rest := c.Leaves()
			if len(leaves)+len(rest) > len(c.Certificates) {
				t.Errorf("%d leaves and %d others of %d certificates", len(leaves), len(rest), len(c.Certificates))
			}
		}
	})
}
