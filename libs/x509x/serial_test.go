package x509x_test

import (
	"math/big"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/certctl/certctl/libs/x509x"
)

func TestCanonicalSerial_ReadsWhatToolsPrint(t *testing.T) {
	tests := map[string]string{
		"7f":    "7f",
		"7F":    "7f",
		"007f":  "7f",
		"0x7F":  "7f",
		"0X7f":  "7f",
		"00:7F": "7f",
		" 7f\n": "7f",
		"0000000000000000000000000000000000000001": "1",
		"10":                    "10",
		"0":                     "0",
		"00:00":                 "0",
		strings.Repeat("f", 64): strings.Repeat("f", 64),
	}
	for in, want := range tests {
		if got, err := x509x.CanonicalSerial(in); err != nil || got != want {
			t.Errorf("CanonicalSerial(%q) = %q, %v; want %q", in, got, err, want)
		}
	}
}

func TestParseSerial_RefusesTheRest(t *testing.T) {
	tests := map[string]string{
		"": "empty", "  ": "empty", ":": "empty", "0x": "empty",
		"zz-not-hex": "hexadecimal", "-7f": "hexadecimal", "+7": "hexadecimal", "7 f": "hexadecimal", "1_0": "hexadecimal",
		"0x0x7": "hexadecimal", "é": "hexadecimal", strings.Repeat("f", 65): "more than 64 digits",
	}
	for in, want := range tests {
		_, err := x509x.ParseSerial(in)
		if err == nil {
			t.Errorf("ParseSerial(%q) was accepted", in)
			continue
		}
		wantInvalid(t, err, want)
	}
}

func TestSerial_HasOneCanonicalForm(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := new(big.Int).SetBytes(rapid.SliceOfN(rapid.Byte(), 0, 32).Draw(t, "serial"))
		canonical := x509x.SerialHex(n)
		printed := canonical
		if rapid.Bool().Draw(t, "upper") {
			printed = strings.ToUpper(printed)
		}
		printed = strings.Repeat("0", rapid.IntRange(0, 20).Draw(t, "padding")) + printed
		got, err := x509x.ParseSerial(printed)
		if err != nil || got.Cmp(n) != 0 || x509x.SerialHex(got) != canonical {
			t.Fatalf("%q reads as %v, %v", printed, got, err)
		}
	})
}

func TestNewSerial_IsPositiveAndAtMost128Bits(t *testing.T) {
	seen := map[string]bool{}
	for range 1000 {
		n := x509x.NewSerial()
		if n.Sign() <= 0 || n.BitLen() > 128 {
			t.Fatalf("serial %s", n)
		}
		seen[x509x.SerialHex(n)] = true
	}
	if len(seen) != 1000 {
		t.Errorf("%d of 1000 serials differ", len(seen))
	}
}

func FuzzParseSerial(f *testing.F) {
	for _, s := range []string{"7f", "00:7F", "0x7f", "", "zz", "-1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		n, err := x509x.ParseSerial(s)
		if err != nil {
			wantInvalid(t, err, "")
			return
		}
		canonical := x509x.SerialHex(n)
		if again, err := x509x.CanonicalSerial(canonical); err != nil || again != canonical || n.Sign() < 0 {
			t.Errorf("%q is not canonical: %q, %v", canonical, again, err)
		}
	})
}
