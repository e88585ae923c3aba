package rig

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	zx509 "github.com/zmap/zcrypto/x509"
	"github.com/zmap/zlint/v3"
	"github.com/zmap/zlint/v3/lint"

	"github.com/certctl/certctl/contracts/httpapi/client"
	"github.com/certctl/certctl/libs/testkit/relyingparty"
	"github.com/certctl/certctl/libs/x509x"
)

// HoldsUp sees that others rely on whatever the API says was issued here, and on its CAs: openssl and GnuTLS verify it up to
// the roots of the issuers and to those in Trusted, and zlint finds that it breaks no rule of the RFCs. It is asked for before
// the installation is stopped, and at the end of the story if it runs then.
func (in *Installation) HoldsUp() {
	in.t.Helper()
	begun := time.Now()
	chains, err := in.issuedInTime(context.WithoutCancel(in.t.Context()))
	if err != nil {
		in.t.Errorf("what was issued could not be looked at: %v", err)
		return
	}
	read := time.Since(begun)
	objections := append(relyingparty.OpenSSL(in.t, chains...), relyingparty.GnuTLS(in.t, spread(chains)...)...)
	for _, chain := range chains {
		objections = append(objections, broken(chain.Name, chain.Served[0])...)
	}
	for _, objection := range objections {
		in.t.Error(objection)
	}
	in.t.Logf("looked at %d certificates within %s, of which it took %s to read them", len(chains), time.Since(begun).Round(time.Millisecond), read.Round(time.Millisecond))
}

// forGnuTLS is of how many certificates certtool is asked at most: it takes a process for each. No story makes more but the one of
// the replicas, where thousands are alike.
const forGnuTLS = 500

// spread are so many of the chains, from the first to the last.
func spread(chains []relyingparty.Chain) (out []relyingparty.Chain) {
	each := max(1, (len(chains)+forGnuTLS-1)/forGnuTLS)
	for i := 0; i < len(chains); i += each {
		out = append(out, chains[i])
	}
	return out
}

// atTheEnd looks at what was issued before the first of the processes that it takes to ask goes.
func (in *Installation) atTheEnd() {
	in.t.Helper()
	in.ended.Do(func() {
		switch {
		case in.t.Failed() || in.API.Client == nil:
			// There is enough to look at, or nobody was ever asked for anything.
		case in.Running():
			in.HoldsUp()
		case !in.looked:
			in.t.Error("the installation was not stopped, and does not run: nobody has looked at what it has issued")
		}
	})
}

// answersWithin is how long a service may take to answer again that a story has left without one of its replicas.
const answersWithin = time.Minute

// issuedInTime asks again while a service is said to be away, as any client would.
func (in *Installation) issuedInTime(ctx context.Context) (chains []relyingparty.Chain, err error) {
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	ctx, cancel := context.WithTimeout(ctx, answersWithin)
	defer cancel()
	for {
		chains, err = in.issued(ctx)
		if refusal, ok := errors.AsType[*Refusal](err); !ok || refusal.Status != http.StatusServiceUnavailable {
			return chains, err
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-tick.C:
		}
	}
}

// issued are the certificates of the installation that were issued here, and those of its CAs. All roots are trusted of what is
// none: the API does not say which issuer issued what.
func (in *Installation) issued(ctx context.Context) ([]relyingparty.Chain, error) {
	chains, trusted, err := in.authorities(ctx)
	if err != nil {
		return nil, err
	}
	all, err := in.Certificates(ctx)
	if err != nil {
		return nil, err
	}
	for i := range all {
		versions, err := in.versions(ctx, all[i].ID)
		if err != nil {
			return nil, err
		}
		for _, v := range versions {
			if Value(v.Imported) {
				continue
			}
			served, err := x509x.ParseCertificates([]byte(v.PemChain))
			if err != nil {
				return nil, fmt.Errorf("version %s: %w", v.ID, err)
			}
			chains = append(chains, relyingparty.Chain{Name: v.ID + " of " + all[i].ID, Served: served})
		}
	}
	for i := range chains {
		if chains[i].Trusted == nil {
			chains[i].Trusted = trusted
		}
	}
	return chains, nil
}

// authorities are the certificates of the issuers' CAs, and the roots among them, besides others that are trusted.
func (in *Installation) authorities(ctx context.Context) (chains []relyingparty.Chain, roots []*x509.Certificate, err error) {
	issuers, err := Read[client.IssuerList](in.ListIssuers(ctx, &client.ListIssuersParams{PerPage: new(500)}))
	if err != nil {
		return nil, nil, err
	}
	roots = slices.Clone(in.Trusted)
	seen := map[string]bool{"": true}
	for i := range issuers.Data {
		shown := []string{Value(issuers.Data[i].CaChainPem)}
		if issuers.Data[i].Type == "GenericCA" {
			keys, err := Read[client.IssuerKeyList](in.ListIssuerKeys(ctx, issuers.Data[i].ID))
			if err != nil {
				return nil, nil, err
			}
			for _, k := range keys.Data {
				shown = append(shown, Value(k.CaChainPem), Value(k.CrossCertificatePem))
			}
		}
		for _, text := range shown {
			if seen[text] {
				continue
			}
			seen[text] = true
			chain, err := x509x.ParseCertificates([]byte(text))
			if err != nil {
				return nil, nil, fmt.Errorf("the CA of %s: %w", issuers.Data[i].ID, err)
			}
			shows := relyingparty.Chain{Name: "the CA of " + issuers.Data[i].ID, Served: chain}
			if top := chain[len(chain)-1]; top.CheckSignatureFrom(top) == nil {
				// Of several roots of its name GnuTLS would ask the first only: they name no key that signed them.
				shows.Trusted = []*x509.Certificate{top}
				roots = append(roots, top)
			}
			chains = append(chains, shows)
		}
	}
	return chains, roots, nil
}

func (in *Installation) versions(ctx context.Context, certificateID string) (all []client.CertificateVersion, err error) {
	p := &client.ListCertificateVersionsParams{PerPage: new(500)}
	for {
		list, err := Read[client.CertificateVersionList](in.ListCertificateVersions(ctx, certificateID, p))
		if err != nil {
			return nil, err
		}
		all = append(all, list.Data...)
		if list.NextCursor == nil {
			return all, nil
		}
		p.Cursor = list.NextCursor
	}
}

// rfcs are the rules of the RFCs. The product's own choice of them is not asked.
var rfcs = sync.OnceValues(func() (lint.Registry, error) {
	return lint.GlobalRegistry().Filter(lint.FilterOptions{IncludeSources: lint.SourceList{
		lint.RFC3279, lint.RFC5280, lint.RFC5480, lint.RFC5891, lint.RFC6962, lint.RFC8813,
	}})
})

// broken are the rules of the RFCs that a certificate breaks.
func broken(name string, c *x509.Certificate) (out []string) {
	rules, err := rfcs()
	if err != nil {
		return []string{err.Error()}
	}
	parsed, err := zx509.ParseCertificate(c.Raw)
	if err != nil {
		return []string{fmt.Sprintf("zlint of %s, %s: %v", name, c.Subject, err)}
	}
	for rule, result := range zlint.LintCertificateEx(parsed, rules).Results {
		if result.Status >= lint.Error {
			out = append(out, fmt.Sprintf("zlint of %s, %s: %s %s", name, c.Subject, rule, result.Details))
		}
	}
	return out
}
