package catest

import (
	"context"
	"crypto/x509"
	"fmt"
	"slices"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/certctl/certctl/libs/testkit/relyingparty"
	"github.com/certctl/certctl/libs/x509x"
)

// What was imported was issued elsewhere, and answers for itself.
const (
	issuedSQL = `SELECT id, issuer_id, pem_chain FROM certificate_versions WHERE NOT imported ORDER BY id`
	// The chain of a CA elsewhere is what it has shown, and may lack its root.
	// Keys that wait for their certificate have none yet; roots have certificates by older keys, one for each.
	authoritiesSQL = `SELECT id, ca_chain_pem, '' FROM issuers WHERE ca_chain_pem <> ''
UNION SELECT issuer_id, chain_pem, cross_pem FROM ca_keys WHERE chain_pem <> ''`
)

// Objections are what speaks against certificates that an issuer's database says were issued here, and against those of the
// CAs that it knows: what relying parties have against them that trust the roots of their issuers, besides others, and
// which rules of the RFCs they break, whatever their profiles forgive.
func Objections(t testing.TB, pool *pgxpool.Pool, trusted ...*x509.Certificate) []string {
	t.Helper()
	chains := recorded(t, pool, trusted)
	out := relyingparty.Objections(t, chains...)
	for _, chain := range chains {
		for _, f := range broken(chain.Served[0].Raw) {
			out = append(out, fmt.Sprintf("zlint of %s: %s", chain.Name, f))
		}
	}
	return out
}

// recorded are the chains of a database.
func recorded(t testing.TB, pool *pgxpool.Pool, trusted []*x509.Certificate) (chains []relyingparty.Chain) {
	t.Helper()
	// The context of a test that has ended but for this is done.
	ctx := context.WithoutCancel(t.Context())
	roots, crosses := map[string][]*x509.Certificate{}, map[string][]*x509.Certificate{}
	var id, issuer, chain, cross string
	each(ctx, t, pool, authoritiesSQL, []any{&issuer, &chain, &cross}, func() {
		certs := parse(t, issuer, chain)
		root := certs[len(certs)-1]
		if root.CheckSignatureFrom(root) != nil {
			return
		}
		roots[issuer] = append(roots[issuer], root)
		chains = append(chains, relyingparty.Chain{Name: "the CA of " + issuer, Served: certs, Trusted: []*x509.Certificate{root}})
		if cross != "" {
			crosses[issuer] = append(crosses[issuer], parse(t, issuer, cross)...)
		}
	})
	for issuer, certs := range crosses {
		for i := range certs {
			chains = append(chains, relyingparty.Chain{Name: "a cross certificate of " + issuer, Served: certs[i : i+1], Trusted: roots[issuer]})
		}
	}
	each(ctx, t, pool, issuedSQL, []any{&id, &issuer, &chain}, func() {
		chains = append(chains, relyingparty.Chain{
			Name: id + " of " + issuer, Served: parse(t, id, chain), Trusted: append(slices.Clip(roots[issuer]), trusted...),
		})
	})
	return chains
}

// each reads rows.
func each(ctx context.Context, t testing.TB, pool *pgxpool.Pool, sql string, into []any, do func()) {
	t.Helper()
	rows, err := pool.Query(ctx, sql)
	if err == nil {
		_, err = pgx.ForEachRow(rows, into, func() error {
			do()
			return nil
		})
	}
	if err != nil {
		t.Fatal(err)
	}
}

func parse(t testing.TB, name, chain string) []*x509.Certificate {
	t.Helper()
	certs, err := x509x.ParseCertificates([]byte(chain))
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return certs
}
