package bundle

import (
	"encoding/asn1"
	"encoding/binary"
	"time"

	"github.com/certctl/certctl/libs/fault"
)

const (
	// maxIterations bounds how often a file has its password hashed, for all that is in it: some ten times what tools do that are
	// careful, and a few seconds.
	maxIterations = 15_000_000
	// maxDepth is more than PKCS #12 nests.
	maxDepth = 24
)

// cost is how many iterations of derivations of keys a file has asked for so far.
type cost int64

// of adds what a structure in DER asks for, and refuses it if that is too much. In each derivation that PKCS #12 and PKCS #8 know
// (PBKDF2 of RFC 8018, PBE and MacData of RFC 7292), the salt, an octet string, stands before the number of iterations. It
// cannot see what is encrypted: keysInSight is for that.
func (c *cost) of(der []byte, depth int) error {
	if depth > maxDepth {
		return refuse("is nested too deeply")
	}
	salt := false
	for len(der) > 0 {
		var v asn1.RawValue
		rest, err := asn1.Unmarshal(der, &v)
		if err != nil {
			// What holds no DER holds no parameters either.
			return nil
		}
		universal := v.Class == asn1.ClassUniversal
		if salt && universal && v.Tag == asn1.TagInteger && !c.add(v.Bytes) {
			return refuse("would have its password hashed more than %d times; convert it with fewer iterations", maxIterations)
		}
		if v.IsCompound || universal && v.Tag == asn1.TagOctetString {
			if err := c.of(v.Bytes, depth+1); err != nil {
				return err
			}
		}
		// By the tag alone, as those do who read it.
		salt = v.Tag == asn1.TagOctetString
		der = rest
	}
	return nil
}

// add adds the content of an INTEGER, and reports whether that can be afforded.
func (c *cost) add(content []byte) bool {
	if len(content) > 4 {
		return false
	}
	var n int64
	for _, b := range content {
		n = n<<8 | int64(b)
	}
	*c += cost(n)
	return *c <= maxIterations
}

// fits refuses a Java key store that claims more than the file holds. Whoever reads it for real allocates what it claims.
func fits(data []byte) error {
	c := claims{rest: data[4:]} // behind the magic
	version := c.number()
	if version != 1 && version != 2 {
		return refuse("is a Java key store of a version that is not known")
	}
	certificate := func() {
		if version == 2 {
			c.skip(c.short())
		}
		c.skip(c.number())
	}
	for entries := c.number(); entries > 0 && !c.broken; entries-- {
		tag := c.number()
		c.skip(c.short()) // alias
		c.skip(8)         // time
		switch tag {
		case 1:
			c.skip(c.number()) // key
			n := c.number()
			// Each takes four bytes at the least.
			if n > uint32(len(c.rest)/4) { //nolint:gosec // a file is smaller than that
				c.broken = true
			}
			for ; n > 0 && !c.broken; n-- {
				certificate()
			}
		case 2:
			certificate()
		default:
			return refuse("is a Java key store with an entry of a kind that is not known; convert it with keytool -importkeystore -deststoretype PKCS12")
		}
	}
	if c.broken || len(c.rest) != 20 {
		return refuse("is a Java key store that is cut off or damaged")
	}
	return nil
}

// claims reads lengths.
type claims struct {
	rest   []byte
	broken bool
}

func (c *claims) skip(n uint32) []byte {
	if c.broken || uint64(n) > uint64(len(c.rest)) {
		c.broken = true
		return nil
	}
	b := c.rest[:n]
	c.rest = c.rest[n:]
	return b
}

func (c *claims) number() uint32 {
	if b := c.skip(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

func (c *claims) short() uint32 {
	if b := c.skip(2); b != nil {
		return uint32(binary.BigEndian.Uint16(b))
	}
	return 0
}

const (
	// patience is how long a file may take to be opened.
	patience = 20 * time.Second
	// opened is how many files are opened at once.
	opened = 2
)

var slots = make(chan struct{}, opened)

// within runs what opens a file, which cannot be stopped: one that takes too long is given up, and its slot stays taken until it ends.
// That and a panic are for files that were made to harm.
func within(limit time.Duration, open func() error) error {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case slots <- struct{}{}:
	case <-timer.C:
		return fault.New(fault.Unavailable, "other files are being opened; try again later")
	}
	done := make(chan error, 1)
	go func() {
		err := refuse("is damaged")
		defer func() {
			// A parser's panic is no more than a file that it cannot read.
			_ = recover()
			// Before the outcome is told: whoever has it may open the next.
			<-slots
			done <- err
		}()
		err = open()
	}()
	select {
	case err := <-done:
		return err
	case <-timer.C:
		return refuse("takes longer than %s to be opened; convert it with fewer iterations", limit)
	}
}
