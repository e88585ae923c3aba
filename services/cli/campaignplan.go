package cli

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/certctl/certctl/contracts/httpapi/client"
)

// campaignFlags are the flags by which a campaign is described.
type campaignFlags struct {
	issuer, caKey, caFingerprint, caCert, profile, algorithm, q, toIssuer, toProfile string
	keySize, canary, waveSize, maxFailures, maxPercent, inFlight                     int
	pause, serveWithin                                                               time.Duration
	rehearsal, reuseCSR                                                              bool
	canaryIDs                                                                        []string
}

func (f *campaignFlags) add(flags *flag.FlagSet) {
	flags.StringVar(&f.issuer, "issuer-id", "", "certificates that this issuer issued")
	flags.StringVar(&f.caCert, "ca-cert", "", "certificates signed by the key of the CA whose certificate is in this file, in PEM")
	flags.StringVar(&f.caFingerprint, "ca-fingerprint", "", "the same by the SHA-256 fingerprint of that certificate")
	flags.StringVar(&f.caKey, "ca-key", "", "certificates signed by the CA key with this authority key identifier, in hex")
	flags.StringVar(&f.profile, "profile-id", "", "certificates of this profile")
	flags.StringVar(&f.algorithm, "key-algorithm", "", "certificates with a key of this kind: RSA, ECDSA or Ed25519")
	flags.IntVar(&f.keySize, "key-size", 0, "certificates with a key of so many bits")
	flags.StringVar(&f.q, "q", "", searchHelp+"; true is all")
	flags.StringVar(&f.toIssuer, "to-issuer", "", "the issuer that they get")
	flags.StringVar(&f.toProfile, "to-profile", "", "the profile that they get")
	flags.BoolVar(&f.rehearsal, "rehearsal", false, "go through everything but the signing, and change nothing")
	flags.BoolVar(&f.reuseCSR, "reuse-csr", false, "have certificates whose requesters hold the keys issued again with the same request and key")
	flags.IntVar(&f.canary, "canary", -1, "how many are issued and served before anything else begins (default a hundredth, 1 to 10)")
	flags.Func("canary-id", "a certificate for the canary; may be given again", func(v string) error { f.canaryIDs = append(f.canaryIDs, v); return nil })
	flags.IntVar(&f.waveSize, "wave-size", 0, "how many a wave has behind the canary; 0 is all")
	flags.DurationVar(&f.pause, "pause", 0, "how long to wait between waves, such as 10m")
	flags.IntVar(&f.maxFailures, "max-failures", -1, "stop when more fail")
	flags.IntVar(&f.maxPercent, "max-failure-percent", -1, "stop when a larger share of those that have ended fails (default 10)")
	flags.IntVar(&f.inFlight, "in-flight", 0, "how many may be under way (default 500)")
	flags.DurationVar(&f.serveWithin, "serve-within", 0, "how long targets have to serve a new certificate before it counts as failed (default 1h)")
	for _, unless := range []string{"canary", "max-failures", "max-failure-percent"} {
		flags.Lookup(unless).DefValue = "0" // help must not show what stands for not given
	}
}

// body is the request that the flags make.
func (f *campaignFlags) body(name string) (client.CampaignCreate, error) {
	b := client.CampaignCreate{
		Name: name, ToIssuerID: optional[string](f.toIssuer), ToProfileID: optional[string](f.toProfile),
		Rehearsal: &f.rehearsal, ReuseCsr: &f.reuseCSR,
		Selection: client.CampaignSelection{
			IssuerID: optional[string](f.issuer), AuthorityKeyID: optional[string](f.caKey), CaFingerprintSha256: optional[string](f.caFingerprint),
			CertificateProfileID: optional[string](f.profile), KeyAlgorithm: optional[client.CampaignSelectionKeyAlgorithm](f.algorithm),
			Q: optional[string](f.q),
		},
	}
	if f.caCert != "" {
		text, err := os.ReadFile(f.caCert)
		if err != nil {
			return b, fmt.Errorf("read the CA certificate: %w", err)
		}
		block, _ := pem.Decode(text)
		if block == nil || block.Type != "CERTIFICATE" {
			return b, fmt.Errorf("%s holds no certificate in PEM", f.caCert)
		}
		sum := sha256.Sum256(block.Bytes)
		b.Selection.CaFingerprintSha256 = optional[string](hex.EncodeToString(sum[:]))
	}
	for _, n := range []struct {
		given, unless int
		to            **int
	}{
		{f.keySize, 0, &b.Selection.KeySize},
		{f.waveSize, 0, &b.WaveSize},
		{f.maxFailures, -1, &b.MaxFailures},
		{f.maxPercent, -1, &b.MaxFailurePercent},
		{f.inFlight, 0, &b.InFlight},
	} {
		if n.given != n.unless {
			*n.to = &n.given
		}
	}
	if f.pause < 0 || f.serveWithin < 0 {
		return b, errors.New("--pause and --serve-within are no less than nothing")
	}
	if f.pause > 0 {
		seconds := int(f.pause.Round(time.Second).Seconds())
		b.PauseBetweenSeconds = &seconds
	}
	if f.serveWithin > 0 {
		seconds := int(f.serveWithin.Round(time.Second).Seconds())
		b.ServeWithinSeconds = &seconds
	}
	if len(f.canaryIDs) > 0 || f.canary >= 0 {
		b.Canary = &client.CampaignCanary{}
	}
	if len(f.canaryIDs) > 0 {
		b.Canary.Ids = &f.canaryIDs
	}
	if f.canary >= 0 {
		b.Canary.Count = &f.canary
	}
	return b, nil
}

func (s *session) printPlan(p client.CampaignPlan) error {
	fmt.Fprintf(s.Out, "%d certificates are chosen; %d would be re-issued, %d would fail, %d would be skipped.\n", p.Total, p.WouldIssue, p.WouldFail, p.WouldSkip)
	waves := make([]string, 0, len(p.Waves))
	for i, n := range p.Waves {
		if i == 3 && len(p.Waves) > 6 {
			waves = append(waves, "...", strconv.Itoa(p.Waves[len(p.Waves)-1])+fmt.Sprintf(" (%d waves)", len(p.Waves)))
			break
		}
		waves = append(waves, strconv.Itoa(n))
	}
	if len(waves) > 0 {
		fmt.Fprintf(s.Out, "Waves: %s, of which the canary has %d. It would take about %s.\n", strings.Join(waves, " + "), p.Canary, seconds(p.EstimatedSeconds))
	}
	rows := [][]string{}
	for _, of := range []struct {
		what string
		n    map[string]int
	}{
		{"issued by", p.ByIssuer},
		{"CA key", p.ByCaKey},
		{"key", p.ByKey},
		{"owner", p.ByOwner},
		{"team", p.ByTeam},
		{"environment", p.ByEnvironment},
		{"refused", p.RefusedBy},
		{"to be told", p.KeyHolders},
	} {
		most := slices.SortedFunc(maps.Keys(of.n), func(a, b string) int { return cmp.Or(of.n[b]-of.n[a], strings.Compare(a, b)) })
		for _, name := range most[:min(len(most), 10)] {
			rows = append(rows, []string{of.what, name, strconv.Itoa(of.n[name])})
		}
	}
	for _, cost := range p.Costs {
		budget := "no limit"
		if cost.Budget.RateLimit != nil && cost.Budget.RateWindowSeconds != nil {
			budget = fmt.Sprintf("%d in %s", *cost.Budget.RateLimit, seconds(*cost.Budget.RateWindowSeconds))
		}
		rows = append(rows, []string{"requests to", cost.IssuerID + " (" + budget + ", at least " + seconds(cost.AtLeastSeconds) + ")", strconv.Itoa(cost.Requests)})
	}
	if len(rows) > 0 {
		fmt.Fprintln(s.Out)
		if err := s.table([]string{"BY", "", "CERTIFICATES"}, rows); err != nil {
			return err
		}
	}
	for _, r := range p.Refusals[:min(len(p.Refusals), 10)] {
		fmt.Fprintf(s.Out, "refused: %s: %s\n", harmless(r.CertificateID), harmless(r.Reason))
	}
	for _, w := range p.Warnings {
		fmt.Fprintf(s.Out, "warning: %s\n", harmless(w))
	}
	return nil
}

func seconds(n float64) string {
	d := time.Duration(n * float64(time.Second))
	if d > time.Minute {
		return d.Round(time.Second).String()
	}
	return d.Round(10 * time.Millisecond).String()
}
