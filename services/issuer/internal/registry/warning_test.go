package registry_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"strings"
	"testing"
	"time"

	"github.com/certctl/certctl/libs/x509x"
	"github.com/certctl/certctl/services/issuer/internal/registry"
)

const day = 24 * time.Hour

func TestEnd_WarnsByTheNearestThresholdAndOnce(t *testing.T) {
	begins := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	ten := registry.End{Begins: begins, NotAfter: begins.Add(3650 * day), Lifetime: 398 * day}
	short := registry.End{Begins: begins, NotAfter: begins.Add(90 * day), Lifetime: 90 * day}
	told := func(n int) *int { return &n }
	for name, tt := range map[string]struct {
		end  registry.End
		left time.Duration
		told *int
		want int
		warn bool
		next int
	}{
		"far away": {ten, 1000 * day, nil, 0, false, 398},
		"when it begins to cut short what is issued": {ten, 398 * day, nil, 398, true, 365},
		"a year before":                         {ten, 365 * day, told(398), 365, true, 180},
		"of which was told":                     {ten, 364 * day, told(365), 0, false, 180},
		"first seen late":                       {ten, 20 * day, nil, 30, true, 7},
		"a week before":                         {ten, 7 * day, told(30), 7, true, 0},
		"at the end":                            {ten, 0, told(7), 0, true, -1},
		"long after the end, of which was told": {ten, -9 * day, told(0), 0, false, -1},
		"a threshold that had passed when it was begun": {short, 90*day - time.Hour, nil, 0, false, 30},
	} {
		t.Run(name, func(t *testing.T) {
			now := tt.end.NotAfter.Add(-tt.left)
			got, warn, next := tt.end.Alert(tt.told, now)
			if warn != tt.warn || warn && got != tt.want {
				t.Errorf("warns %t by %d, want %t by %d", warn, got, tt.warn, tt.want)
			}
			if want := tt.end.NotAfter.Add(-time.Duration(tt.next) * day); tt.next >= 0 && !next.Equal(want) || tt.next < 0 && !next.IsZero() {
				t.Errorf("next at %s, want %d days before the end", next, tt.next)
			}
		})
	}
}

func TestEnd_CutsShortWhatWouldOutliveIt(t *testing.T) {
	now := time.Now()
	end := registry.End{NotAfter: now.Add(90 * day), Lifetime: 90 * day}
	if end.CutsShort(now) || !end.CutsShort(now.Add(time.Second)) {
		t.Error("it is not told rightly")
	}
}

func TestAdvice_NamesCrossSignOnlyWhileTheRootCanSign(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	end := time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)
	root := &x509.Certificate{
		SerialNumber: x509x.NewSerial(), Subject: pkix.Name{CommonName: "Root"}, NotBefore: end.AddDate(-5, 0, 0), NotAfter: end,
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, root, root, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	i := registry.Issuer{ID: "iss-a", Type: registry.TypeLocal, CAChainPEM: string(x509x.EncodePEM(der))}
	for now, cross := range map[time.Time]bool{end.Add(-day): true, end: false} {
		if got := i.Advice(now); strings.Contains(got, "cross_sign") != cross || !strings.Contains(got, "/api/v1/issuers/iss-a/rollover") {
			t.Errorf("on %s: %s", now, got)
		}
	}
}
