package signer

import (
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/certctl/certctl/contracts/signer"
	"github.com/certctl/certctl/services/signer/internal/token"
)

func list(t *token.Token, out io.Writer) error {
	keys, err := t.Keys("")
	if err != nil {
		return err
	}
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "LABEL\tKIND\tID\tUSED")
	for _, key := range keys.Keys {
		used := "yes"
		if key.Objection != "" {
			used = "no: " + key.Objection
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\n", key.Label, kind(key), hex.EncodeToString(key.ID), used)
	}
	return table.Flush()
}

func generate(t *token.Token, label, algorithm string, bits int, out io.Writer) error {
	key, err := t.Generate(signer.Generate{Label: label, Algorithm: algorithm, Bits: bits})
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "made %s: %s, id %s\n", key.Label, kind(key), hex.EncodeToString(key.ID))
	return err
}

func kind(key signer.Key) string {
	pub, err := x509.ParsePKIXPublicKey(key.PublicKey)
	if err != nil {
		return "unknown"
	}
	return token.Kind(pub)
}

// version is set by the build.
var version = "dev"

// Version is the version of this build.
func Version() string { return version }
