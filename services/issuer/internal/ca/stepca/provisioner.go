package stepca

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/id"
	"github.com/certctl/certctl/libs/x509x"
)

// tokenLife is how long a token may be used, and slack is for clocks that differ.
const (
	tokenLife = 5 * time.Minute
	slack     = time.Minute
)

// provisioner signs tokens in the name of a JWK provisioner.
type provisioner struct {
	name, root string
	signer     jose.Signer
}

// open opens the key of a provisioner, and makes sure that the CA has one of that name and key.
func (a *Authority) open(ctx context.Context, cfg Config) (*provisioner, error) {
	offered, err := a.find(ctx, cfg.Provisioner)
	if err != nil {
		return nil, err
	}
	text := bytes.TrimSpace(cfg.Key)
	if len(text) == 0 {
		if offered.EncryptedKey == "" {
			return nil, fault.InvalidFields(fault.Field{Name: "provisioner_key", Reason: "is required: the CA does not hand out this provisioner's encrypted key"})
		}
		text = []byte(offered.EncryptedKey)
	}
	key, err := decrypt(text, cfg.Password)
	if err != nil {
		return nil, err
	}
	if offered.Key.KeyID != "" && !sameKey(key, &offered.Key) {
		return nil, fault.InvalidFields(fault.Field{Name: "provisioner_key", Reason: "is not the key of provisioner " + cfg.Provisioner})
	}
	algorithm := jose.SignatureAlgorithm(offered.Key.Algorithm)
	if algorithm == "" {
		algorithm = jose.ES256
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: algorithm, Key: key.Key},
		(&jose.SignerOptions{}).WithType("JWT").WithHeader("kid", offered.Key.KeyID))
	if err != nil {
		return nil, fault.Wrap(err, fault.Invalid, "the key of provisioner %s cannot sign", cfg.Provisioner)
	}
	return &provisioner{name: cfg.Provisioner, root: x509x.Fingerprint(a.root.Raw), signer: signer}, nil
}

// offer is a provisioner as the CA shows it.
type offer struct {
	Type         string          `json:"type"`
	Name         string          `json:"name"`
	Key          jose.JSONWebKey `json:"key"`
	EncryptedKey string          `json:"encryptedKey"`
}

// find looks through the CA's provisioners, which come in pages.
func (a *Authority) find(ctx context.Context, name string) (offer, error) {
	cursor := ""
	for {
		var page struct {
			Provisioners []json.RawMessage `json:"provisioners"`
			Next         string            `json:"nextCursor"`
		}
		if err := a.api.call(ctx, http.MethodGet, "/provisioners?limit=100&cursor="+url.QueryEscape(cursor), nil, &page); err != nil {
			return offer{}, err
		}
		for _, text := range page.Provisioners {
			var kind struct{ Type, Name string }
			if err := json.Unmarshal(text, &kind); err != nil || kind.Name != name {
				continue
			}
			if kind.Type != "JWK" {
				return offer{}, fault.InvalidFields(fault.Field{Name: "provisioner", Reason: "is of type " + kind.Type + "; one of type JWK is needed"})
			}
			var found offer
			if err := json.Unmarshal(text, &found); err != nil {
				return offer{}, fault.Wrap(err, fault.Unavailable, "the CA's provisioner %s cannot be read", name)
			}
			return found, nil
		}
		if page.Next == "" || len(page.Provisioners) == 0 {
			return offer{}, fault.InvalidFields(fault.Field{Name: "provisioner", Reason: "the CA has none named " + name})
		}
		cursor = page.Next
	}
}

// decrypt reads a private JWK, encrypted with a password or not.
func decrypt(text, password []byte) (*jose.JSONWebKey, error) {
	bad := func(reason string) error {
		return fault.InvalidFields(fault.Field{Name: "provisioner_key", Reason: reason})
	}
	parse := jose.ParseEncryptedCompact
	if bytes.HasPrefix(text, []byte("{")) {
		parse = jose.ParseEncryptedJSON
	}
	sealed, err := parse(string(text),
		[]jose.KeyAlgorithm{jose.PBES2_HS256_A128KW, jose.PBES2_HS384_A192KW, jose.PBES2_HS512_A256KW},
		[]jose.ContentEncryption{jose.A128GCM, jose.A192GCM, jose.A256GCM, jose.A128CBC_HS256, jose.A256CBC_HS512})
	if err == nil {
		// The library refuses a key that asks for more than a million rounds of its password.
		if text, err = sealed.Decrypt(password); err != nil {
			return nil, fault.InvalidFields(fault.Field{Name: "provisioner_password", Reason: "does not open the provisioner's key"})
		}
	}
	var key jose.JSONWebKey
	if err := json.Unmarshal(text, &key); err != nil || !key.Valid() {
		return nil, bad("is neither a JWK nor an encrypted one")
	}
	if key.IsPublic() {
		return nil, bad("is a public key")
	}
	return &key, nil
}

func sameKey(private, public *jose.JSONWebKey) bool {
	own := private.Public()
	a, errA := own.MarshalJSON()
	shown := jose.JSONWebKey{Key: public.Key, KeyID: own.KeyID, Algorithm: own.Algorithm, Use: own.Use}
	b, errB := shown.MarshalJSON()
	return errA == nil && errB == nil && bytes.Equal(a, b)
}

// token is good once, for one endpoint of the CA and one subject.
func (p *provisioner) token(audience, subject string, names []string, now time.Time) (string, error) {
	claims := struct {
		jwt.Claims
		SHA  string   `json:"sha"`
		SANs []string `json:"sans,omitempty"`
	}{
		Claims: jwt.Claims{
			ID: id.New("ott-"), Issuer: p.name, Subject: subject, Audience: jwt.Audience{audience},
			IssuedAt: jwt.NewNumericDate(now), NotBefore: jwt.NewNumericDate(now.Add(-slack)), Expiry: jwt.NewNumericDate(now.Add(tokenLife)),
		},
		SHA: p.root, SANs: names,
	}
	token, err := jwt.Signed(p.signer).Claims(claims).Serialize()
	if err != nil {
		return "", attempt("sign a token for step-ca", err)
	}
	return token, nil
}
