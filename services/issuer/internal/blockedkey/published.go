package blockedkey

import (
	_ "embed"
	"encoding/pem"
	"sync"
)

//go:embed published.pem
var publishedPEM []byte

// published are keys whose private half everybody can look up, because it stands in a standard or in the tests of a widely
// used library. They come from examples that somebody has copied.
var published = sync.OnceValue(func() map[Hash]string {
	all := map[Hash]string{}
	for block, rest := pem.Decode(publishedPEM); block != nil; block, rest = pem.Decode(rest) {
		all[HashOf(block.Bytes)] = block.Headers["Source"]
	}
	return all
})
