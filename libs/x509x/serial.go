package x509x

import (
	"crypto/rand"
	"math/big"
	"strings"

	"github.com/certctl/certctl/libs/fault"
)

// RFC 5280 admits 20 octets (40 digits); certificates of the wild have had more, and must be found by them.
const maxSerialDigits = 64

// NewSerial returns a random positive serial number of 128 bits.
func NewSerial() *big.Int {
	var b [16]byte
	for {
		// crypto/rand.Read never returns an error; it ends the process instead.
		_, _ = rand.Read(b[:])
		if n := new(big.Int).SetBytes(b[:]); n.Sign() > 0 {
			return n
		}
	}
}

// SerialHex returns a serial number in its canonical form: lower-case hex without leading zeros.
func SerialHex(n *big.Int) string { return n.Text(16) }

// ParseSerial reads a serial number in hex, in whatever way tools print it: upper or lower case, padded with zeros,
// with colons, with 0x. A bare number is always taken as hex. Its errors are Invalid.
func ParseSerial(s string) (*big.Int, error) {
	digits := strings.ToLower(strings.TrimSpace(s))
	digits = strings.TrimPrefix(digits, "0x")
	digits = strings.ReplaceAll(digits, ":", "")
	if digits == "" {
		return nil, fault.New(fault.Invalid, "the serial number is empty")
	}
	if strings.Trim(digits, "0123456789abcdef") != "" {
		return nil, fault.New(fault.Invalid, "the serial number is not in hexadecimal")
	}
	digits = strings.TrimLeft(digits, "0")
	if len(digits) > maxSerialDigits {
		return nil, fault.New(fault.Invalid, "the serial number has more than %d digits", maxSerialDigits)
	}
	if digits == "" {
		return new(big.Int), nil
	}
	n, ok := new(big.Int).SetString(digits, 16)
	if !ok {
		return nil, fault.New(fault.Invalid, "the serial number is not in hexadecimal")
	}
	return n, nil
}

// CanonicalSerial returns SerialHex of what ParseSerial reads.
func CanonicalSerial(s string) (string, error) {
	n, err := ParseSerial(s)
	if err != nil {
		return "", err
	}
	return SerialHex(n), nil
}
