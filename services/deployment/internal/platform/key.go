// Package platform holds the key that signs orders to agents.
//
// The key is made at the first start of an installation and kept, sealed, in the
// schema. Agents pin its public half when they enrol and obey nobody else, so whoever
// holds the bus, or a leaf, can still give no order.
package platform

import (
	"context"
	"errors"
	"fmt"

	"github.com/go-json-experiment/json/v1"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/certctl/certctl/contracts/command"
	"github.com/certctl/certctl/libs/natsauth"
	"github.com/certctl/certctl/libs/secret"
)

// Key signs orders. It is safe for concurrent use.
type Key struct {
	signer natsauth.Signer
	public string
}

const (
	selectKey = `SELECT public_key, sealed_seed FROM platform_keys`
	insertKey = `INSERT INTO platform_keys (public_key, sealed_seed) VALUES ($1, $2) ON CONFLICT DO NOTHING`
)

// Open reads the key, and makes it if the installation has none. Replicas that start
// together come to the same key.
func Open(ctx context.Context, db *pgxpool.Pool, sealer *secret.Sealer) (*Key, error) {
	key, err := read(ctx, db, sealer)
	if !errors.Is(err, pgx.ErrNoRows) {
		return key, err
	}
	seed, public, err := natsauth.NewPlatformKey()
	if err != nil {
		return nil, err
	}
	sealed, err := sealer.Seal([]byte(seed), aad(public))
	if err != nil {
		return nil, fmt.Errorf("seal the platform key: %w", err)
	}
	if _, err := db.Exec(ctx, insertKey, public, sealed); err != nil {
		return nil, fmt.Errorf("store the platform key: %w", err)
	}
	return read(ctx, db, sealer)
}

func read(ctx context.Context, db *pgxpool.Pool, sealer *secret.Sealer) (*Key, error) {
	var public string
	var sealed []byte
	if err := db.QueryRow(ctx, selectKey).Scan(&public, &sealed); err != nil {
		return nil, fmt.Errorf("read the platform key: %w", err)
	}
	seed, err := sealer.Unseal(sealed, aad(public))
	if err != nil {
		return nil, fmt.Errorf("unseal the platform key: %w", err)
	}
	signer, err := natsauth.NewSigner(string(seed))
	if err != nil {
		return nil, fmt.Errorf("read the platform key: %w", err)
	}
	return &Key{signer: signer, public: public}, nil
}

// aad binds the sealed seed to its purpose and to its public half.
func aad(public string) []byte { return []byte("certctl deployment platform key v1 " + public) }

// Public is the half that agents pin, in nkey form.
func (k *Key) Public() string { return k.public }

// Sign encodes an order with its body and signs it: the JSON of a [command.Signed].
func (k *Key) Sign(c command.AgentCommand, body any) ([]byte, error) {
	// Encoded along with the rest, since a json.RawMessage would be looked through once more, and by the code that
	// encoding/json is made of from Go 1.27 on, which takes two thirds of the time and writes the same.
	payload, err := json.Marshal(struct {
		command.AgentCommand
		Body any `json:"body"`
	}{c, body})
	if err != nil {
		return nil, fmt.Errorf("encode order of job %s: %w", c.JobID, err)
	}
	signed, err := json.Marshal(command.Signed{Payload: payload, Signature: k.signer.Command(payload), KeyID: k.public})
	if err != nil {
		return nil, fmt.Errorf("encode order of job %s: %w", c.JobID, err)
	}
	return signed, nil
}
